//! `densenet eval`: how well a model does on labelled images.

mod several;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use densenet_data::{Dataset, OpenOptions, Split, SplitOptions};
use densenet_train::{
    Assessment, Bootstrap, EvaluateOptions, Evaluation, Interval, REPORT, evaluate,
    install_signal_handlers, report_evaluation,
};
use densenet_weights::Model;
use serde_json::Value;

use super::panel::{PanelOptions, tell_calibration};
use crate::{
    failure::{BUG, Failure},
    options::{
        model,
        number::{positive, real, whole},
        run::RunOptions,
    },
    output::{self, grouped, pairs},
    table::Table,
};
use several::{Question, Spread};

/// Measure a model on labelled images: accuracy, loss, AUROC, confusion, calibration
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Eval {
    /// The model file
    model: PathBuf,
    /// What `train` takes: a folder of images, a .csv list, …, or `digits`
    data: PathBuf,
    /// The part of the data to look at: train, val or test
    #[arg(long, value_enum, value_name = "SPLIT", default_value_t = Part::Test, hide_possible_values = true)]
    split: Part,
    /// Images at a time; changes no bit of the result
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    batch_size: usize,
    /// Share for validation where the data has no validation split [default: as in training]
    #[arg(long, value_name = "0..1", value_parser = real)]
    val_split: Option<f64>,
    /// Share for testing where the data has no splits at all [default: as in training]
    #[arg(long, value_name = "0..1", value_parser = real)]
    test_split: Option<f64>,
    /// Seed of the division into splits [default: as in training]
    #[arg(long, value_name = "N", value_parser = whole)]
    split_seed: Option<usize>,
    /// Write report.html, predictions.csv and summary.json into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Bootstrap resamples of the intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = Bootstrap::default().resamples, value_parser = whole)]
    resamples: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    panel: PanelOptions,
    #[command(flatten)]
    run: RunOptions,
}

const AFTER_HELP: &str = "\
Images are prepared exactly as they were for training. The data's classes are matched with the model's by name. \
Intervals are where the middle 95 % of bootstrap resamples lie.

With --ensemble or --tta the mean of several answers is measured, as `predict` gives it; their spread is shown, too.

Examples:
  densenet eval runs/digits-1/best.safetensors digits
  densenet eval model.safetensors photos/ --split val
  densenet eval model.safetensors hospital-b/ --report hospital-b-report
  densenet eval model.safetensors list.csv --json
  densenet eval fold1.safetensors photos/ --ensemble fold2.safetensors --tta hflip";

/// [`Split`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Train,
    Val,
    Test,
}

impl Eval {
    /// Opens the data as the model needs it, runs the model over it, prints.
    ///
    /// # Errors
    /// A model or data that cannot be used, classes that do not match, numbers that are not finite.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        let stop = install_signal_handlers()
            .map_err(|error| Failure::new(BUG, format_args!("signals: {error} — report this")))?;
        let model = model::load(&self.model)?;
        let dataset = Arc::new(Dataset::open(&self.data, &self.open_options(&model))?);
        let mut reporter = output::reporter();
        for note in dataset.notes() {
            reporter.note(note);
        }
        let split = match self.split {
            Part::Train => Split::Train,
            Part::Val => Split::Val,
            Part::Test => Split::Test,
        };
        let options = EvaluateOptions {
            batch_size: self.batch_size,
            threads: self
                .run
                .threads
                .unwrap_or(EvaluateOptions::default().threads),
        };
        let answered = if self.panel.wanted() {
            let question = Question {
                panel: &self.panel.panel(&self.model)?,
                dataset: &dataset,
                split,
                options,
            };
            let several = question.answer(&mut *reporter, &stop);
            several.map(|found| found.map(|(evaluation, spread)| (evaluation, Some(spread))))
        } else {
            tell_calibration(&model, &self.model);
            let one = evaluate(&model, &dataset, split, options, &mut *reporter, &stop);
            one.map(|found| found.map(|evaluation| (evaluation, None)))
                .map_err(Failure::from)
        };
        reporter.finished();
        let Some((evaluation, spread)) = answered? else {
            let signal = stop.raised().unwrap_or(2);
            return Err(Failure::silent(u8::try_from(128 + signal).unwrap_or(130)));
        };
        let bootstrap = Bootstrap {
            resamples: self.resamples.min(MOST_RESAMPLES),
            ..Bootstrap::default()
        };
        let assessment = Assessment::of(evaluation, &dataset, bootstrap);
        let title = format!(
            "{}{} on {}, {split}",
            self.model.display(),
            self.panel.others(),
            self.data.display()
        );
        if let Some(folder) = &self.report {
            report_evaluation(folder, &title, &model, &dataset, split, &assessment)?;
            output::note(&format!("wrote {}", folder.join(REPORT).display()));
        }
        if self.json {
            return output::print_json(&document(&assessment, spread.as_ref(), &self.data, split)?);
        }
        output::print(&text(&title, &assessment, spread.as_ref(), output::width()))
    }

    /// The model's classes, and the division into splits that it was trained with.
    fn open_options(&self, model: &Model) -> OpenOptions {
        let trained = |key: &str| model.provenance.as_ref().and_then(|p| p.get(key));
        let default = SplitOptions::default();
        let share = |given: Option<f64>, key: &str, usual: f64| {
            given
                .or_else(|| trained(key).and_then(Value::as_f64))
                .unwrap_or(usual)
        };
        let seed = self.split_seed.map(|seed| seed as u64);
        OpenOptions {
            split: SplitOptions {
                seed: seed
                    .or_else(|| trained("split_seed").and_then(Value::as_u64))
                    .unwrap_or(default.seed),
                val: share(self.val_split, "val_split", default.val),
                test: share(self.test_split, "test_split", default.test),
            },
            classes: model.classes.clone(),
        }
    }
}

