//! Runs side by side, from what their folders hold.

use std::path::{Path, PathBuf};

use densenet_report as page;
use serde::Serialize;
use serde_json::Value;
use toml::Table;

use crate::{
    checkpoint::EpochMetrics,
    config::Layer,
    error::TrainError,
    records::{PREDICTIONS, Predictions, SUMMARY},
};

mod paired;
mod view;

pub use paired::Difference;

/// A run, as far as it can be compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRecord {
    /// Its folder.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Whether it came to its end; `None` where the folder does not say.
    pub complete: Option<bool>,
    /// Epochs done.
    pub epochs: usize,
    /// The epoch whose model is the best.
    pub best_epoch: Option<usize>,
    /// That epoch's validation loss.
    pub val_loss: Option<f64>,
    /// That epoch's validation accuracy.
    pub val_accuracy: Option<f64>,
    /// The split that the following scores are of.
    pub split: Option<String>,
    /// Samples of that split.
    pub samples: Option<u64>,
    /// Accuracy.
    pub accuracy: Option<f64>,
    /// Its bootstrap interval.
    pub accuracy_interval: Option<[f64; 2]>,
    /// Mean AUROC.
    pub macro_auroc: Option<f64>,
    /// Mean F1.
    pub macro_f1: Option<f64>,
    /// Cross entropy.
    pub loss: Option<f64>,
    /// Expected calibration error.
    pub ece: Option<f64>,
    /// Learned elements of the network.
    pub params: Option<u64>,
    /// Seconds of training, without evaluations.
    pub train_seconds: Option<f64>,
    /// Samples a second in training, of the median epoch.
    pub samples_per_second: Option<f64>,
    /// A number that tells whether two runs saw the same data.
    pub data_fingerprint: Option<String>,
    /// One row for each epoch.
    #[serde(skip)]
    pub rows: Vec<EpochMetrics>,
    #[serde(skip)]
    options: Table,
    #[serde(skip)]
    predictions: Option<Predictions>,
}

/// Several runs and how they differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The runs in the order they were given.
    pub runs: Vec<RunRecord>,
    /// Each later run against the first, where both answered the same samples.
    pub differences: Vec<Difference>,
    /// Keys of the configurations that are not the same everywhere, with each run's value.
    pub options: Vec<(String, Vec<Option<String>>)>,
    /// What the reader should know before comparing.
    pub notes: Vec<String>,
}

/// Keys that say where a run lies and what listens, not what it is.
const PLACES: [&str; 3] = ["out", "name", "tensorboard"];

/// Reads the folders of runs and lays them side by side.
///
/// # Errors
/// `Config` for a folder that holds no run, `Io` where it cannot be read.
pub fn compare(folders: &[PathBuf]) -> Result<Comparison, TrainError> {
    let runs: Vec<RunRecord> = folders
        .iter()
        .map(|folder| RunRecord::read(folder))
        .collect::<Result<_, _>>()?;
    let mut notes = Vec::new();
    let mut data: Vec<_> = runs
        .iter()
        .filter_map(|r| r.data_fingerprint.as_ref())
        .collect();
    data.sort_unstable();
    data.dedup();
    if data.len() > 1 {
        notes.push("The runs are not all on the same data or the same splits: their scores may not be comparable.".to_string());
    }
    if runs
        .windows(2)
        .any(|w| w.first().map(|r| &r.split) != w.get(1).map(|r| &r.split))
    {
        notes.push("The scores are not all of the same split: do not compare them.".to_string());
    }
    for run in runs.iter().filter(|r| r.complete == Some(false)) {
        notes.push(format!("{} is not complete.", run.name));
    }
    let differences = match runs.split_first() {
        Some((first, others)) => others
            .iter()
            .filter_map(|r| paired::difference(first, r))
            .collect(),
        None => Vec::new(),
    };
    Ok(Comparison {
        options: differing(&runs),
        differences,
        notes,
        runs,
    })
}

impl RunRecord {
    fn read(folder: &Path) -> Result<Self, TrainError> {
        let config = folder.join("config.toml");
        if !config.is_file() {
            let what = match folder.is_dir() {
                true => "this folder holds no run (no config.toml)",
                false => "there is no such folder",
            };
            let cure = "give the folder of a run, such as runs/digits-1";
            return Err(TrainError::config(folder.display().to_string(), what, cure));
        }
        let metrics = folder.join("metrics.csv");
        let text = match std::fs::read_to_string(&metrics) {
            Ok(text) => text,
            // Stopped before its first epoch.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(TrainError::io(&metrics, "read", cause)),
        };
        let rows = EpochMetrics::parse(&text).ok_or_else(|| {
            let cure = "take it from a backup, or resume the run, which writes it anew";
            TrainError::state(&metrics, "not a run's table of metrics", cure)
        })?;
        let summary = read_json(&folder.join(SUMMARY));
        let best = rows.iter().rev().find(|r| r.best);
        let scores = &summary["scores"];
        let number = |value: &Value| value.as_f64();
        let interval = |value: &Value| {
            let pair = value.as_array()?;
            Some([pair.first()?.as_f64()?, pair.get(1)?.as_f64()?])
        };
        let name = folder
            .canonicalize()
            .ok()
            .and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        Ok(RunRecord {
            path: folder.to_path_buf(),
            name: name.unwrap_or_else(|| folder.display().to_string()),
            complete: summary["training"]["complete"].as_bool(),
            epochs: rows.len(),
            best_epoch: best.map(|r| r.epoch),
            val_loss: best.and_then(|r| r.val_loss),
            val_accuracy: best.and_then(|r| r.val_accuracy),
            split: scores["split"].as_str().map(String::from),
            samples: scores["samples"].as_u64(),
            accuracy: number(&scores["accuracy"]),
            accuracy_interval: interval(&scores["intervals"]["accuracy"]),
            macro_auroc: number(&scores["macro_auroc"]),
            macro_f1: number(&scores["macro_f1"]),
            loss: number(&scores["loss"]),
            ece: number(&scores["calibration"]["ece"]),
            params: summary["network"]["params"].as_u64(),
            train_seconds: number(&summary["timing"]["train_seconds"]),
            samples_per_second: number(&summary["timing"]["samples_per_second"]),
            data_fingerprint: summary["data"]["fingerprint"].as_str().map(String::from),
            rows,
            options: Layer::read(&config)?.table,
            predictions: Predictions::read(&folder.join(PREDICTIONS)),
        })
    }
}

/// The document in a file; `null` where there is none, or none that can be read: an older run has no summary.
fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn differing(runs: &[RunRecord]) -> Vec<(String, Vec<Option<String>>)> {
    let mut keys: Vec<&String> = runs.iter().flat_map(|r| r.options.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let value = |run: &RunRecord, key: &str| run.options.get(key).map(|v| v.to_string());
    keys.into_iter()
        .filter(|key| !PLACES.contains(&key.as_str()))
        .map(|key| {
            (
                key.clone(),
                runs.iter().map(|r| value(r, key)).collect::<Vec<_>>(),
            )
        })
        .filter(|(_, values)| values.windows(2).any(|w| w.first() != w.get(1)))
        .collect()
}

impl Comparison {
    /// The comparison as one HTML file.
    pub fn html(&self) -> String {
        let page: page::Comparison = view::page(self);
        page.html()
    }
}
