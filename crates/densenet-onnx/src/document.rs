//! A model's configuration, classes, preprocessing and provenance as an ONNX file's metadata.
//!
//! | key | value |
//! |---|---|
//! | `densenet.format_version` | `1` |
//! | `densenet.config` | the configuration, as in a model file |
//! | `densenet.num_batches_tracked` | training steps the running statistics have seen |
//! | `densenet.classes` | a list of names, where the model has them |
//! | `densenet.preprocessing` | how inputs are prepared, where the model says so |
//! | `densenet.provenance` | where the weights come from, where the model says so |
//! | `densenet.export` | how the file was exported: `fold`, `f16`, `softmax` |
//!
//! Every value is JSON.

use std::collections::HashMap;

use densenet_spec::DenseNetConfig;
use densenet_weights::{ConfigFile, Model};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::{OnnxError, printable},
    proto::StringStringEntryProto,
};

/// Version of the keys and their meaning.
const FORMAT_VERSION: u64 = 1;

/// What the metadata say about a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub config: DenseNetConfig,
    pub num_batches_tracked: u64,
    pub classes: Option<Vec<String>>,
    pub preprocessing: Option<Value>,
    pub provenance: Option<Value>,
}

impl Document {
    pub(crate) fn of(model: &Model) -> Self {
        Document {
            config: model.config.clone(),
            num_batches_tracked: model.num_batches_tracked,
            classes: model.classes.clone(),
            preprocessing: model.preprocessing.clone(),
            provenance: model.provenance.clone(),
        }
    }

    pub(crate) fn pairs(&self) -> serde_json::Result<Vec<StringStringEntryProto>> {
        fn pair(key: &str, value: &impl Serialize) -> serde_json::Result<StringStringEntryProto> {
            Ok(StringStringEntryProto::pair(
                key,
                serde_json::to_string(value)?,
            ))
        }
        let mut pairs = vec![
            pair("densenet.format_version", &FORMAT_VERSION)?,
            pair("densenet.config", &ConfigFile::from(&self.config))?,
            pair("densenet.num_batches_tracked", &self.num_batches_tracked)?,
        ];
        if let Some(classes) = &self.classes {
            pairs.push(pair("densenet.classes", classes)?);
        }
        if let Some(preprocessing) = &self.preprocessing {
            pairs.push(pair("densenet.preprocessing", preprocessing)?);
        }
        if let Some(provenance) = &self.provenance {
            pairs.push(pair("densenet.provenance", provenance)?);
        }
        Ok(pairs)
    }

    /// What the metadata of a file say; none for a file that this program did not write.
    pub(crate) fn read(pairs: &[StringStringEntryProto]) -> Result<Option<Self>, OnnxError> {
        let pairs: HashMap<&str, &str> = pairs
            .iter()
            .map(|pair| (pair.key(), pair.value()))
            .collect();
        let Some(version) = parse::<u64>(&pairs, "densenet.format_version")? else {
            return Ok(None);
        };
        if version != FORMAT_VERSION {
            return Err(OnnxError::unsupported(
                format!(
                    "its metadata are of version {version}; this program knows {FORMAT_VERSION}"
                ),
                "use the version of densenet that wrote it, or a newer one",
            ));
        }
        let Some(config) = parse::<ConfigFile>(&pairs, "densenet.config")? else {
            return Err(OnnxError::malformed("its metadata lack `densenet.config`"));
        };
        let config = config.complete().map_err(|error| {
            OnnxError::malformed(format!("`densenet.config` in its metadata: {error}"))
        })?;
        Ok(Some(Document {
            config,
            num_batches_tracked: parse(&pairs, "densenet.num_batches_tracked")?.unwrap_or(0),
            classes: parse(&pairs, "densenet.classes")?,
            preprocessing: parse(&pairs, "densenet.preprocessing")?,
            provenance: parse(&pairs, "densenet.provenance")?,
        }))
    }
}

fn parse<T: DeserializeOwned>(
    pairs: &HashMap<&str, &str>,
    key: &str,
) -> Result<Option<T>, OnnxError> {
    let Some(text) = pairs.get(key) else {
        return Ok(None);
    };
    let value = serde_json::from_str(text).map_err(|error| {
        let what = printable(&error.to_string());
        OnnxError::malformed(format!("`{key}` in its metadata cannot be read: {what}"))
    })?;
    Ok(Some(value))
}
