//! A configuration as a file that explains itself.

use toml::Table;

use super::TrainConfig;
use crate::error::TrainError;

/// Every key in the order of the file, under its heading.
pub(super) const GROUPS: &[(&str, &[&str])] = &[
    (
        "Data",
        &[
            "data",
            "split_seed",
            "val_split",
            "test_split",
            "image_size",
            "orientation",
            "spacing",
            "window",
            "percentiles",
            "normalize",
            "fit",
            "non_finite",
            "mean",
            "std",
            "preprocessing",
            "augment",
            "on_error",
            "max_bad",
            "loader_threads",
            "cache_mb",
            "cache_dir",
            "cache_dir_mb",
        ],
    ),
    (
        "Network",
        &[
            "model",
            "growth_rate",
            "block_config",
            "num_init_features",
            "bn_size",
            "compression",
            "drop_rate",
            "num_classes",
            "in_channels",
            "spatial_dims",
            "stem",
            "final_norm",
            "concat_order",
            "bn_eps",
            "bn_momentum",
            "memory_efficient",
            "init",
            "freeze",
            "replace_head",
        ],
    ),
    (
        "Optimisation",
        &[
            "epochs",
            "batch_size",
            "accumulate",
            "optimizer",
            "lr",
            "momentum",
            "nesterov",
            "betas",
            "eps",
            "weight_decay",
            "no_decay_norm_bias",
            "schedule",
            "warmup",
            "milestones",
            "gamma",
            "min_lr",
            "label_smoothing",
            "class_weights",
            "clip_norm",
            "ema",
            "seed",
        ],
    ),
    (
        "Stopping and saving",
        &[
            "monitor",
            "patience",
            "out",
            "name",
            "save_every",
            "save_every_steps",
            "tensorboard",
        ],
    ),
];

/// Keys that cannot change a result; a run may be resumed with others.
pub(super) const FREE: &[&str] = &[
    "loader_threads",
    "cache_mb",
    "cache_dir",
    "cache_dir_mb",
    "memory_efficient",
    "out",
    "save_every",
    "save_every_steps",
    "tensorboard",
];

impl TrainConfig {
    /// The configuration as TOML that `--config` reads back to the same.
    ///
    /// # Errors
    /// `Bug`: every configuration can be written.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        let table = self.to_table()?;
        let mut text = String::from(
            "# Every option of this run as resolved; `densenet train --config` takes this file.\n",
        );
        for (heading, keys) in GROUPS {
            text.push_str(&format!("\n# {heading}\n"));
            text.push_str(&lines(&table, keys));
        }
        Ok(text)
    }

    /// What decides the result, as TOML: the part that a resumed run must share.
    pub(crate) fn identity(&self) -> Result<String, TrainError> {
        let table = self.to_table()?;
        let keys: Vec<&str> = super::layers::keys()
            .filter(|k| !FREE.contains(k))
            .collect();
        Ok(lines(&table, &keys))
    }
}

fn lines(table: &Table, keys: &[&str]) -> String {
    keys.iter()
        .filter_map(|key| table.get(*key).map(|value| format!("{key} = {value}\n")))
        .collect()
}

/// The keys whose lines differ between two identities.
pub(crate) fn differences(ours: &str, saved: &str) -> Vec<String> {
    let parse = |text: &str| text.parse::<Table>().unwrap_or_default();
    let (ours, saved) = (parse(ours), parse(saved));
    let shown = |table: &Table, key: &str| {
        table
            .get(key)
            .map_or("not set".to_string(), |v| v.to_string())
    };
    super::layers::keys()
        .filter(|key| ours.get(*key) != saved.get(*key))
        .map(|key| format!("{key} is {}, was {}", shown(&ours, key), shown(&saved, key)))
        .collect()
}
