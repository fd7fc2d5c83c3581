#![no_main]
//! Any bytes as an ONNX file: an error, or a model that passes its own check, and a graph that can be shown.
//!
//! A file whose tensors lie outside it is read once more from a folder in which the file `data` lies, whatever it says
//! about places and lengths in there.

use std::{path::PathBuf, sync::LazyLock};

use densenet_onnx::{OnnxError, Problem, graph_from, import_from, import_with_notes};
use densenet_view::{GraphDocument, page};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// The folder of the model file; `data` holds numbers between 0 and 2.
static FOLDER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder to work in");
    let numbers = (0..1u32 << 16).flat_map(|i| (i as f32 / 32768.0).to_le_bytes());
    let data = folder.path().join("data");
    std::fs::write(data, numbers.collect::<Vec<_>>()).expect("room for the data");
    let path = folder.path().join("model.onnx");
    (folder, path)
});

fn sane(error: &OnnxError) {
    let said = error.to_string();
    assert!([4, 7].contains(&error.exit_code()), "{said}");
    assert!(said.contains(" — ") && !said.contains('\n'), "{said}");
}

fuzz_target!(|data: &[u8]| {
    match import_from(data.to_vec()) {
        Ok(imported) => assert!(imported.model.check().is_ok()),
        Err(error) => {
            sane(&error);
            if matches!(error.problem, Problem::ExternalData { .. }) {
                let (_, path) = &*FOLDER;
                std::fs::write(path, data).expect("room for the model");
                match import_with_notes(path) {
                    Ok(imported) => assert!(imported.model.check().is_ok()),
                    // A place that is a folder cannot be read.
                    Err(error) if error.exit_code() == 5 => {}
                    Err(error) => sane(&error),
                }
            }
        }
    }
    match graph_from(data.to_vec()) {
        Ok(graph) => {
            if let Ok(document) = GraphDocument::of("model.onnx", "fuzzed", &graph) {
                assert!(page::graph(&document).ends_with("</html>\n"));
            }
        }
        Err(error) => sane(&error),
    }
});
