#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    gst_e2ee_fuzz::breakglass::run(bytes);
});
