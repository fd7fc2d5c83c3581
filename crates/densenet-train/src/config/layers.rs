//! Defaults, then a file, then the command line: later ones win.

use std::path::Path;

use toml::{Table, Value};

use super::{SHAPES3D_MODEL, TrainConfig};
use crate::{error::TrainError, spec::closest, weights::ConfigFile};

/// Keys and values from one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Where they come from, for messages: a file's path, or `command line`.
    pub origin: String,
    /// The keys; dashes are read as underscores.
    pub table: Table,
}

impl Layer {
    /// Reads a `--config` file.
    ///
    /// # Errors
    /// `Io` for a file that cannot be read, `Config` for one that is not TOML.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text =
            std::fs::read_to_string(path).map_err(|cause| TrainError::io(path, "read", cause))?;
        Layer::parse(path.display().to_string(), &text)
    }

    /// The same from text.
    ///
    /// # Errors
    /// `Config` for text that is not TOML.
    pub fn parse(origin: impl Into<String>, text: &str) -> Result<Self, TrainError> {
        let origin = origin.into();
        match text.parse() {
            Ok(table) => Ok(Layer { origin, table }),
            Err(error) => {
                let line = error
                    .span()
                    .map(|s| 1 + text.get(..s.start).unwrap_or("").matches('\n').count());
                let place = line.map_or(origin.clone(), |line| format!("{origin}:{line}"));
                Err(TrainError::config(
                    place,
                    error.message(),
                    "write `key = value`, one a line, as in a run's config.toml",
                ))
            }
        }
    }
}

/// Other names of keys.
const ALIASES: [(&str, &str); 2] = [("dims", "spatial_dims"), ("input", "image_size")];

impl TrainConfig {
    /// The defaults with `layers` on top, the last one uppermost, and checked.
    ///
    /// Whether the defaults are those for the embedded digits or for data of one's own depends on whether a layer gives
    /// `data`.
    ///
    /// # Errors
    /// `Config` naming the layer and the key: unknown (with the likely one), of the wrong type, or of a value that cannot
    /// work.
    pub fn layered(layers: &[Layer]) -> Result<TrainConfig, TrainError> {
        let data = layers.iter().rev().find_map(|l| l.table.get("data"));
        let mut config = match data.map(Value::as_str) {
            // A name, where no file is called so.
            Some(Some(SHAPES3D_MODEL)) if !Path::new(SHAPES3D_MODEL).exists() => {
                TrainConfig::shapes3d()
            }
            Some(_) => TrainConfig::default(),
            None => TrainConfig::digits(),
        };
        for layer in layers {
            config = config.with(layer)?;
        }
        config.validate()?;
        Ok(config)
    }

    fn with(&self, layer: &Layer) -> Result<TrainConfig, TrainError> {
        let mut table = self.to_table()?;
        for (key, value) in &layer.table {
            let plain = key.replace('-', "_");
            let plain = ALIASES
                .iter()
                .find(|(alias, _)| *alias == plain)
                .map_or(plain, |(_, name)| name.to_string());
            if !keys().any(|k| k == plain) {
                let hint = match closest(&plain, keys()) {
                    Some(likely) => format!("did you mean `{likely}`?"),
                    None => "a run's config.toml shows every key".to_string(),
                };
                return Err(TrainError::config(
                    &layer.origin,
                    format!("there is no key `{key}`"),
                    hint,
                ));
            }
            let value = widened(&plain, value);
            table.insert(plain, value);
        }
        TrainConfig::from_table(table).map_err(|message| {
            TrainError::config(
                &layer.origin,
                message,
                "give a value of the kind that a run's config.toml shows",
            )
        })
    }

    /// All keys that are set, the network's among them.
    pub(super) fn to_table(&self) -> Result<Table, TrainError> {
        let bug = |e: toml::ser::Error| {
            TrainError::Bug(format!("the configuration cannot be written as TOML: {e}"))
        };
        let mut table = Table::try_from(self).map_err(bug)?;
        table.extend(Table::try_from(&self.network).map_err(bug)?);
        Ok(table)
    }

    fn from_table(mut table: Table) -> Result<TrainConfig, String> {
        let mut network = Table::new();
        for field in ConfigFile::FIELDS {
            if let Some(value) = table.remove(*field) {
                network.insert(field.to_string(), value);
            }
        }
        let one_line = |e: toml::de::Error| e.to_string().trim().replace('\n', " ");
        let network: ConfigFile = network.try_into().map_err(one_line)?;
        let config: TrainConfig = table.try_into().map_err(one_line)?;
        Ok(TrainConfig { network, ..config })
    }
}

/// Every key there is.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    super::text::GROUPS
        .iter()
        .flat_map(|(_, keys)| keys.iter().copied())
}

/// A lone number stands for a list of one, and a one for all axes.
fn widened(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("image_size" | "spacing", Value::Integer(_) | Value::Float(_)) => {
            Value::Array(vec![value.clone()])
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_dashes_are_underscores() {
        let file = Layer::parse(
            "a.toml",
            "data = \"x\"\nbatch-size = 8\ngrowth_rate = 4\nlr = 1",
        )
        .unwrap();
        let options = Layer::parse(
            "command line",
            "batch_size = 16\nstem = \"small\"\ndims = 2\nimage_size = 32",
        )
        .unwrap();
        let config = TrainConfig::layered(&[file, options]).unwrap();
        assert_eq!((config.batch_size, config.lr), (16, Some(1.0)));
        assert_eq!(
            (config.network.growth_rate, config.network.spatial_dims),
            (Some(4), Some(2))
        );
        assert_eq!(
            (config.model.as_deref(), config.image_size.clone()),
            (None, Some(vec![32]))
        );
        assert_eq!(TrainConfig::layered(&[]).unwrap(), TrainConfig::digits());
    }

    #[test]
    fn slips_are_named_with_their_place_and_the_likely_key() {
        let message = |text: &str| {
            let error = Layer::parse("a.toml", text)
                .and_then(|l| TrainConfig::layered(&[l]))
                .unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        assert_eq!(
            message("bach_size = 3"),
            "a.toml: there is no key `bach_size` — did you mean `batch_size`?"
        );
        assert!(message("growth-rat = 3").ends_with("did you mean `growth_rate`?"));
        assert!(
            message("epochs = \"many\"").contains("epochs"),
            "{}",
            message("epochs = \"many\"")
        );
        assert!(message("epochs = -1").starts_with("a.toml: "));
        assert!(
            message("epochs = 1\nlr = = 2").starts_with("a.toml:2: "),
            "{}",
            message("epochs = 1\nlr = = 2")
        );
        assert!(message("optimizer = \"sdg\"").contains("sgd"));
        assert!(message("augment = \"hflp\"").contains("hflip"));
        assert!(message("lr = -1").starts_with("--lr: "));
    }
}
