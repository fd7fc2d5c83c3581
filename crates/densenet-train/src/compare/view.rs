//! A comparison as a page.

use densenet_report as page;
use densenet_report::{Chart, Scale, Series, Tone};

use super::{Comparison, RunRecord};
use crate::{checkpoint::EpochMetrics, records::PROGRAM};

/// A column of the table of scores: its name, the value, how it is written, whether more is better (`None`: neither).
type Column = (
    &'static str,
    fn(&RunRecord) -> Option<f64>,
    fn(f64) -> String,
    Option<bool>,
);

fn columns() -> Vec<Column> {
    let percent = |v: f64| format!("{:.2} %", 100.0 * v);
    let four = |v: f64| format!("{v:.4}");
    let whole = |v: f64| format!("{v:.0}");
    vec![
        ("Epochs", |r| Some(r.epochs as f64), whole, None),
        (
            "Best epoch",
            |r| r.best_epoch.map(|e| e as f64),
            whole,
            None,
        ),
        ("Val loss", |r| r.val_loss, four, Some(false)),
        ("Val accuracy", |r| r.val_accuracy, percent, Some(true)),
        ("Accuracy", |r| r.accuracy, percent, Some(true)),
        ("Macro AUROC", |r| r.macro_auroc, four, Some(true)),
        ("Macro F1", |r| r.macro_f1, four, Some(true)),
        ("Loss", |r| r.loss, four, Some(false)),
        ("ECE", |r| r.ece, four, Some(false)),
        (
            "Parameters",
            |r| r.params.map(|p| p as f64),
            |v| crate::report::grouped(v as usize),
            None,
        ),
        ("Seconds", |r| r.train_seconds, whole, None),
        ("Samples/s", |r| r.samples_per_second, whole, None),
    ]
}

pub(super) fn page(comparison: &Comparison) -> page::Comparison {
    let runs = &comparison.runs;
    let columns: Vec<Column> = columns()
        .into_iter()
        .filter(|c| runs.iter().any(|r| c.1(r).is_some()))
        .collect();
    let best: Vec<Option<f64>> = columns.iter().map(|c| best(runs, c)).collect();
    let row = |run: &RunRecord| page::Row {
        name: match run.split.as_deref() {
            Some(split) => format!("{} ({split})", run.name),
            None => run.name.clone(),
        },
        cells: columns
            .iter()
            .zip(&best)
            .map(|(column, best)| {
                let value = column.1(run);
                (
                    value.map_or("—".into(), column.2),
                    value.is_some() && value == *best,
                )
            })
            .collect(),
    };
    page::Comparison {
        runs: runs.iter().map(row).collect(),
        columns: columns.iter().map(|c| c.0.to_string()).collect(),
        notes: comparison.notes.clone(),
        curves: curves(runs),
        differences: differences(comparison),
        differences_note: "Accuracy against the first run on the samples that both answered, with the middle 95 % of paired \
                           bootstrap resamples; p is McNemar's exact test. It tells better models from luckier ones on these \
                           samples, not better settings: another seed may do the same."
            .into(),
        options: page::Table {
            columns: std::iter::once("Option".to_string())
                .chain(runs.iter().map(|r| r.name.clone()))
                .collect(),
            rows: comparison
                .options
                .iter()
                .map(|(key, values)| {
                    let shown = values.iter().map(|v| v.clone().unwrap_or_else(|| "—".into()));
                    std::iter::once(key.clone()).chain(shown).collect()
                })
                .collect(),
        },
        maker: PROGRAM.into(),
    }
}

/// The best value of a column with a direction, where there are several.
fn best(runs: &[RunRecord], column: &Column) -> Option<f64> {
    let known: Vec<f64> = runs.iter().filter_map(column.1).collect();
    let first = runs.first().map(|r| &r.split);
    if known.len() < 2 || runs.iter().any(|r| Some(&r.split) != first) {
        return None;
    }
    match column.3? {
        true => known.into_iter().reduce(f64::max),
        false => known.into_iter().reduce(f64::min),
    }
}

fn differences(comparison: &Comparison) -> page::Table {
    let points = |v: f64| format!("{:+.2}", 100.0 * v);
    let names = [
        "Run",
        "against",
        "Samples",
        "Accuracy, points",
        "95 %",
        "only it right",
        "only the other right",
        "p",
    ];
    page::Table {
        columns: names.map(String::from).to_vec(),
        rows: comparison
            .differences
            .iter()
            .map(|d| {
                vec![
                    d.run.clone(),
                    d.against.clone(),
                    d.samples.to_string(),
                    points(d.accuracy),
                    d.interval.map_or("—".into(), |[low, high]| {
                        format!("{} to {}", points(low), points(high))
                    }),
                    d.only_run.to_string(),
                    d.only_other.to_string(),
                    format!("{:.3}", d.p),
                ]
            })
            .collect(),
    }
}

fn curves(runs: &[RunRecord]) -> Vec<Chart> {
    let chart = |title: &str, y, value: fn(&EpochMetrics) -> Option<f64>| {
        let series = runs.iter().enumerate().map(|(n, run)| {
            let point = |r: &EpochMetrics| (r.epoch as f64, value(r).unwrap_or(f64::NAN));
            Series::new(
                &run.name,
                Tone::Number(n),
                run.rows.iter().map(point).collect(),
            )
        });
        Chart {
            y,
            ..Chart::new(title, "epoch", series.collect())
        }
    };
    vec![
        chart("Validation loss", Scale::Linear, |r| r.val_loss),
        chart("Validation accuracy", Scale::Percent, |r| r.val_accuracy),
        chart("Validation macro AUROC", Scale::Linear, |r| {
            r.val_macro_auroc
        }),
        chart("Training loss", Scale::Linear, |r| Some(r.train_loss)),
        chart("Training accuracy", Scale::Percent, |r| {
            Some(r.train_accuracy)
        }),
        chart("Learning rate", Scale::Linear, |r| Some(r.lr)),
    ]
}
