//! From findings to a page.

use densenet_data::{Dataset, Split};
use densenet_report::{Chart, Facts as Table, Figure, Report, Scale, Series, Status, Tone};

use super::{Findings, HeldOut, PROGRAM, Pace, Training, facts};
use crate::{
    checkpoint::EpochMetrics, config::TrainConfig, early_stopping::Monitor, metrics::Interval,
};

mod scores;

impl Findings<'_> {
    /// The page.
    pub(super) fn page(&self) -> Report {
        let training = self.training.as_ref();
        Report {
            title: self.title.clone(),
            kind: match training {
                Some(_) => "Training run".into(),
                None => "Evaluation".into(),
            },
            status: training.map_or(Status::default(), |t| Status {
                text: t.reason.clone(),
                complete: t.complete,
            }),
            notes: notes(self),
            figures: figures(self),
            curves: training.map_or(Vec::new(), curves),
            epochs: training.map_or_else(Default::default, |t| epochs(t.rows)),
            scores: self.held_out.as_ref().map(|h| scores::of(self, h)),
            facts: facts_of(self),
            configuration: training
                .and_then(|t| t.config.to_toml().ok())
                .unwrap_or_default(),
            maker: PROGRAM.into(),
        }
    }
}

/// What the reader should know before believing the numbers.
fn notes(findings: &Findings<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    match &findings.held_out {
        None => notes.push("No samples were held back, so nothing is known about new ones.".into()),
        Some(held_out) => {
            let evaluation = &held_out.assessment.evaluation;
            if findings.training.is_some() && held_out.split == Split::Val {
                notes.push(
                    "The scores are those of the validation split, by which the best epoch was chosen: on new samples they will be a little lower."
                        .into(),
                );
            }
            if held_out.split == Split::Train {
                notes.push("The scores are those of the training split: they say nothing about new samples.".into());
            }
            if !evaluation.auroc_skipped.is_empty() {
                let names = evaluation.auroc_skipped.join(", ");
                notes.push(format!(
                    "AUROC leaves out classes without samples on both sides: {names}."
                ));
            }
        }
    }
    notes
}

fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}

/// The numbers that matter most.
fn figures(findings: &Findings<'_>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut put = |label: &str, value: String, below: String| {
        figures.push(Figure {
            label: label.into(),
            value,
            below,
        });
    };
    if let Some(HeldOut {
        assessment, split, ..
    }) = &findings.held_out
    {
        let (e, i) = (&assessment.evaluation, assessment.intervals.as_ref());
        let range = |interval: Option<Interval>, form: &dyn Fn(f64) -> String| {
            interval.map_or(String::new(), |[low, high]| {
                format!("{} – {}", form(low), form(high))
            })
        };
        let three = |v: f64| format!("{v:.3}");
        put(
            &format!("Accuracy ({split})"),
            percent(e.accuracy),
            range(i.and_then(|i| i.accuracy), &percent),
        );
        if let Some(auroc) = e.macro_auroc {
            put(
                "Macro AUROC",
                three(auroc),
                range(i.and_then(|i| i.macro_auroc), &three),
            );
        }
        if let Some(f1) = e.macro_f1 {
            put(
                "Macro F1",
                three(f1),
                range(i.and_then(|i| i.macro_f1), &three),
            );
        }
        put("Loss", format!("{:.4}", e.loss), "cross entropy".into());
        if let Some(c) = &assessment.calibration {
            put("Calibration error", three(c.ece), "ECE, 15 bins".into());
        }
        if let Some(top5) = e.top5 {
            put("Top-5 accuracy", percent(top5), String::new());
        }
    }
    if let Some(training) = &findings.training {
        if let Some(best) = training.best {
            let below = match training.config.monitor {
                Monitor::Accuracy => format!("accuracy {}", percent(best.value)),
                Monitor::Loss => format!("loss {:.4}", best.value),
                Monitor::MacroAuroc => format!("macro AUROC {:.4}", best.value),
            };
            put(
                "Best epoch",
                format!("{} of {}", best.epoch, training.rows.len()),
                match training.rows.iter().any(|r| r.val_loss.is_some()) {
                    true => format!("{below} (val)"),
                    false => "the last: there is no validation split".into(),
                },
            );
        }
        let pace = Pace::new(&training.timing);
        if let Some(samples) = pace.samples_per_second {
            put(
                "Throughput",
                format!("{samples:.0} /s"),
                "samples in training, median epoch".into(),
            );
        }
    }
    figures
}

