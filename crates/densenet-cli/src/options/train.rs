//! The options of `train`: one for each key of a `--config` file.
//!
//! An option is called like its key with dashes for underscores, and serialises to it; the training room lays them over
//! the file and the defaults, and checks all of it.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use serde::{Serialize, Serializer};

use super::{
    number::{real, whole},
    size::Size,
};

/// What is learned from, and how it is prepared.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Size of the network's input, like 224, 224x192 or 64x96x96 [default: the data's own where small, else 224; 96 in 3-D]
    #[arg(long, alias = "input", value_name = "SIZE")]
    pub image_size: Option<ImageSize>,
    /// Volumes: where width, height and depth point, like RAS [default: RAS]
    #[arg(long, value_name = "LETTERS")]
    pub orientation: Option<String>,
    /// Volumes: resample to so many millimetres from voxel to voxel, one number or depth,height,width
    #[arg(long, value_name = "MM,…", value_delimiter = ',', value_parser = real)]
    pub spacing: Option<Vec<f64>>,
    /// Volumes: cut values off at these two, like -1000,400, and scale them to 0..1
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', num_args = 1, value_parser = real, allow_hyphen_values = true)]
    pub window: Option<Vec<f64>>,
    /// Volumes: cut values off at these two percentiles of each channel, like 0.5,99.5
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', num_args = 1, value_parser = real)]
    pub percentiles: Option<Vec<f64>>,
    /// Volumes: none, zscore, zscore_nonzero or minmax [default: zscore; minmax with --window; none for packed arrays]
    #[arg(long, value_name = "NAME", value_parser = ["none", "zscore", "zscore_nonzero", "minmax"], hide_possible_values = true)]
    pub normalize: Option<String>,
    /// Volumes: bring them to the size by resize or crop [default: resize]
    #[arg(long, value_name = "NAME", value_parser = ["resize", "crop"], hide_possible_values = true)]
    pub fit: Option<String>,
    /// Volumes: refuse those with voxels that are no numbers, or take these as zero [default: refuse]
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "zero"], hide_possible_values = true)]
    pub non_finite: Option<String>,
    /// Mean of each channel, like 0.485,0.456,0.406 [default: measured on the training split]
    #[arg(long, value_name = "X,…", value_delimiter = ',', value_parser = real, allow_hyphen_values = true)]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel [default: measured likewise]
    #[arg(long, value_name = "X,…", value_delimiter = ',', value_parser = real)]
    pub std: Option<Vec<f64>>,
    /// Random changes to training images, like crop:4,hflip,rotate:10 [default: hflip; crop:1,rotate:15 for the digits]
    #[arg(long, value_name = "CHANGES", conflicts_with = "no_augment")]
    pub augment: Option<String>,
    /// No random changes
    #[arg(long)]
    #[serde(skip)]
    pub no_augment: bool,
    /// What to do about images that cannot be read: fail or skip [default: fail]
    #[arg(long, value_name = "WHAT", value_parser = ["fail", "skip"], hide_possible_values = true)]
    pub on_error: Option<String>,
    /// Largest share of images that --on-error skip may leave out [default: 0.01]
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub max_bad: Option<f64>,
    /// Share for validation where the data has no validation split [default: 0.1]
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub val_split: Option<f64>,
    /// Share for testing where the data has no splits at all [default: 0.1]
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub test_split: Option<f64>,
    /// Seed of the division into splits [default: 0]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub split_seed: Option<usize>,
    /// Threads that prepare images [default: all cores]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub loader_threads: Option<usize>,
    /// Memory for prepared images kept between epochs, in MiB [default: 1024]
    #[arg(long, value_name = "MIB", value_parser = whole)]
    pub cache_mb: Option<usize>,
    /// A folder in which prepared images are kept from run to run [default: none]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The most that folder may take, in MiB [default: 20480]
    #[arg(long, value_name = "MIB", value_parser = whole)]
    pub cache_dir_mb: Option<usize>,
}

