#![no_main]

use libfuzzer_sys::fuzz_target;
use pgweir::sql::fuzzing::fuzz_classify;

fuzz_target!(|data: &[u8]| fuzz_classify(data));
