#![no_main]
//! Any bytes as an ONNX file: an error, or a model that passes its own check and a graph that can be shown.

use densenet_onnx::{graph_from, import_from};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match import_from(data.to_vec()) {
        Ok(imported) => assert!(imported.model.check().is_ok()),
        Err(error) => assert!([4, 7].contains(&error.exit_code()), "{error}"),
    }
    if let Err(error) = graph_from(data.to_vec()) {
        assert!([4, 7].contains(&error.exit_code()), "{error}");
    }
});
