//! The argument `PRESET|MODEL`.

use std::path::{Path, PathBuf};

use densenet_spec::{PRESETS, Preset, closest};

use densenet_weights::{Model, OpenModel};

use crate::failure::{Failure, IO, MODEL};

/// What `PRESET|MODEL` means.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A published network, without weights.
    Preset(Preset),
    /// A model file.
    File(PathBuf),
}

impl Source {
    /// A preset's name, or else an existing file's path.
    ///
    /// # Errors
    /// Neither: names the likely preset (exit code 2), or the missing file where it looks like a path (5).
    pub fn find(name: &str) -> Result<Self, Failure> {
        if let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) {
            return Ok(Source::Preset(*preset));
        }
        let path = Path::new(name);
        if path.exists() {
            return Ok(Source::File(path.to_path_buf()));
        }
        if path.extension().is_some() || path.components().count() > 1 {
            return Err(Failure::new(
                IO,
                format_args!("{name}: no such file — check the path"),
            ));
        }
        let names = || PRESETS.iter().map(|preset| preset.name);
        let hint = match closest(name, names()) {
            Some(likely) => format!("did you mean {likely}?"),
            None => format!("the presets are {}", names().collect::<Vec<_>>().join(", ")),
        };
        Err(Failure::usage(format_args!(
            "{name}: neither a preset nor a file — {hint}"
        )))
    }
}

/// Reads a model file.
///
/// # Errors
/// Whatever is wrong with the file; PyTorch's and ONNX files are told apart from damaged ones.
pub fn load(path: &Path) -> Result<Model, Failure> {
    no_other_kind(path)?;
    Ok(Model::load(path)?)
}

/// Opens a model file, leaving its kernels there until they are needed.
///
/// # Errors
/// As [`load`].
pub fn open(path: &Path) -> Result<OpenModel, Failure> {
    no_other_kind(path)?;
    Ok(OpenModel::open(path)?)
}

/// Refuses files whose names say that they are something else.
fn no_other_kind(path: &Path) -> Result<(), Failure> {
    let named = |endings: &[&str]| {
        let ending = path.extension().unwrap_or_default();
        endings.iter().any(|e| ending.eq_ignore_ascii_case(e)) && path.is_file()
    };
    let foreign = if named(&["pth", "pt"]) {
        Some("a PyTorch file")
    } else if named(&["onnx"]) {
        Some("an ONNX file")
    } else {
        None
    };
    if let Some(kind) = foreign {
        return Err(Failure::new(
            MODEL,
            format_args!(
                "{0}: {kind}, not a model file — make one with `densenet import {0} -o MODEL`",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// `densenet121`, `densenet161`, … for help texts.
pub fn preset_list() -> String {
    let mut text = String::from("Presets:\n");
    for preset in PRESETS {
        text.push_str(&format!("  {:<20} {}\n", preset.name, preset.about));
    }
    text
}
