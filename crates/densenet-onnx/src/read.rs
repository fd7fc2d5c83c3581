//! From a file to ONNX's messages, within limits.

mod budget;
mod external;

use std::{fs::File, io::Read, path::Path};

use bytes::Bytes;
use prost::Message;

use crate::{
    error::{OnnxError, Problem},
    proto::ModelProto,
};

pub(crate) use external::Folder;

/// A protobuf message ends at 2 GiB.
const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// Reads the model at `path`.
pub(crate) fn model(path: &Path) -> Result<ModelProto, OnnxError> {
    decode(content(path)?)
}

/// Decodes an ONNX model. Its tensors stay slices of `content`.
pub(crate) fn decode(content: Bytes) -> Result<ModelProto, OnnxError> {
    budget::check(&content)?;
    let model = ModelProto::decode(content)
        .map_err(|error| OnnxError::malformed(format!("it cannot be decoded: {error}")))?;
    // Hardly any bytes are no protobuf message at all; these two every model has.
    if model.ir_version.is_none() || model.graph.is_none() {
        return Err(OnnxError::malformed("it holds no graph"));
    }
    Ok(model)
}

/// The version of ONNX's own operators; 0 where the model does not say.
pub(crate) fn opset(model: &ModelProto) -> i64 {
    model
        .opset_import
        .iter()
        .find(|set| matches!(set.domain(), "" | "ai.onnx"))
        .map_or(0, |set| set.version())
}

fn content(path: &Path) -> Result<Bytes, OnnxError> {
    let (file, length) = open(path)?;
    if length > MAX_FILE_BYTES {
        return Err(Problem::Limit {
            what: "bytes in the file".to_string(),
            found: length,
            limit: MAX_FILE_BYTES,
            cure: "no ONNX file is longer; check the path",
        }
        .into());
    }
    let mut content = Vec::new();
    // The file may grow while it is read.
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut content)
        .map_err(|cause| OnnxError::io("read it", cause))?;
    Ok(content.into())
}

/// Opens a regular file and tells its length.
pub(crate) fn open(path: &Path) -> Result<(File, u64), OnnxError> {
    let opening = |cause| OnnxError::io("open it", cause);
    let metadata = std::fs::metadata(path).map_err(opening)?;
    if !metadata.is_file() {
        // Before opening: opening a pipe would wait for its writer.
        let cause = std::io::Error::other("it is no regular file");
        return Err(opening(cause));
    }
    let file = File::open(path).map_err(opening)?;
    let length = file.metadata().map_err(opening)?.len();
    Ok((file, length))
}
