#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| storysync_fuzz::desk_of_bytes(data));
