//! `densenet compare`: runs side by side.

use std::path::PathBuf;

use clap::Args;
use densenet_train::{Comparison, RunRecord, compare};
use densenet_weights::atomic;

use crate::{
    failure::{BUG, Failure},
    output,
    table::{Table, wrap},
};

/// Lay runs side by side: scores, curves, options, differences on the same samples
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Compare {
    /// Folders of runs; the first is the one that others are compared with
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write a page with all curves
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Scores are those of each run's report: the best model on the test split, or on the validation split where there is no \
other. Where two runs answered the same samples, the difference of their accuracies is given with a 95 % interval and \
McNemar's test.

Examples:
  densenet compare runs/digits-1 runs/digits-2
  densenet compare runs/photos-* --html photos.html
  densenet compare runs/a-1 runs/b-1 --json";

impl Compare {
    /// Reads the runs and prints, or draws, how they differ.
    ///
    /// # Errors
    /// A folder that holds no run.
    pub fn run(self) -> Result<(), Failure> {
        let comparison = compare(&self.runs)?;
        if let Some(path) = &self.html {
            let html = comparison.html();
            atomic::write(path, |out| out.write_all(html.as_bytes()))?;
            output::note(&format!("wrote {}", path.display()));
        }
        if self.json {
            let document = serde_json::to_value(&comparison).map_err(|error| {
                Failure::new(BUG, format_args!("compare: {error} — report this"))
            })?;
            return output::print_json(&document);
        }
        output::print(&text(&comparison, output::width()))
    }
}

fn text(comparison: &Comparison, width: usize) -> String {
    let mut text = scores(&comparison.runs).render(width);
    if !comparison.differences.is_empty() {
        text += "\nAccuracy on the same samples\n";
    }
    let points = |v: f64| format!("{:+.2}", 100.0 * v);
    for d in &comparison.differences {
        let interval = d.interval.map_or(String::new(), |[low, high]| {
            format!(" (95 %: {} to {})", points(low), points(high))
        });
        let line = format!(
            "  {} against {}: {} points{interval}; of {} samples {} right by it alone, {} by the other alone, p = {:.3}",
            d.run,
            d.against,
            points(d.accuracy),
            d.samples,
            d.only_run,
            d.only_other,
            d.p
        );
        text += &wrap(&line, width, 4);
    }
    if !comparison.options.is_empty() {
        text += "\nOptions that differ\n";
        text += &options(comparison).fitted(width).render(width);
    }
    for note in &comparison.notes {
        text += "\n";
        text += &wrap(&format!("note: {note}"), width, 2);
    }
    text
}

fn scores(runs: &[RunRecord]) -> Table {
    let mut table = Table::new(&[
        "Run", "Split", "Epochs", "Best", "Accuracy", "AUROC", "F1", "Loss", "ECE",
    ]);
    let percent = |v: Option<f64>| v.map_or("—".into(), |v| format!("{:.2} %", 100.0 * v));
    let four = |v: Option<f64>| v.map_or("—".into(), |v| format!("{v:.4}"));
    for run in runs {
        table.row(vec![
            run.name.clone(),
            run.split.clone().unwrap_or_else(|| "—".into()),
            run.epochs.to_string(),
            run.best_epoch.map_or("—".into(), |e| e.to_string()),
            percent(run.accuracy),
            four(run.macro_auroc),
            four(run.macro_f1),
            four(run.loss),
            four(run.ece),
        ]);
    }
    table
}

fn options(comparison: &Comparison) -> Table {
    let headings: Vec<&str> = std::iter::once("Option")
        .chain(comparison.runs.iter().map(|r| r.name.as_str()))
        .collect();
    let mut table = Table::new(&headings);
    for (key, values) in &comparison.options {
        let shown = values
            .iter()
            .map(|v| v.clone().unwrap_or_else(|| "—".into()));
        table.row(std::iter::once(key.clone()).chain(shown).collect());
    }
    table
}