/// What is trained, from which weights.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// A preset, or a model file to start from [default: chosen by the size of the images]
    #[arg(long, value_name = "PRESET|MODEL")]
    pub model: Option<String>,
    /// Draw the classifier anew where the model file has other classes than the data
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub replace_head: Option<bool>,
    /// Stages that keep their weights and norms, like stem,denseblock1
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',')]
    pub freeze: Option<Vec<String>>,
    /// How fresh convolutions are drawn: fan-in or fan-out [default: fan-in; fan-out in 3-D]
    #[arg(long, value_name = "SIDE", value_parser = init_mode)]
    pub init: Option<String>,
    /// Recompute bottlenecks instead of keeping them: less memory, the same bits
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub memory_efficient: Option<bool>,
}

/// How it is trained.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Optimisation")]
pub struct OptimisationOptions {
    /// Passes over the training images [default: 30; 25 for the digits]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub epochs: Option<usize>,
    /// Images in a forward pass [default: 32]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub batch_size: Option<usize>,
    /// Forward passes whose gradients make one step [default: 1]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub accumulate: Option<usize>,
    /// sgd or adamw [default: sgd]
    #[arg(long, value_name = "NAME", value_parser = ["sgd", "adamw"], hide_possible_values = true)]
    pub optimizer: Option<String>,
    /// The highest learning rate [default: by optimiser and batch size]
    #[arg(long, value_name = "X", value_parser = real, allow_hyphen_values = true)]
    pub lr: Option<f64>,
    /// SGD's momentum [default: 0.9]
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub momentum: Option<f64>,
    /// Whether the momentum is Nesterov's [default: true]
    #[arg(long, value_name = "BOOL", hide_possible_values = true)]
    pub nesterov: Option<bool>,
    /// AdamW's decay rates [default: 0.9,0.999]
    #[arg(long, value_name = "X,X", value_delimiter = ',', value_parser = real)]
    pub betas: Option<Vec<f64>>,
    /// AdamW's ε [default: 1e-8]
    #[arg(long, value_name = "X", value_parser = real)]
    pub eps: Option<f64>,
    /// Weight decay [default: 1e-4; 1e-3 for the digits; 1e-2 with AdamW]
    #[arg(long, value_name = "X", value_parser = real)]
    pub weight_decay: Option<f64>,
    /// Leave norms and biases out of weight decay
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub no_decay_norm_bias: Option<bool>,
    /// Course of the learning rate: constant, step, cosine or onecycle [default: cosine; onecycle for the digits]
    #[arg(long, value_name = "NAME", value_parser = ["constant", "step", "cosine", "onecycle"], hide_possible_values = true)]
    pub schedule: Option<String>,
    /// Epochs of linear warm-up; may be a fraction [default: 1; 0 for the digits]
    #[arg(long, value_name = "EPOCHS", value_parser = real)]
    pub warmup: Option<f64>,
    /// Shares of the run at which `step` lowers the rate [default: 0.5,0.75]
    #[arg(long, value_name = "X,…", value_delimiter = ',', value_parser = real)]
    pub milestones: Option<Vec<f64>>,
    /// The factor by which `step` lowers it [default: 0.1]
    #[arg(long, value_name = "X", value_parser = real)]
    pub gamma: Option<f64>,
    /// The rate `cosine` ends at [default: 0]
    #[arg(long, value_name = "X", value_parser = real)]
    pub min_lr: Option<f64>,
    /// Share of the target spread over all classes [default: 0; 0.1 for the digits]
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub label_smoothing: Option<f64>,
    /// `balanced`, or one weight for each class
    #[arg(long, value_name = "X,…")]
    pub class_weights: Option<ClassWeights>,
    /// Largest norm a gradient may have
    #[arg(long, value_name = "X", value_parser = real)]
    pub clip_norm: Option<f64>,
    /// Decay of the moving average of the weights that is evaluated and saved
    #[arg(long, value_name = "0..1", value_parser = real)]
    pub ema: Option<f64>,
    /// Seed of initialisation, order, augmentation and dropout [default: 0]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub seed: Option<usize>,
}

