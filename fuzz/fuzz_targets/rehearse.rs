#![no_main]

use redis_script_exporter::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::ignore_caught_panics(), |data: &[u8]| fuzzing::rehearse(data));
