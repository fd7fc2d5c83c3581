//! From an ONNX file to a model.
//!
//! 1. [`operations`] reads the nodes one by one, refuses what no DenseNet has, and reduces the rest to a list: what a
//!    layer computes, and which earlier operations' channels it reads, in which order. Concatenations, copies, casts and
//!    the arithmetic on shapes are gone by then, so it does not matter whether a block concatenates at every layer
//!    (MONAI) or all at once (torchvision).
//! 2. [`infer`] says which network that list can be at all.
//! 3. [`assemble`] walks that network's architecture beside the list. Every operation has to be the next layer, down to
//!    padding and the order of channels; only then are its tensors read.

mod assemble;
mod attributes;
mod constants;
mod infer;
mod operations;
mod shapes;
#[cfg(test)]
mod tests;

use std::path::Path;

use densenet_spec::Architecture;
use densenet_weights::{Model, NewHead, NewInput};
use prost::Message;
use serde_json::json;

use crate::{
    document::Document,
    error::{OnnxError, printable},
    proto::ModelProto,
    read::{self, Folder},
};
use assemble::Assembled;
use constants::Tensors;

/// A model read from an ONNX file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The model.
    pub model: Model,
    /// The program that wrote the file, with its version: `pytorch 2.15.0`.
    pub producer: String,
    /// What was converted, unfolded or left out, one sentence each.
    pub notes: Vec<String>,
}

impl Imported {
    /// Changes the network's two ends as [`Model::adapt`], and notes it where a foreign graph's changes are kept.
    ///
    /// # Errors
    /// As [`Model::adapt`].
    pub fn adapt(
        &mut self,
        input: Option<NewInput>,
        head: Option<NewHead>,
    ) -> Result<(), OnnxError> {
        self.notes.extend(self.model.adapt(input, head)?);
        if let Some(provenance) = &mut self.model.provenance
            && provenance.get(FORMAT).is_some()
        {
            provenance["notes"] = json!(self.notes);
        }
        Ok(())
    }
}

/// Reads a model from the ONNX file at `path`; what was converted on the way, [`import_with_notes`] says.
///
/// # Errors
/// A file that cannot be read, or whose graph is not a DenseNet's: the node that does not fit is named.
pub fn import(path: &Path) -> Result<Model, OnnxError> {
    Ok(import_with_notes(path)?.model)
}

/// Reads a model from the ONNX file at `path`: one of this program's exports or of PyTorch's, of a torchvision or MONAI
/// DenseNet or any network of the same structure, with its batch norms folded into convolutions or not.
///
/// # Numerics
/// Tensors come back bit by bit, except that a folded norm comes back as one that scales by 1 and adds the convolution's
/// bias.
///
/// # Errors
/// As [`import`].
pub fn import_with_notes(path: &Path) -> Result<Imported, OnnxError> {
    let at = |error: OnnxError| error.at(path);
    let proto = read::model(path).map_err(at)?;
    let mut imported = finish(&proto, Folder::of(path)).map_err(at)?;
    if let Some(provenance) = &mut imported.model.provenance
        && provenance.get(FORMAT).is_some()
    {
        provenance["imported_from"] = path.file_name().map(|name| name.to_string_lossy()).into();
    }
    Ok(imported)
}

/// Reads a model from an ONNX file's content; tensors stored beside the file are refused. Otherwise as
/// [`import_with_notes`].
///
/// # Errors
/// As [`import`], without a path.
pub fn import_from(content: Vec<u8>) -> Result<Imported, OnnxError> {
    finish(&read::decode(content.into())?, Folder::none())
}

/// The key by which the provenance of a foreign graph is known.
const FORMAT: &str = "onnx_producer";
/// What the oldest graphs mean by a batch norm differs.
const OLDEST: i64 = 9;

fn finish(proto: &ModelProto, folder: Folder) -> Result<Imported, OnnxError> {
    let opset = read::opset(proto);
    if opset < OLDEST {
        return Err(OnnxError::unsupported(
            format!("it uses opset {opset}, and {OLDEST} is the oldest that can be imported"),
            "export it again with a newer opset",
        ));
    }
    let document = Document::read(&proto.metadata_props)?;
    let graph = operations::read(proto)?;
    let config = match &document {
        // The walk below holds it against the graph.
        Some(document) => infer::plausible(&document.config, &graph)?,
        None => infer::infer(&graph)?,
    };
    let architecture = Architecture::new(&config).map_err(|error| {
        OnnxError::unsupported(
            format!("its graph makes no working network: {error}"),
            "check where the file comes from",
        )
    })?;
    let tensors = Tensors::new(folder, proto.encoded_len() as u64);
    let Assembled { state, mut notes } = assemble::assemble(&architecture, &graph, tensors)?;
    if graph.softmax {
        notes.push("the softmax at the end is left out: a model file ends in logits".to_string());
    }
    let producer = [proto.producer_name(), proto.producer_version()]
        .map(printable)
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let mut model = Model::new(config, state)?;
    match document {
        Some(document) => {
            model.num_batches_tracked = document.num_batches_tracked;
            model.classes = document.classes;
            model.preprocessing = document.preprocessing;
            model.provenance = document.provenance;
        }
        None => {
            model.provenance = Some(json!({
                "imported_from": null,
                FORMAT: producer,
                "notes": notes,
            }));
        }
    }
    model.check()?;
    Ok(Imported {
        model,
        producer,
        notes,
    })
}