/// More say nothing new.
const MOST_RESAMPLES: usize = 100_000;

/// The evaluation's own document, with what was evaluated.
fn document(
    assessment: &Assessment,
    spread: Option<&Spread>,
    data: &Path,
    split: Split,
) -> Result<Value, Failure> {
    let mut document = serde_json::to_value(assessment)
        .map_err(|error| Failure::new(BUG, format_args!("eval: {error} — report this")))?;
    if let Value::Object(fields) = &mut document {
        fields.insert("data".into(), data.display().to_string().into());
        fields.insert("split".into(), split.name().into());
        for (key, value) in spread.into_iter().flat_map(Spread::fields) {
            fields.insert(key.into(), value);
        }
    }
    Ok(document)
}

fn text(title: &str, assessment: &Assessment, spread: Option<&Spread>, width: usize) -> String {
    let evaluation = &assessment.evaluation;
    let intervals = assessment.intervals.as_ref();
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let four = |value: f64| format!("{value:.4}");
    let with = |value: String, interval: Option<Interval>, form: &dyn Fn(f64) -> String| {
        interval.map_or(value.clone(), |[low, high]| {
            format!("{value}  ({} to {})", form(low), form(high))
        })
    };
    let accuracy = with(
        percent(evaluation.accuracy),
        intervals.and_then(|i| i.accuracy),
        &percent,
    );
    let mut lines = vec![
        ("Images", grouped(evaluation.samples as u64)),
        ("Accuracy", accuracy),
        ("Loss", four(evaluation.loss)),
    ];
    if let Some(top5) = evaluation.top5 {
        lines.push(("Top-5 accuracy", percent(top5)));
    }
    if let Some(auroc) = evaluation.macro_auroc {
        let interval = intervals.and_then(|i| i.macro_auroc);
        lines.push(("Macro AUROC", with(four(auroc), interval, &four)));
    }
    if let Some(f1) = evaluation.macro_f1 {
        let interval = intervals.and_then(|i| i.macro_f1);
        lines.push(("Macro F1", with(four(f1), interval, &four)));
    }
    if let Some(calibration) = &assessment.calibration {
        lines.push(("Calibration error", four(calibration.ece)));
    }
    if let Some(spread) = spread {
        let least = spread.accuracies.iter().copied().fold(1.0, f64::min);
        let most = spread.accuracies.iter().copied().fold(0.0, f64::max);
        let said = format!(
            "{} for each image; {} disagree with their mean; alone {} to {} are right",
            spread.votes,
            percent(spread.disagreement),
            percent(least),
            percent(most)
        );
        lines.push(("Answers", said));
    }
    let lines: Vec<_> = lines
        .into_iter()
        .map(|(label, value)| (label.to_string(), value))
        .collect();
    let mut text = crate::table::wrap(title, width, 2) + &pairs(&lines, width) + "\n";
    text += &classes(evaluation).render(width);
    if let Some(confusion) = confusion(evaluation, width) {
        text += "\nConfusion: rows are the true class, columns the answer\n";
        text += &confusion;
    }
    text
}

/// One row for each class.
fn classes(evaluation: &Evaluation) -> Table {
    let mut table = Table::new(&["Class", "Images", "Precision", "Recall", "F1", "AUROC"]);
    let share = |value: Option<f64>| value.map_or("—".to_string(), |v| format!("{v:.3}"));
    for class in &evaluation.per_class {
        table.row(vec![
            class.class.clone(),
            class.samples.to_string(),
            share(class.precision),
            share(class.recall),
            share(class.f1),
            share(class.auroc),
        ]);
    }
    table
}

/// The confusion matrix with numbered columns, where it fits.
fn confusion(evaluation: &Evaluation, width: usize) -> Option<String> {
    let numbers: Vec<String> = (0..evaluation.classes.len())
        .map(|i| i.to_string())
        .collect();
    let headings: Vec<&str> = std::iter::once("")
        .chain(numbers.iter().map(String::as_str))
        .collect();
    let mut table = Table::new(&headings);
    for (index, (class, row)) in evaluation
        .classes
        .iter()
        .zip(&evaluation.confusion)
        .enumerate()
    {
        let name = if *class == numbers[index] {
            class.clone()
        } else {
            format!("{index} {class}")
        };
        let dot = |&count: &u64| {
            if count == 0 {
                "·".to_string()
            } else {
                count.to_string()
            }
        };
        table.row(std::iter::once(name).chain(row.iter().map(dot)).collect());
    }
    (table.width() <= width).then(|| table.render(width))
}
