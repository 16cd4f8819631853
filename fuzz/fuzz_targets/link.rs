#![no_main]

use libfuzzer_sys::fuzz_target;
use pgweir::flow::fuzzing::fuzz_link;

fuzz_target!(|data: &[u8]| fuzz_link(data));
