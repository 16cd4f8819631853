#![no_main]

use libfuzzer_sys::fuzz_target;
use pgweir::wire::fuzzing::fuzz_startup;

fuzz_target!(|data: &[u8]| fuzz_startup(data));
