//! `summary.json`: a run or an evaluation for programs.

use serde_json::{Map, Value, json};

use super::{Findings, HeldOut, PROGRAM, Training, facts::Facts};
use crate::{checkpoint::EpochMetrics, error::TrainError};

/// Version of the document.
const FORMAT: u32 = 1;

impl Findings<'_> {
    /// The document as text.
    ///
    /// # Errors
    /// `Bug`: every document can be written.
    pub(super) fn summary(&self) -> Result<String, TrainError> {
        let mut document = Map::new();
        let mut put = |key: &str, value: Value| document.insert(key.to_string(), value);
        put("format", FORMAT.into());
        put("program", PROGRAM.into());
        put("name", self.title.clone().into());
        let facts = Facts::new(self);
        put("data", facts.data());
        put("network", facts.network());
        if let Some(training) = &self.training {
            put("training", course(training));
            put("timing", facts.timing(training));
        }
        if let Some(held_out) = &self.held_out {
            put("scores", scores(held_out)?);
        }
        let text = format!("{:#}\n", Value::Object(document));
        Ok(text)
    }
}

/// What `eval --json` prints, with its split.
fn scores(held_out: &HeldOut) -> Result<Value, TrainError> {
    let bug = |e: serde_json::Error| TrainError::Bug(format!("the summary: {e}"));
    let mut value = serde_json::to_value(&held_out.assessment).map_err(bug)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("split".into(), held_out.split.name().into());
    }
    Ok(value)
}

fn course(training: &Training<'_>) -> Value {
    let row = |r: &EpochMetrics| {
        json!({
            "epoch": r.epoch,
            "step": r.step,
            "lr": r.lr,
            "train_loss": r.train_loss,
            "train_accuracy": r.train_accuracy,
            "val_loss": r.val_loss,
            "val_accuracy": r.val_accuracy,
            "val_macro_auroc": r.val_macro_auroc,
        })
    };
    let best = training
        .best
        .and_then(|best| training.rows.iter().find(|r| r.epoch == best.epoch));
    json!({
        "complete": training.complete,
        "reason": training.reason,
        "epochs": training.rows.len(),
        "epochs_asked": training.config.epochs,
        "monitor": training.config.monitor,
        "best": best.map(row),
        "last": training.rows.last().map(row),
        "seed": training.config.seed,
        "trainable": training.trainable,
    })
}
