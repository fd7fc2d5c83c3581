//! From a model to an ONNX file.

mod graph;
mod metadata;
mod opset;
mod tensors;

use std::path::Path;

use densenet_spec::Architecture;
use densenet_weights::{Model, atomic};
use prost::Message;

use crate::{
    error::{OnnxError, Problem},
    proto::{ModelProto, OperatorSetIdProto},
};

pub use opset::{DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET};

/// What the file should look like.
///
/// The default leaves batch and size of the input open, takes opset 17, keeps every norm and stores f32.
///
/// ```
/// use densenet_onnx::ExportOptions;
///
/// let fixed = ExportOptions { batch: Some(1), spatial: Some([1, 224, 224]), ..ExportOptions::default() };
/// assert_eq!(fixed.opset, 17);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// Version of the operators, [`OLDEST_OPSET`] to [`NEWEST_OPSET`].
    pub opset: i64,
    /// Samples in a batch; none leaves them open, as the symbol `batch`.
    pub batch: Option<usize>,
    /// The input's `[depth, height, width]`, depth 1 in 2-D; none leaves it open, as the symbols `depth`, `height`,
    /// `width`.
    pub spatial: Option<[usize; 3]>,
    /// Name of the input.
    pub input_name: String,
    /// Name of the output; none for `logits`, or `probabilities` with [`softmax`](Self::softmax).
    pub output_name: Option<String>,
    /// Whether a softmax over the classes ends the network.
    pub softmax: bool,
    /// Whether a batch norm that follows a convolution at once (norm0, every norm2) becomes part of it.
    pub fold: bool,
    /// Whether the weights of convolutions and classifier are stored in half precision. Computation stays in f32: each
    /// weight passes a `Cast` before it is used.
    pub f16: bool,
    /// The model's own version, for whoever serves it.
    pub model_version: i64,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions {
            opset: DEFAULT_OPSET,
            batch: None,
            spatial: None,
            input_name: "input".to_string(),
            output_name: None,
            softmax: false,
            fold: false,
            f16: false,
            model_version: 1,
        }
    }
}

impl ExportOptions {
    /// The name that the output gets.
    pub fn output(&self) -> &str {
        match &self.output_name {
            Some(name) => name,
            None if self.softmax => "probabilities",
            None => "logits",
        }
    }
}

/// The bytes of an ONNX file.
///
/// Every intermediate value has a `value_info` with its type and shape; open sizes keep their names and what windows make
/// of them, like `(height + 3)//32`. Nodes are called as the architecture's layers, `/features/denseblock1/denselayer1/conv1`,
/// and so are the values they compute; tensors have torchvision's names. Dropout is left out: it does nothing outside
/// training.
///
/// # Errors
/// An unsound model; an option that cannot be carried out (exit code 2); weights beyond the 2 GiB of a protobuf message
/// (exit code 7).
pub fn export(model: &Model, options: &ExportOptions) -> Result<Vec<u8>, OnnxError> {
    let architecture = model.check()?;
    check(&architecture, options)?;
    let bytes_each = if options.f16 { 2 } else { 4 };
    fits_message(model.state.num_elements() as u64 * bytes_each)?;
    let proto = ModelProto {
        ir_version: Some(opset::ir_version(options.opset)),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(options.opset),
        }],
        producer_name: Some(metadata::PRODUCER.to_string()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_string()),
        model_version: Some(options.model_version),
        doc_string: Some(metadata::description(&architecture, model, options)),
        graph: Some(graph::build(&architecture, model, options)?),
        metadata_props: metadata::pairs(model, options)?,
        ..Default::default()
    };
    fits_message(proto.encoded_len() as u64)?;
    Ok(proto.encode_to_vec())
}

/// Writes the ONNX file at `path`, atomically; returns its length in bytes.
///
/// # Errors
/// As [`export`], or what the system reports.
pub fn export_to(model: &Model, options: &ExportOptions, path: &Path) -> Result<u64, OnnxError> {
    let bytes = export(model, options)?;
    atomic::write(path, |out| out.write_all(&bytes))?;
    Ok(bytes.len() as u64)
}

fn check(architecture: &Architecture, options: &ExportOptions) -> Result<(), OnnxError> {
    opset::check(options.opset)?;
    if let Some(spatial) = options.spatial {
        architecture.trace(spatial).map_err(|error| {
            OnnxError::usage(
                "input",
                format!("{} does not work", error.value),
                error.reason,
            )
        })?;
    }
    let most = i32::MAX as usize;
    if let Some(batch) = options.batch.filter(|batch| !(1..=most).contains(batch)) {
        let cure = format!("give 1 to {most}, or leave it open");
        return Err(OnnxError::usage(
            "batch",
            format!("{batch} does not work"),
            cure,
        ));
    }
    for (option, name) in [
        ("input-name", options.input_name.as_str()),
        ("output-name", options.output()),
    ] {
        // The other values' names begin with a slash, the tensors' are torchvision's.
        let taken = name.starts_with('/')
            || name.starts_with("features.")
            || name.starts_with("classifier.")
            || name.chars().any(char::is_control);
        if name.is_empty() || taken {
            let what = format!("`{}` cannot be the name", crate::error::printable(name));
            let cure = "give a word that is no part of the network, like input or logits";
            return Err(OnnxError::usage(option, what, cure));
        }
    }
    if options.input_name == options.output() {
        let what = format!(
            "`{}` is the input's name",
            crate::error::printable(options.output())
        );
        return Err(OnnxError::usage(
            "output-name",
            what,
            "give two different names",
        ));
    }
    Ok(())
}

/// A protobuf message is shorter than 2 GiB, and what is longer no program reads.
fn fits_message(length: u64) -> Result<(), OnnxError> {
    let limit = i32::MAX as u64;
    if length <= limit {
        return Ok(());
    }
    Err(Problem::Limit {
        what: "the ONNX file's bytes".to_string(),
        found: length,
        limit,
        cure: "an ONNX file ends at 2 GiB; --f16 halves the weights, a smaller growth_rate makes fewer",
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_gibibytes_are_the_end() {
        assert!(fits_message(i32::MAX as u64).is_ok());
        let error = fits_message(1 << 31).unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert!(error.to_string().contains("--f16"), "{error}");
    }
}
