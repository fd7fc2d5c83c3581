//! ONNX files: the graph says which network it is, so most options have nothing to say.

use std::{fs::File, io::Read, path::Path};

use densenet_onnx::import_with_notes;
use densenet_spec::DenseNetConfig;
use densenet_weights::Model;

use super::Import;
use crate::{failure::Failure, options::onnx};

/// Whether a file is to be read as ONNX: it does not begin like a weights file, and is called `.onnx` or begins like a
/// protobuf message whose first field is the version of the format.
pub fn is_onnx(path: &Path) -> bool {
    let mut start = Vec::new();
    // A pipe would wait for its writer; whatever cannot be read is reported by who reads it in earnest.
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        let _ = file.take(9).read_to_end(&mut start);
    }
    let weights =
        start.starts_with(b"PK") || start.first() == Some(&0x80) || start.get(8) == Some(&b'{');
    !weights && (onnx::named(path) || start.first() == Some(&0x08))
}

impl Import {
    /// The model in an ONNX file, who wrote it, and what was converted.
    ///
    /// # Errors
    /// A file that cannot be used, or an option that its graph contradicts.
    pub(super) fn read_onnx(&self) -> Result<(Model, String, Vec<String>), Failure> {
        if self.dialect != "auto" {
            return Err(Failure::usage(format_args!(
                "--dialect: {} says with its graph what its tensors are — leave it out",
                self.weights.display()
            )));
        }
        let mut imported = import_with_notes(&self.weights)?;
        self.adjust(&mut imported.model)?;
        let known = &imported.model.config;
        let (input, head) = (self.new_input(known)?, self.new_head(known));
        imported.adapt(input, head)?;
        let producer = match imported.producer.as_str() {
            "" => "an unnamed program",
            known => known,
        };
        Ok((
            imported.model,
            format!("ONNX, written by {producer}"),
            imported.notes,
        ))
    }

    /// Sets what a graph cannot tell, dropout and momentum, and refuses what it does tell otherwise.
    fn adjust(&self, model: &mut Model) -> Result<(), Failure> {
        let known = &model.config;
        let mut changes = self.config.changes(known)?;
        // These two change tensors, not what the graph is.
        changes.num_classes = None;
        changes.in_channels = None;
        let wanted = changes.over(known)?;
        let allowed = DenseNetConfig {
            drop_rate: wanted.drop_rate,
            bn_momentum: wanted.bn_momentum,
            ..known.clone()
        };
        if wanted != allowed {
            return Err(Failure::usage(format_args!(
                "{}: its graph says which network it is — of the network options only --num-classes, --in-channels, \
                 --drop-rate and --bn-momentum can change it",
                self.weights.display()
            )));
        }
        model.config = wanted;
        model.check()?;
        Ok(())
    }
}
