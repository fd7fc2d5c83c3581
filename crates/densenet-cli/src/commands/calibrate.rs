//! `densenet calibrate`: probabilities that mean what they say.

mod temperature;

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use densenet::{Input, Predictor};
use densenet_data::{Dataset, LastBatch, Loader, LoaderOptions, OpenOptions, Split, SplitOptions};
use densenet_spec::Architecture;
use densenet_train::{Calibration, install_signal_handlers, preprocessing_of};
use densenet_weights::Model;
use serde_json::{Value, json};

use super::wrote;
use crate::{
    failure::{BUG, DATA, Failure, NON_FINITE},
    options::{
        model,
        number::{positive, real, whole},
        run::RunOptions,
    },
    output,
};
use temperature::{Answers, Fit};

/// Scale a model's logits so that its probabilities are as often right as they say
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Calibrate {
    /// The model file
    model: PathBuf,
    /// What `train` takes: a folder of images or volumes, a .csv list, …, or `digits`
    data: PathBuf,
    /// The calibrated model file to write
    #[arg(short, long, value_name = "MODEL")]
    output: PathBuf,
    /// The part of the data to calibrate on: val, test or train; the network must not have been trained on it
    #[arg(long, value_enum, value_name = "SPLIT", default_value_t = Part::Val, hide_possible_values = true)]
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
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunOptions,
}

const AFTER_HELP: &str = "\
One number, the temperature, divides all logits; it is the one with the smallest mean cross entropy on the data. No answer \
changes, only how sure it is. The classifier's weight and bias are divided by it, so whatever the model file is turned into \
is calibrated, too; the file remembers the temperature.

Examples:
  densenet calibrate runs/digits-1/best.safetensors digits -o calibrated.safetensors
  densenet calibrate model.safetensors scans.csv --split test -o calibrated.safetensors --json";

/// [`Split`]'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Train,
    Val,
    Test,
}

