//! Damaged and hostile files: an error with the right exit code, or a sound model; never a panic.

mod common;

use std::path::Path;

use common::{generated, tiny};
use densenet_onnx::{
    ExportOptions, OnnxError, export, graph_from, import, import_from, read_graph,
};
use densenet_testkit::generate_labels;

fn file() -> Vec<u8> {
    let options = ExportOptions {
        f16: true,
        ..ExportOptions::default()
    };
    export(&generated(&tiny(2)), &options).unwrap()
}

#[track_caller]
fn sane(bytes: Vec<u8>) {
    let known = |error: &OnnxError| {
        let said = error.to_string();
        assert!([4, 7].contains(&error.exit_code()), "{said}");
        assert!(said.contains(" — ") && !said.contains('\n'), "{said}");
    };
    match import_from(bytes.clone()) {
        Ok(imported) => assert!(imported.model.check().is_ok()),
        Err(error) => known(&error),
    }
    if let Err(error) = graph_from(bytes) {
        known(&error);
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = file();
    for length in (0..whole.len()).step_by(37) {
        let error = import_from(whole[..length].to_vec()).unwrap_err();
        assert!([4, 7].contains(&error.exit_code()), "{error}");
    }
}

#[test]
fn flipped_bits_are_an_error_or_another_model() {
    let whole = file();
    let places = generate_labels(600, whole.len() * 8, 1, 0);
    for place in places {
        let mut bytes = whole.clone();
        bytes[place / 8] ^= 1 << (place % 8);
        sane(bytes);
    }
    // Where there are no weights a bit means more.
    let start = whole.len() / 3;
    for place in generate_labels(600, 4000, 2, 0) {
        for from in [0, whole.len() - 600, start] {
            let mut bytes = whole.clone();
            let last = bytes.len() - 1;
            bytes[(from + place / 8).min(last)] ^= 1 << (place % 8);
            sane(bytes);
        }
    }
}

#[test]
fn what_is_no_onnx_is_said_so() {
    for bytes in [
        &b""[..],
        b"\x08",
        b"PK\x03\x04 a zip archive",
        b"{\"json\": 1}",
        &[0; 64],
    ] {
        let error = import_from(bytes.to_vec()).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("no ONNX file"), "{error}");
    }
}

/// PyTorch's export with its tensors beside it, in a folder of its own.
fn beside(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    for file in [name.to_string(), format!("{name}.data")] {
        std::fs::copy(golden.join(&file), inner.join(&file)).unwrap();
    }
    let path = inner.join(name);
    (folder, path)
}

const NEW: &str = "torchvision-new.onnx";

/// Replaces a text in the file by another of the same length, everywhere.
fn rename(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).unwrap();
    let mut start = 0;
    while let Some(found) = bytes[start..]
        .windows(from.len())
        .position(|w| w == from.as_bytes())
    {
        bytes[start + found..][..to.len()].copy_from_slice(to.as_bytes());
        start += found + to.len();
    }
    assert!(start > 0, "{from} is not in the file");
    std::fs::write(path, bytes).unwrap();
}

#[track_caller]
fn refused(path: &Path, parts: &[&str]) {
    let error = import(path).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    let said = error.to_string();
    for part in parts.iter().chain(&[NEW, " — "]) {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    // The graph alone needs no tensors.
    assert!(read_graph(path).is_ok());
}

#[test]
fn tensors_beside_the_file_are_read() {
    let (_folder, path) = beside(NEW);
    assert!(import(&path).is_ok());
    // A link inside the folder stays inside.
    #[cfg(unix)]
    {
        let data = path.with_file_name(format!("{NEW}.data"));
        let real = path.with_file_name("real.bin");
        std::fs::rename(&data, &real).unwrap();
        std::os::unix::fs::symlink(&real, &data).unwrap();
        assert!(import(&path).is_ok());
    }
}

#[test]
fn paths_out_of_the_folder_are_refused() {
    let location = format!("{NEW}.data");
    let outside = format!("../{}", "x".repeat(location.len() - 3));
    let (folder, path) = beside(NEW);
    let secret = folder.path().join(outside.trim_start_matches("../"));
    std::fs::copy(path.with_file_name(&location), secret).unwrap();
    rename(&path, &location, &outside);
    refused(&path, &["no path inside the model's folder", "../xxx"]);

    let (_folder, path) = beside(NEW);
    let absolute = format!("/{}", "x".repeat(location.len() - 1));
    rename(&path, &location, &absolute);
    refused(&path, &["no path inside the model's folder"]);

    let (_folder, path) = beside(NEW);
    let around = format!("y/../{}", "x".repeat(location.len() - 5));
    rename(&path, &location, &around);
    refused(&path, &["no path inside the model's folder"]);
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let (folder, path) = beside(NEW);
    let data = path.with_file_name(format!("{NEW}.data"));
    let outside = folder.path().join("outside.bin");
    std::fs::rename(&data, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &data).unwrap();
    refused(&path, &["a link out of the model's folder"]);
}

#[test]
fn missing_short_and_odd_data_are_refused() {
    let (_folder, path) = beside(NEW);
    let data = path.with_file_name(format!("{NEW}.data"));
    let whole = std::fs::read(&data).unwrap();
    std::fs::write(&data, &whole[..100]).unwrap();
    refused(&path, &["which ends before its", "damaged"]);
    std::fs::remove_file(&data).unwrap();
    refused(&path, &["cannot be opened", "put it back"]);
    std::fs::create_dir(&data).unwrap();
    let error = import(&path).unwrap_err();
    assert_eq!(error.exit_code(), 5);
    // Without a folder there is nothing beside.
    let (_folder, path) = beside(NEW);
    let error = import_from(std::fs::read(&path).unwrap()).unwrap_err();
    assert!(error.to_string().contains("outside the file"), "{error}");
}