/// Loss, accuracy, AUROC, learning rate, pace.
fn curves(training: &Training<'_>) -> Vec<Chart> {
    let line = |name: &str, tone, value: &dyn Fn(&EpochMetrics) -> Option<f64>| {
        let point = |r: &EpochMetrics| (r.epoch as f64, value(r).unwrap_or(f64::NAN));
        Series::new(name, tone, training.rows.iter().map(point).collect())
    };
    let mark = training.best.map(|b| (b.epoch as f64, "best".to_string()));
    let chart = |title: &str, y, series: Vec<Series>| {
        let drawn = series.into_iter();
        let known = |s: &Series| s.points.iter().any(|p| p.1.is_finite());
        Chart {
            y,
            mark: mark.clone(),
            ..Chart::new(title, "epoch", drawn.filter(known).collect())
        }
    };
    let quiet = Tone::Quiet;
    let mut charts = vec![
        chart(
            "Loss",
            Scale::Linear,
            vec![
                line("training", quiet, &|r| Some(r.train_loss)),
                line("validation", Tone::Main, &|r| r.val_loss),
            ],
        ),
        chart(
            "Accuracy",
            Scale::Percent,
            vec![
                line("training", quiet, &|r| Some(r.train_accuracy)),
                line("validation", Tone::Main, &|r| r.val_accuracy),
            ],
        ),
        chart(
            "Macro AUROC",
            Scale::Linear,
            vec![line("validation", Tone::Main, &|r| r.val_macro_auroc)],
        ),
        Chart {
            mark: None,
            ..chart(
                "Learning rate",
                Scale::Linear,
                vec![line("last step of the epoch", Tone::Main, &|r| Some(r.lr))],
            )
        },
    ];
    if let Some(loss) = charts.first_mut() {
        loss.caption = loss_caption(training.config);
    }
    let pace = training.timing.iter();
    let points = pace
        .map(|t| (t.epoch as f64, t.samples_per_second()))
        .collect();
    charts.push(Chart {
        mark: None,
        ..chart(
            "Samples per second",
            Scale::Amount,
            vec![Series::new("training", Tone::Main, points)],
        )
    });
    charts
}

/// Why the two losses do not compare as they stand.
fn loss_caption(config: &TrainConfig) -> String {
    let mut differences = vec!["as the weights changed"];
    if config.label_smoothing > 0.0 {
        differences.push("with label smoothing");
    }
    if config.class_weights.is_some() {
        differences.push("with class weights");
    }
    if !config.augment.is_none() {
        differences.push("on augmented samples");
    }
    format!(
        "Training: {}. Validation: plain cross entropy.",
        differences.join(", ")
    )
}

/// `metrics.csv` for reading.
fn epochs(rows: &[EpochMetrics]) -> densenet_report::Table {
    let four = |value: f64| format!("{value:.4}");
    let maybe = |value: Option<f64>, form: &dyn Fn(f64) -> String| value.map_or("—".into(), form);
    let names = [
        "Epoch",
        "Learning rate",
        "Loss, training",
        "Accuracy, training",
        "Loss, validation",
        "Accuracy, validation",
        "Macro AUROC, validation",
    ];
    densenet_report::Table {
        columns: names.map(String::from).to_vec(),
        rows: rows
            .iter()
            .map(|r| {
                vec![
                    r.epoch.to_string(),
                    format!("{:.3e}", r.lr),
                    four(r.train_loss),
                    percent(r.train_accuracy),
                    maybe(r.val_loss, &four),
                    maybe(r.val_accuracy, &percent),
                    maybe(r.val_macro_auroc, &four),
                ]
            })
            .collect(),
    }
}

