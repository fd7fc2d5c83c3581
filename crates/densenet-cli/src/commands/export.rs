//! `densenet export`: a model back to where PyTorch can load it.

use std::path::PathBuf;

use clap::Args;
use densenet_weights::{DIALECTS, Exported, export};

use crate::{failure::Failure, options::model, output};

/// Write a model's weights for PyTorch: .pth or .safetensors, in any dialect
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct Export {
    /// The model file
    model: PathBuf,
    /// The file to write; its ending, .pth, .pt or .safetensors, is its kind
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Whose names the tensors get [default: torchvision in 2-D, monai in 3-D]
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
}

fn after_help() -> String {
    let names: Vec<_> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    format!(
        "Dialects: {}.
PyTorch loads the file with strict=True into a network of that dialect with the same configuration.

Examples:
  densenet export model.safetensors -o model.pth
  densenet export model.safetensors -o for-monai.pth --dialect monai",
        names.join(", ")
    )
}

impl Export {
    /// Reads the model file, writes the weights.
    ///
    /// # Errors
    /// A model that cannot be used, an ending or dialect that does not fit, a file that cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        if self
            .output
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"))
        {
            return Err(Failure::usage(format_args!(
                "{}: this version does not write ONNX — end the name with .pth or .safetensors",
                self.output.display()
            )));
        }
        let model = model::load(&self.model)?;
        let Exported { dialect, notes } = export(&model, &self.output, self.dialect.as_deref())?;
        for note in notes {
            output::note(&format!("note: {note}"));
        }
        output::note(&format!("wrote {}: {dialect}", self.output.display()));
        Ok(())
    }
}
