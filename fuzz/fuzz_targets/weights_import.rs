#![no_main]
//! Any bytes as a weights file: an error, or a model that passes its own check.

use std::io::Cursor;

use densenet_weights::{ImportOptions, import_from};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let options = ImportOptions::default();
    match import_from(&mut Cursor::new(data), data.len() as u64, &options) {
        Ok(found) => assert!(found.model.check().is_ok()),
        Err(error) => assert!([2, 4, 7].contains(&error.exit_code()), "{error}"),
    }
});