fn facts_of(findings: &Findings<'_>) -> Vec<Table> {
    let facts = facts::Facts::new(findings);
    let list = |title: &str, rows: Vec<(&str, String)>| Table {
        title: title.into(),
        rows: rows.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
    };
    let config = &findings.model.config;
    let blocks: Vec<String> = config.block_config.iter().map(usize::to_string).collect();
    let mut network = vec![
        ("Dimensions", format!("{}-D", config.spatial_dims)),
        (
            "Blocks",
            format!("{} (growth rate {})", blocks.join(", "), config.growth_rate),
        ),
    ];
    if let Some(parameters) = facts.parameters() {
        network.push(("Parameters", grouped(parameters)));
    }
    if let Some(training) = &findings.training {
        network.push(("Trained", grouped(training.trainable)));
        network.insert(
            0,
            ("Model", training.config.model.clone().unwrap_or_default()),
        );
    }
    if let Some(macs) = facts.macs() {
        network.push((
            "Multiply-adds of a sample",
            grouped(usize::try_from(macs).unwrap_or(usize::MAX)),
        ));
    }
    let mut lists = vec![data(findings), list("Network", network)];
    if let Some(training) = &findings.training {
        let pace = Pace::new(&training.timing);
        let mut rows = vec![
            ("Training", seconds(pace.train_seconds)),
            ("Evaluation", seconds(pace.evaluation_seconds)),
        ];
        if let Some(samples) = pace.samples_per_second {
            rows.push(("Samples per second", format!("{samples:.1} (median epoch)")));
        }
        rows.push((
            "Waiting for samples",
            format!("{:.1} % of the time", 100.0 * pace.waiting_share),
        ));
        rows.push(("Threads", rayon::current_num_threads().to_string()));
        rows.push(("Instruction set", facts::isa()));
        lists.push(list("Throughput", rows));
    }
    lists
}

/// Samples of each class and split.
fn data(findings: &Findings<'_>) -> Table {
    let dataset: &Dataset = findings.dataset;
    let total = |split| dataset.indices(split).len();
    let splits = Split::ALL.map(|split| format!("{} {split}", grouped(total(split))));
    let mut rows = vec![
        ("Name".to_string(), dataset.name().to_string()),
        ("Samples".to_string(), splits.join(", ")),
        ("Classes".to_string(), dataset.classes().len().to_string()),
    ];
    if let Some([depth, height, width]) = findings.spatial {
        let size = if depth == 1 {
            format!("{height}×{width}")
        } else {
            format!("{depth}×{height}×{width}")
        };
        rows.push((
            "Input".into(),
            format!("{size}, {} channels", findings.model.config.in_channels),
        ));
    }
    let counts = Split::ALL.map(|split| dataset.class_counts(split));
    for (class, name) in dataset.classes().iter().enumerate().take(MOST_CLASSES) {
        let of = counts
            .each_ref()
            .map(|c| c.get(class).copied().unwrap_or(0).to_string());
        rows.push((name.clone(), of.join(" / ")));
    }
    if dataset.classes().len() > MOST_CLASSES {
        let more = dataset.classes().len() - MOST_CLASSES;
        rows.push((format!("… and {more} more"), String::new()));
    }
    rows.extend(
        dataset
            .notes()
            .iter()
            .map(|note| ("Note".to_string(), note.clone())),
    );
    Table {
        title: "Data (train / val / test)".into(),
        rows,
    }
}

/// Classes whose samples are listed.
const MOST_CLASSES: usize = 30;

fn grouped(n: usize) -> String {
    crate::report::grouped(n)
}

fn seconds(seconds: f64) -> String {
    crate::report::duration(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