impl Calibrate {
    /// Runs the model over the split, finds the temperature, writes the model.
    ///
    /// # Errors
    /// A model or data that cannot be used, answers that no temperature can help, numbers that are not finite.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        let mut model = model::load(&self.model)?;
        let dataset = Arc::new(Dataset::open(&self.data, &self.open_options(&model))?);
        let split = match self.split {
            Part::Train => Split::Train,
            Part::Val => Split::Val,
            Part::Test => Split::Test,
        };
        let answers = self.answers(&model, &dataset, split)?;
        let place = format!("{}, {split}", self.data.display());
        let fit = Fit::of(&answers).map_err(|refusal| {
            Failure::new(
                DATA,
                format_args!("{place}: {refusal} — calibrate on other data"),
            )
        })?;
        let before = Measured::of(&answers, 1.0);
        let after = Measured::of(&answers, fit.temperature);
        let total = divide(&mut model, fit.temperature)?;
        let record = json!({
            "temperature": total,
            "data": dataset.name(),
            "split": split.name(),
            "samples": answers.labels.len(),
            "nll": [before.nll, after.nll],
            "ece": [before.ece, after.ece],
        });
        remember(&mut model, record);
        model.save(&self.output)?;
        wrote(&self.output, &Architecture::new(&model.config)?);
        if self.json {
            return output::print_json(&json!({
                "temperature": fit.temperature,
                "total_temperature": total,
                "samples": answers.labels.len(),
                "split": split.name(),
                "before": before.json(),
                "after": after.json(),
                "output": self.output.display().to_string(),
            }));
        }
        let change = |a: f64, b: f64| format!("{a:.4} -> {b:.4}");
        let mut lines = vec![
            ("Temperature", format!("{:.4}", fit.temperature)),
            ("Samples", output::grouped(answers.labels.len() as u64)),
            ("NLL", change(before.nll, after.nll)),
            ("ECE, 15 bins", change(before.ece, after.ece)),
        ];
        if (total - fit.temperature).abs() > 1e-12 {
            lines.insert(1, ("Since training", format!("{total:.4}")));
        }
        let lines: Vec<_> = lines
            .into_iter()
            .map(|(label, value)| (label.to_string(), value))
            .collect();
        let title = format!("{} on {place}\n", self.model.display());
        output::print(&(title + &output::pairs(&lines, output::width())))
    }

    /// The logits of every sample of the split.
    fn answers(
        &self,
        model: &Model,
        dataset: &Arc<Dataset>,
        split: Split,
    ) -> Result<Answers, Failure> {
        let stop = install_signal_handlers()
            .map_err(|error| Failure::new(BUG, format_args!("signals: {error} — report this")))?;
        let classes = model.config.num_classes;
        if dataset.classes().len() > classes {
            return Err(Failure::new(
                DATA,
                format_args!(
                    "{}: {} classes, while the model tells {classes} apart — calibrate on data with the model's classes",
                    self.data.display(),
                    dataset.classes().len()
                ),
            ));
        }
        let threads = self.run.threads;
        let usual = LoaderOptions::evaluation(self.batch_size);
        let options = LoaderOptions {
            threads: threads.unwrap_or(usual.threads),
            last: LastBatch::Keep,
            ..usual
        };
        let preprocessing = preprocessing_of(model)?;
        let loader = Loader::new(Arc::clone(dataset), split, preprocessing, options)?;
        let predictor = Predictor::new(&model.config, &model.state)?;
        let mut reporter = output::reporter();
        for note in dataset.notes() {
            reporter.note(note);
        }
        let mut answers = Answers {
            logits: Vec::new(),
            labels: Vec::new(),
            classes,
        };
        for batch in loader.epoch(0, 0) {
            let batch = batch?;
            if let Some(signal) = stop.raised() {
                return Err(Failure::silent(u8::try_from(128 + signal).unwrap_or(130)));
            }
            let input = Input {
                data: &batch.data,
                batch: batch.len(),
                spatial: batch.spatial,
            };
            let logits = predictor.run(input)?;
            if logits.iter().any(|z| !z.is_finite()) {
                return Err(Failure::new(
                    NON_FINITE,
                    format_args!(
                        "{}: its answers on {} are not finite — check the model and the images",
                        self.model.display(),
                        self.data.display()
                    ),
                ));
            }
            answers.logits.extend(logits);
            answers.labels.extend_from_slice(&batch.labels);
            let done = answers.labels.len();
            reporter.progress("calibrating", done, loader.samples());
            loader.recycle(batch);
        }
        reporter.finished();
        Ok(answers)
    }

    /// The model's classes, and the division into splits that it was trained with.
    fn open_options(&self, model: &Model) -> OpenOptions {
        let trained = |key: &str| model.provenance.as_ref().and_then(|p| p.get(key));
        let default = SplitOptions::default();
        let share = |given: Option<f64>, key: &str, usual: f64| {
            let remembered = || trained(key).and_then(Value::as_f64);
            given.or_else(remembered).unwrap_or(usual)
        };
        let seed = self.split_seed.map(|seed| seed as u64);
        let remembered = || trained("split_seed").and_then(Value::as_u64);
        OpenOptions {
            split: SplitOptions {
                seed: seed.or_else(remembered).unwrap_or(default.seed),
                val: share(self.val_split, "val_split", default.val),
                test: share(self.test_split, "test_split", default.test),
            },
            classes: model.classes.clone(),
        }
    }
}

/// How good probabilities are.
struct Measured {
    nll: f64,
    ece: f64,
}

impl Measured {
    fn of(answers: &Answers, temperature: f64) -> Self {
        let probabilities = answers.probabilities(temperature);
        let calibration = Calibration::new(&probabilities, &answers.likeliest(), &answers.labels);
        Measured {
            nll: answers.loss(1.0 / temperature).value,
            ece: calibration.map_or(0.0, |c| c.ece),
        }
    }

    fn json(&self) -> Value {
        json!({"nll": self.nll, "ece": self.ece})
    }
}

/// Divides the classifier by the temperature; what it has been divided by since training.
fn divide(model: &mut Model, temperature: f64) -> Result<f64, Failure> {
    for name in ["classifier.weight", "classifier.bias"] {
        let Some(tensor) = model.state.get_mut(name) else {
            return Err(Failure::new(
                BUG,
                format_args!("{name}: missing — report this"),
            ));
        };
        for value in &mut tensor.data {
            *value = (f64::from(*value) / temperature) as f32;
        }
    }
    let earlier = model
        .provenance
        .as_ref()
        .and_then(|p| p.get("calibration")?.get("temperature")?.as_f64());
    Ok(earlier.unwrap_or(1.0) * temperature)
}

/// Puts the record into the model's provenance.
fn remember(model: &mut Model, record: Value) {
    match &mut model.provenance {
        Some(Value::Object(fields)) => {
            fields.insert("calibration".into(), record);
        }
        other => *other = Some(json!({ "calibration": record })),
    }
}
