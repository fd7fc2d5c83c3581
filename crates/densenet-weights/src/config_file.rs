//! A network's configuration as text: JSON in model files, TOML in training configurations.

use std::collections::BTreeMap;

use densenet_spec::{ConcatOrder, ConfigError, DenseNetConfig, Stem, closest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// [`DenseNetConfig`] with every field optional, under the same names.
///
/// [`ConfigFile::over`] lays the given fields over a base such as a preset; [`ConfigFile::complete`] asks for all of
/// them. An unknown field is refused with the likely meant one. `stem` is a name (`imagenet`, `small`) or a table of
/// `kernel`, `stride` (one number per spatial axis), `norm` and `pool`.
///
/// ```
/// use densenet_spec::preset;
/// use densenet_weights::ConfigFile;
///
/// let file: ConfigFile = toml::from_str("growth_rate = 16\nblock_config = [4, 4]").unwrap();
/// let config = file.over(&preset("densenet121").unwrap().config(2).unwrap()).unwrap();
/// assert_eq!((config.growth_rate, config.block_config), (16, vec![4, 4]));
///
/// let error = toml::from_str::<ConfigFile>("growthrate = 16").unwrap_err();
/// assert!(error.to_string().contains("did you mean `growth_rate`?"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>")]
pub struct ConfigFile {
    /// See [`DenseNetConfig::growth_rate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_rate: Option<usize>,
    /// See [`DenseNetConfig::block_config`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_config: Option<Vec<usize>>,
    /// See [`DenseNetConfig::num_init_features`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_init_features: Option<usize>,
    /// See [`DenseNetConfig::bn_size`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bn_size: Option<usize>,
    /// See [`DenseNetConfig::compression`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<f64>,
    /// See [`DenseNetConfig::drop_rate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_rate: Option<f64>,
    /// See [`DenseNetConfig::num_classes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// See [`DenseNetConfig::in_channels`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_channels: Option<usize>,
    /// See [`DenseNetConfig::spatial_dims`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spatial_dims: Option<usize>,
    /// See [`DenseNetConfig::final_norm`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_norm: Option<bool>,
    /// `old_new` or `new_old`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concat_order: Option<String>,
    /// See [`DenseNetConfig::bn_eps`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bn_eps: Option<f64>,
    /// See [`DenseNetConfig::bn_momentum`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bn_momentum: Option<f64>,
    /// A stem's name or its parts; last because it may be a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<StemFile>,
}

/// A stem as text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StemFile {
    /// `imagenet` or `small`.
    Named(String),
    /// Anything else, part by part.
    Parts(StemParts),
}

/// A stem's parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StemParts {
    /// One number per spatial axis.
    pub kernel: Vec<usize>,
    /// One number per spatial axis.
    pub stride: Vec<usize>,
    /// See [`Stem::norm`].
    pub norm: bool,
    /// See [`Stem::pool`].
    pub pool: bool,
}

const STEM_PARTS: &[&str] = &["kernel", "stride", "norm", "pool"];

impl ConfigFile {
    /// The names of all fields.
    pub const FIELDS: &'static [&'static str] = &[
        "growth_rate",
        "block_config",
        "num_init_features",
        "bn_size",
        "compression",
        "drop_rate",
        "num_classes",
        "in_channels",
        "spatial_dims",
        "final_norm",
        "concat_order",
        "bn_eps",
        "bn_momentum",
        "stem",
    ];

    /// The given fields laid over `base`, checked.
    ///
    /// If `spatial_dims` changes and the stem is not given, a named stem follows to the new dimension.
    ///
    /// # Errors
    /// The first field whose value cannot work.
    pub fn over(&self, base: &DenseNetConfig) -> Result<DenseNetConfig, ConfigError> {
        let spatial_dims = self.spatial_dims.unwrap_or(base.spatial_dims);
        let stem = match &self.stem {
            Some(stem) => stem.resolve(spatial_dims)?,
            None => base
                .stem
                .name(base.spatial_dims)
                .and_then(|name| Stem::from_name(name, spatial_dims))
                .unwrap_or(base.stem),
        };
        let concat_order = match &self.concat_order {
            None => base.concat_order,
            Some(name) => ConcatOrder::from_name(name).ok_or_else(|| ConfigError {
                field: "concat_order",
                value: name.clone(),
                reason: "`old_new` (the paper's) or `new_old`".to_string(),
            })?,
        };
        let config = DenseNetConfig {
            growth_rate: self.growth_rate.unwrap_or(base.growth_rate),
            block_config: self
                .block_config
                .clone()
                .unwrap_or_else(|| base.block_config.clone()),
            num_init_features: self.num_init_features.unwrap_or(base.num_init_features),
            bn_size: self.bn_size.unwrap_or(base.bn_size),
            compression: self.compression.unwrap_or(base.compression),
            drop_rate: self.drop_rate.unwrap_or(base.drop_rate),
            num_classes: self.num_classes.unwrap_or(base.num_classes),
            in_channels: self.in_channels.unwrap_or(base.in_channels),
            spatial_dims,
            stem,
            final_norm: self.final_norm.unwrap_or(base.final_norm),
            concat_order,
            bn_eps: self.bn_eps.unwrap_or(base.bn_eps),
            bn_momentum: self.bn_momentum.unwrap_or(base.bn_momentum),
        };
        config.validate()?;
        Ok(config)
    }

    /// The configuration, where every field is given.
    ///
    /// # Errors
    /// The first field that is missing or whose value cannot work.
    pub fn complete(&self) -> Result<DenseNetConfig, ConfigError> {
        let given = [
            self.growth_rate.is_some(),
            self.block_config.is_some(),
            self.num_init_features.is_some(),
            self.bn_size.is_some(),
            self.compression.is_some(),
            self.drop_rate.is_some(),
            self.num_classes.is_some(),
            self.in_channels.is_some(),
            self.spatial_dims.is_some(),
            self.final_norm.is_some(),
            self.concat_order.is_some(),
            self.bn_eps.is_some(),
            self.bn_momentum.is_some(),
            self.stem.is_some(),
        ];
        if let Some((field, _)) = Self::FIELDS.iter().zip(given).find(|(_, given)| !given) {
            return Err(ConfigError {
                field,
                value: "(missing)".to_string(),
                reason: "every field must be given here".to_string(),
            });
        }
        // Every field is given, so nothing of this base survives.
        self.over(&DenseNetConfig {
            growth_rate: 1,
            block_config: vec![1],
            num_init_features: 1,
            bn_size: 0,
            compression: 1.0,
            drop_rate: 0.0,
            num_classes: 1,
            in_channels: 1,
            spatial_dims: 2,
            stem: Stem::small(2),
            final_norm: true,
            concat_order: ConcatOrder::OldNew,
            bn_eps: 1e-5,
            bn_momentum: 0.1,
        })
    }
}

