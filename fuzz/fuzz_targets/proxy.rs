#![no_main]

use libfuzzer_sys::fuzz_target;
use pgweir::wire::fuzzing::fuzz_proxy;

fuzz_target!(|data: &[u8]| fuzz_proxy(data));
