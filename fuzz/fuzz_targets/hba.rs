#![no_main]

use libfuzzer_sys::fuzz_target;
use pgweir::auth::fuzzing::fuzz_hba;

fuzz_target!(|data: &[u8]| fuzz_hba(data));
