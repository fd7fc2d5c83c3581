//! `densenet export`: a model to where PyTorch or an ONNX runtime can load it.

use std::path::{Path, PathBuf};

use clap::Args;
use densenet_onnx::export_to;
use densenet_spec::Architecture;
use densenet_weights::{DIALECTS, Exported, Model, export};

use crate::{
    failure::Failure,
    options::{
        model,
        onnx::{self, OnnxOptions},
    },
    output,
};

/// Write a model as ONNX, or its weights for PyTorch: .pth or .safetensors, in any dialect
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct Export {
    /// The model file
    model: PathBuf,
    /// The file to write; its ending, .onnx, .pth, .pt or .safetensors, is its kind
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Whose names the tensors get, but in ONNX [default: torchvision in 2-D, monai in 3-D]
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
    #[command(flatten)]
    onnx: OnnxOptions,
}

fn after_help() -> String {
    let names: Vec<_> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    format!(
        "Dialects: {}.
PyTorch loads the weights with strict=True into a network of that dialect with the same configuration.

Examples:
  densenet export model.safetensors -o model.onnx
  densenet export model.safetensors -o model.onnx --dynamic batch,spatial --softmax --fold
  densenet export model.safetensors -o fixed.onnx --dynamic none --input 96x96x64 --opset 13
  densenet export model.safetensors -o model.pth
  densenet export model.safetensors -o for-monai.pth --dialect monai",
        names.join(", ")
    )
}

/// The endings of weights files.
const ENDINGS: [&str; 3] = ["pth", "pt", "safetensors"];

/// Whether two names lead to one file.
fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

impl Export {
    /// Reads the model file, writes the other one.
    ///
    /// # Errors
    /// A model that cannot be used, an ending, dialect or option that does not fit, a file that cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        if same_file(&self.model, &self.output) {
            return Err(Failure::usage(format_args!(
                "--output: {} is the model itself, which would lose what only a model file holds — give another name",
                self.output.display()
            )));
        }
        if onnx::named(&self.output) {
            if self.dialect.is_some() {
                return Err(Failure::usage(format_args!(
                    "--dialect: the names in {} are those of the architecture — leave it out",
                    self.output.display()
                )));
            }
            return self.onnx(&model::load(&self.model)?);
        }
        let ending = self.output.extension().unwrap_or_default();
        if !ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
        {
            return Err(Failure::usage(format_args!(
                "--output: {} is no name of a weights file — end it with .onnx, .pth, .pt or .safetensors",
                self.output.display()
            )));
        }
        self.onnx.refuse(&self.output)?;
        let model = model::load(&self.model)?;
        let Exported { dialect, notes } = export(&model, &self.output, self.dialect.as_deref())?;
        for note in notes {
            output::note(&format!("note: {note}"));
        }
        output::note(&format!("wrote {}: {dialect}", self.output.display()));
        Ok(())
    }

    fn onnx(&self, model: &Model) -> Result<(), Failure> {
        let architecture = Architecture::new(&model.config)?;
        let options = self.onnx.resolve(&architecture)?;
        let length = export_to(model, &options, &self.output)?;
        output::note(&format!(
            "wrote {}: ONNX opset {}, {}, {}",
            self.output.display(),
            options.opset,
            onnx::input_shape(&architecture, &options),
            output::bytes(length),
        ));
        Ok(())
    }
}
