//! Any bytes as a picture file, then through preprocessing.
#![no_main]

use densenet_data::{Preprocessing, decode_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match decode_bytes("fuzz", bytes) {
        Ok(image) => match Preprocessing::imagenet().apply(&image) {
            Ok(prepared) => assert_eq!(prepared.data.len(), 224 * 224 * 3),
            // Very long pictures.
            Err(error) => assert_eq!(error.exit_code(), 7, "{error}"),
        },
        // `decode_bytes` contains a decoder's panic; here it counts as a find.
        Err(error) => assert!(!error.what().contains("gave up"), "{error}"),
    }
});