impl From<&DenseNetConfig> for ConfigFile {
    fn from(config: &DenseNetConfig) -> Self {
        ConfigFile {
            growth_rate: Some(config.growth_rate),
            block_config: Some(config.block_config.clone()),
            num_init_features: Some(config.num_init_features),
            bn_size: Some(config.bn_size),
            compression: Some(config.compression),
            drop_rate: Some(config.drop_rate),
            num_classes: Some(config.num_classes),
            in_channels: Some(config.in_channels),
            spatial_dims: Some(config.spatial_dims),
            final_norm: Some(config.final_norm),
            concat_order: Some(config.concat_order.name().to_string()),
            bn_eps: Some(config.bn_eps),
            bn_momentum: Some(config.bn_momentum),
            stem: Some(StemFile::of(config)),
        }
    }
}

impl StemFile {
    fn of(config: &DenseNetConfig) -> Self {
        let stem = &config.stem;
        match stem.name(config.spatial_dims) {
            Some(name) => StemFile::Named(name.to_string()),
            None => {
                let axes = if config.spatial_dims == 2 { 1.. } else { 0.. };
                StemFile::Parts(StemParts {
                    kernel: stem.kernel[axes.clone()].to_vec(),
                    stride: stem.stride[axes].to_vec(),
                    norm: stem.norm,
                    pool: stem.pool,
                })
            }
        }
    }

    fn resolve(&self, spatial_dims: usize) -> Result<Stem, ConfigError> {
        match self {
            StemFile::Named(name) => {
                Stem::from_name(name, spatial_dims).ok_or_else(|| ConfigError {
                    field: "stem",
                    value: name.clone(),
                    reason: "`imagenet`, `small`, or a table of kernel, stride, norm and pool"
                        .to_string(),
                })
            }
            StemFile::Parts(parts) => Ok(Stem {
                kernel: axes("stem.kernel", &parts.kernel, spatial_dims)?,
                stride: axes("stem.stride", &parts.stride, spatial_dims)?,
                norm: parts.norm,
                pool: parts.pool,
            }),
        }
    }
}

/// `[h, w]` or `[d, h, w]` as `[depth, height, width]`.
fn axes(
    field: &'static str,
    sizes: &[usize],
    spatial_dims: usize,
) -> Result<[usize; 3], ConfigError> {
    match (spatial_dims, sizes) {
        (2, &[height, width]) => Ok([1, height, width]),
        (3, &[depth, height, width]) => Ok([depth, height, width]),
        _ => Err(ConfigError {
            field,
            value: format!("{sizes:?}"),
            reason: format!("one number for each of the {spatial_dims} spatial axes"),
        }),
    }
}

impl TryFrom<BTreeMap<String, Value>> for ConfigFile {
    type Error = String;

