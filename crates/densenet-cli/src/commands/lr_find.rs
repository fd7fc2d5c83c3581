//! `densenet lr-find`: which learning rate to train with.

use std::path::PathBuf;

use clap::Args;
use densenet_train::{
    LrSweep, StopFlag, SweepOptions, TrainConfig, install_signal_handlers, lr_find,
};
use densenet_weights::atomic;

use super::train::{Choices, layers};
use crate::{
    failure::{BUG, Failure, IO},
    options::{
        config::ConfigOptions,
        number::{real, whole},
        run::RunOptions,
        train::{DataOptions, ModelOptions, OptimisationOptions},
    },
    output::{self, pairs},
    table::wrap,
};

/// Try learning rates for a hundred steps and suggest the highest one to train with
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct LrFind {
    /// What `train` takes [default: the embedded digits]
    data: Option<String>,
    /// A file of options, as `train` takes it
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// The first rate
    #[arg(long, value_name = "X", default_value_t = SweepOptions::default().from, value_parser = real)]
    from: f64,
    /// The last rate
    #[arg(long, value_name = "X", default_value_t = SweepOptions::default().to, value_parser = real)]
    to: f64,
    /// Steps from the first to the last
    #[arg(long, value_name = "N", default_value_t = SweepOptions::default().steps, value_parser = whole)]
    steps: usize,
    /// Write lr-find.csv, lr-find.svg and lr-find.html into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    data_options: DataOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    optimisation: OptimisationOptions,
    #[command(flatten)]
    network: ConfigOptions,
}

const AFTER_HELP: &str = "\
A network of its own is trained and thrown away: no model and no run is touched. The rate grows by the same factor from \
step to step, until the loss explodes. Give the options that the run will have; those of its course (epochs, schedule, \
warm-up) change nothing here.

Examples:
  densenet lr-find
  densenet lr-find photos/ --model densenet121 --image-size 224 --batch-size 16
  densenet lr-find photos/ --model start.safetensors --replace-head --out lr
  densenet lr-find scans/ --optimizer adamw --to 1 --json";

impl LrFind {
    /// Sweeps, prints, and writes the curve where asked to.
    ///
    /// # Errors
    /// Whatever `train` refuses before its first step; a range that is none; `--lr`.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        if self.optimisation.lr.is_some() {
            return Err(Failure::usage(
                "--lr: lr-find tries rates itself — give --from and --to",
            ));
        }
        let stop = install_signal_handlers()
            .map_err(|error| Failure::new(BUG, format_args!("signals: {error} — report this")))?;
        let found = self.find(&stop)?;
        if let Some(folder) = &self.out {
            write(folder, &found)?;
        }
        if self.json {
            let document = serde_json::to_value(&found).map_err(|error| {
                Failure::new(BUG, format_args!("lr-find: {error} — report this"))
            })?;
            return output::print_json(&document);
        }
        output::print(&text(&found, output::width()))
    }

    fn find(&self, stop: &StopFlag) -> Result<LrSweep, Failure> {
        let config = TrainConfig::layered(&layers(&Choices {
            data: self.data.as_deref(),
            config: self.config.as_deref(),
            data_options: &self.data_options,
            model: &self.model,
            optimisation: &self.optimisation,
            saving: None,
            network: &self.network,
        })?)?;
        let options = SweepOptions {
            from: self.from,
            to: self.to,
            steps: self.steps,
        };
        let mut reporter = output::reporter();
        let found = lr_find(&config, options, &mut *reporter, stop)?;
        found.ok_or_else(|| {
            let signal = stop.raised().unwrap_or(2);
            Failure::silent(u8::try_from(128 + signal).unwrap_or(130))
        })
    }
}

fn write(folder: &std::path::Path, found: &LrSweep) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let folder = folder.display();
        Failure::new(
            IO,
            format_args!("{folder}: cannot create the folder: {error} — check the path"),
        )
    })?;
    for (name, text) in [
        ("lr-find.csv", found.csv()),
        ("lr-find.svg", found.svg()),
        ("lr-find.html", found.html()),
    ] {
        let path = folder.join(name);
        atomic::write(&path, |out| out.write_all(text.as_bytes()))?;
        output::note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

fn text(found: &LrSweep, width: usize) -> String {
    let rate = |value: Option<f64>| value.map_or("—".to_string(), |v| format!("{v:.2e}"));
    let line = |name: &str, value: String| (name.to_string(), value);
    let mut text = sketch(found, width);
    text += "\n";
    text += &pairs(
        &[
            line("Suggestion", rate(found.suggestion)),
            line("Falls fastest at", rate(found.steepest)),
            line("Lowest at", rate(found.minimum)),
            line("Exploded at", rate(found.diverged_at)),
            line("Steps", found.points.len().to_string()),
        ],
        width,
    );
    text + "\n" + &wrap(&found.verdict(), width, 0)
}

/// The smoothed loss in eight heights, one column for each few steps.
fn sketch(found: &LrSweep, width: usize) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let every = found.points.len().div_ceil(width.min(100)).max(1);
    let chosen: Vec<_> = found.points.iter().step_by(every).collect();
    let known = || chosen.iter().map(|p| p.smoothed);
    let (low, high) = known().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
        (l.min(v), h.max(v))
    });
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else {
        return "The loss exploded at the first rate.\n".into();
    };
    let height = |v: f64| {
        let share = (v - low) / (high - low).max(f64::MIN_POSITIVE);
        HEIGHTS[((share * 7.0).round().clamp(0.0, 7.0)) as usize]
    };
    let bars: String = known().map(height).collect();
    format!(
        "Loss from {high:.3} to {low:.3} over rates from {:.1e} to {:.1e}\n{bars}\n",
        first.lr, last.lr
    )
}
