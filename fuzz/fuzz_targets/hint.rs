#![no_main]

use libfuzzer_sys::fuzz_target;
use pgweir::route::fuzzing::fuzz_hint;

fuzz_target!(|data: &[u8]| fuzz_hint(data));