    fn try_from(mut fields: BTreeMap<String, Value>) -> Result<Self, String> {
        known("field", fields.keys(), Self::FIELDS)?;
        Ok(ConfigFile {
            growth_rate: take(&mut fields, "growth_rate")?,
            block_config: take(&mut fields, "block_config")?,
            num_init_features: take(&mut fields, "num_init_features")?,
            bn_size: take(&mut fields, "bn_size")?,
            compression: take(&mut fields, "compression")?,
            drop_rate: take(&mut fields, "drop_rate")?,
            num_classes: take(&mut fields, "num_classes")?,
            in_channels: take(&mut fields, "in_channels")?,
            spatial_dims: take(&mut fields, "spatial_dims")?,
            final_norm: take(&mut fields, "final_norm")?,
            concat_order: take(&mut fields, "concat_order")?,
            bn_eps: take(&mut fields, "bn_eps")?,
            bn_momentum: take(&mut fields, "bn_momentum")?,
            stem: match fields.remove("stem") {
                None => None,
                Some(Value::String(name)) => Some(StemFile::Named(name)),
                Some(Value::Object(parts)) => {
                    known("part of stem", parts.keys(), STEM_PARTS)?;
                    Some(StemFile::Parts(value("stem", Value::Object(parts))?))
                }
                Some(_) => {
                    return Err(
                        "`stem` is a name or a table of kernel, stride, norm and pool".to_string(),
                    );
                }
            },
        })
    }
}

/// Refuses names that are not in `allowed`, suggesting the likely meant one.
fn known<'a>(
    what: &str,
    names: impl Iterator<Item = &'a String>,
    allowed: &[&'static str],
) -> Result<(), String> {
    for name in names {
        if !allowed.contains(&name.as_str()) {
            let shown = crate::error::printable(name);
            return Err(match closest(name, allowed.iter().copied()) {
                Some(likely) => format!("unknown {what} `{shown}`: did you mean `{likely}`?"),
                None => format!("unknown {what} `{shown}`: known are {}", allowed.join(", ")),
            });
        }
    }
    Ok(())
}

fn take<T: serde::de::DeserializeOwned>(
    fields: &mut BTreeMap<String, Value>,
    name: &str,
) -> Result<Option<T>, String> {
    fields
        .remove(name)
        .map(|found| value(name, found))
        .transpose()
}

fn value<T: serde::de::DeserializeOwned>(name: &str, found: Value) -> Result<T, String> {
    serde_json::from_value(found).map_err(|error| format!("`{name}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_spec::{PRESETS, preset};

    #[test]
    fn every_preset_survives_json_and_toml() {
        for dims in [2, 3] {
            for p in PRESETS {
                let config = p.config(dims).unwrap();
                let file = ConfigFile::from(&config);
                let json: ConfigFile =
                    serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
                assert_eq!(json.complete().unwrap(), config);
                let toml: ConfigFile = toml::from_str(&toml::to_string(&file).unwrap()).unwrap();
                assert_eq!(toml.complete().unwrap(), config);
            }
        }
    }

    #[test]
    fn an_unnamed_stem_is_written_in_parts() {
        let mut config = preset("densenet121").unwrap().config(3).unwrap();
        config.stem.stride = [1, 2, 2];
        config.concat_order = ConcatOrder::NewOld;
        let text = toml::to_string(&ConfigFile::from(&config)).unwrap();
        assert!(text.contains("stride = [1, 2, 2]"), "{text}");
        assert_eq!(
            toml::from_str::<ConfigFile>(&text)
                .unwrap()
                .complete()
                .unwrap(),
            config
        );
    }

    #[test]
    fn a_named_stem_follows_the_dimension() {
        let base = preset("densenet121").unwrap().config(2).unwrap();
        let file = ConfigFile {
            spatial_dims: Some(3),
            ..ConfigFile::default()
        };
        assert_eq!(file.over(&base).unwrap().stem, Stem::imagenet(3));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            (
                "growthrate = 3",
                "unknown field `growthrate`: did you mean `growth_rate`?",
            ),
            (
                "colour = 3",
                "unknown field `colour`: known are growth_rate",
            ),
            ("growth_rate = -3", "`growth_rate`: invalid value"),
            ("growth_rate = \"x\"", "`growth_rate`: invalid type"),
            ("stem = 3", "`stem` is a name or a table"),
            (
                "[stem]\nkernal = [3, 3]",
                "unknown part of stem `kernal`: did you mean `kernel`?",
            ),
            ("[stem]\nkernel = [3, 3]", "`stem`: missing field `stride`"),
        ] {
            let message = toml::from_str::<ConfigFile>(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let base = preset("densenet121").unwrap().config(2).unwrap();
        for (text, expected) in [
            ("stem = \"large\"", "stem = large: `imagenet`, `small`"),
            ("concat_order = \"x\"", "concat_order = x: `old_new`"),
            ("drop_rate = 1.0", "drop_rate = 1"),
            (
                "[stem]\nkernel = [3, 3, 3]\nstride = [1, 1]\nnorm = true\npool = false",
                "one number for each of the 2 spatial axes",
            ),
        ] {
            let file: ConfigFile = toml::from_str(text).unwrap();
            let message = file.over(&base).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let message = ConfigFile::default().complete().unwrap_err().to_string();
        assert!(message.contains("growth_rate = (missing)"), "{message}");
    }
}