/// When it ends and where it is kept.
#[derive(Debug, Clone, Args, Serialize)]
#[command(next_help_heading = "Stopping and saving")]
pub struct SavingOptions {
    /// What the best epoch is measured by: accuracy, loss or macro_auroc [default: accuracy]
    #[arg(long, value_name = "NAME", value_parser = ["accuracy", "loss", "macro_auroc"], hide_possible_values = true)]
    pub monitor: Option<String>,
    /// Epochs without a better one after which training ends
    #[arg(long, value_name = "N", value_parser = whole)]
    pub patience: Option<usize>,
    /// Folder of the run folders [default: runs]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// First part of the run folder's name [default: the data's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Seconds between saves within an epoch; 0 for none [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = real)]
    pub save_every: Option<f64>,
    /// Steps between saves within an epoch
    #[arg(long, value_name = "N", value_parser = whole)]
    pub save_every_steps: Option<usize>,
    /// Write event files for TensorBoard into the run's folder
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub tensorboard: Option<bool>,
}

/// One side, `[height, width]`, or `[depth, height, width]`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct ImageSize(Vec<usize>);

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(ImageSize(text.parse::<Size>()?.sides().to_vec()))
    }
}

/// `balanced` or a list of numbers.
#[derive(Debug, Clone)]
pub enum ClassWeights {
    /// A rule's name.
    Rule(String),
    /// One weight for each class.
    List(Vec<f64>),
}

impl FromStr for ClassWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "balanced" {
            return Ok(ClassWeights::Rule(text.to_string()));
        }
        let list: Result<Vec<f64>, String> = text.split(',').map(real).collect();
        list.map(ClassWeights::List).map_err(|_| {
            "neither a rule nor numbers — give balanced, or one number for each class like 1,2.5,1".to_string()
        })
    }
}

impl Serialize for ClassWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ClassWeights::Rule(rule) => rule.serialize(serializer),
            ClassWeights::List(list) => list.serialize(serializer),
        }
    }
}

/// `fan-in` or `fan-out` as the key's `fan_in` or `fan_out`.
fn init_mode(text: &str) -> Result<String, String> {
    match text.replace('-', "_").as_str() {
        mode @ ("fan_in" | "fan_out") => Ok(mode.to_string()),
        _ => Err("no such choice — one of fan-in, fan-out".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};
    use densenet_train::TrainConfig;

    use super::*;

    #[test]
    fn the_help_tells_the_true_defaults() {
        let command =
            OptimisationOptions::augment_args(DataOptions::augment_args(Command::new("")));
        let help = |id: &str| {
            let argument = command.get_arguments().find(|a| a.get_id() == id);
            argument
                .and_then(|a| a.get_help())
                .map(|h| h.to_string())
                .unwrap_or_default()
        };
        let (own, digits) = (TrainConfig::default(), TrainConfig::digits());
        for (id, default) in [
            (
                "epochs",
                format!("{}; {} for the digits", own.epochs, digits.epochs),
            ),
            ("batch_size", format!("{}", own.batch_size)),
            (
                "augment",
                format!("hflip; {} for the digits", digits.augment),
            ),
            (
                "weight_decay",
                format!("1e-4; {:e} for the digits", digits.weight_decay.unwrap()),
            ),
            ("momentum", format!("{}", own.momentum)),
            (
                "warmup",
                format!("{}; {} for the digits", own.warmup, digits.warmup),
            ),
            (
                "label_smoothing",
                format!(
                    "{}; {} for the digits",
                    own.label_smoothing, digits.label_smoothing
                ),
            ),
            ("val_split", format!("{}", own.val_split)),
            ("max_bad", format!("{}", own.max_bad)),
            ("cache_mb", format!("{}", own.cache_mb)),
            ("cache_dir_mb", format!("{}", own.cache_dir_mb)),
        ] {
            let text = help(id);
            assert!(
                text.contains(&format!("[default: {default}")),
                "{id}: {text:?} lacks {default:?}"
            );
        }
    }
}
