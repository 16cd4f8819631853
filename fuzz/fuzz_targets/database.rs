#![no_main]

use libfuzzer_sys::fuzz_target;
use pgweir::config::fuzzing::fuzz_database;

fuzz_target!(|data: &[u8]| fuzz_database(data));
