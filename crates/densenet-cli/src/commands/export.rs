//! `densenet export`: a model to where PyTorch or an ONNX runtime can load it.

use std::path::PathBuf;

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

impl Export {
    /// Reads the model file, writes the other one.
    ///
    /// # Errors
    /// A model that cannot be used, an ending, dialect or option that does not fit, a file that cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        if onnx::named(&self.output) {
            if self.dialect.is_some() {
                return Err(Failure::usage(format_args!(
                    "--dialect: the names in {} are those of the architecture — leave it out",
                    self.output.display()
                )));
            }
            return self.onnx(&model::load(&self.model)?);
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
