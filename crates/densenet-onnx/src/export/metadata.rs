//! What a file says about itself beside the graph.

use densenet_spec::{Architecture, DenseNetConfig, PRESETS};
use densenet_weights::Model;

use super::ExportOptions;
use crate::{document::Document, error::OnnxError, proto::StringStringEntryProto};

/// Who wrote the file.
pub(super) const PRODUCER: &str = "densenet";

/// The preset whose network this is, whatever its input channels and classes; `densenet` for any other.
pub(super) fn graph_name(config: &DenseNetConfig) -> String {
    let same = |preset: &&densenet_spec::Preset| {
        preset.config(config.spatial_dims).is_ok_and(|published| {
            let published = DenseNetConfig {
                in_channels: config.in_channels,
                num_classes: config.num_classes,
                drop_rate: config.drop_rate,
                ..published
            };
            published == *config
        })
    };
    let preset = PRESETS.iter().find(same);
    preset.map_or("densenet", |preset| preset.name).to_string()
}

/// A paragraph for people.
pub(super) fn description(
    architecture: &Architecture,
    model: &Model,
    options: &ExportOptions,
) -> String {
    let config = &model.config;
    let dims = config.spatial_dims;
    let joined = |sizes: &[usize], between| {
        sizes
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(between)
    };
    let prepared = match model.preprocessing {
        Some(_) => "prepared as the metadata `densenet.preprocessing` says",
        None => "prepared as for training",
    };
    let output = if options.softmax {
        "probabilities"
    } else {
        "logits"
    };
    format!(
        "{}: DenseNet (arXiv:1608.06993) for {}, {} input channels, growth rate {}, blocks {}, {} classes. \
         Input `{}`: {}, at least {} pixels. Output `{}`: {output}{}.",
        graph_name(config),
        if dims == 2 { "images" } else { "volumes" },
        config.in_channels,
        config.growth_rate,
        joined(&config.block_config, ","),
        config.num_classes,
        options.input_name,
        prepared,
        joined(&architecture.min_input()[3 - dims..], "x"),
        options.output(),
        if model.classes.is_some() {
            ", classes in the metadata `densenet.classes`"
        } else {
            ""
        },
    )
}

/// Everything of the model that is neither node nor tensor, and how it was exported.
pub(super) fn pairs(
    model: &Model,
    options: &ExportOptions,
) -> Result<Vec<StringStringEntryProto>, OnnxError> {
    let document = Document::of(model);
    let mut pairs = document.pairs().map_err(|error| {
        // Numbers, strings and JSON values always are JSON.
        OnnxError::unsupported(format!("its metadata: {error}"), "save the model again")
    })?;
    let export = serde_json::json!({
        "fold": options.fold,
        "f16": options.f16,
        "softmax": options.softmax,
    });
    pairs.push(StringStringEntryProto::pair(
        "densenet.export",
        export.to_string(),
    ));
    Ok(pairs)
}
