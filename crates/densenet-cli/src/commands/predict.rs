//! `densenet predict`: what is on these images, in these volumes?

mod classify;
mod explain;
mod files;
mod form;

use std::path::PathBuf;

use clap::Args;
use densenet_weights::atomic;

use super::panel::{PanelOptions, Spread};
use crate::{
    failure::{DATA, Failure},
    options::{number::positive, run::RunOptions},
    output,
};
use classify::Classifier;
use explain::{ExplainOptions, Explained};

/// Classify images or volumes: files, and folders of them
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Predict {
    /// The model file
    model: PathBuf,
    /// Image or volume files, folders of a DICOM series, or folders that are searched for them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Classes to show for each image, the likeliest first
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    top_k: usize,
    /// Print one JSON document
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Write a table of comma-separated values to FILE, or print it
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", require_equals = true)]
    csv: Option<PathBuf>,
    #[command(flatten)]
    panel: PanelOptions,
    #[command(flatten)]
    explain: ExplainOptions,
    #[command(flatten)]
    run: RunOptions,
}

const AFTER_HELP: &str = "\
Images are prepared exactly as they were for training; the model file says how. An image that cannot be read is named \
and left out; the exit code is then 3.

With --ensemble or --tta several answers are averaged, and their spread is shown: the standard deviation, the smallest and \
largest probability of each class, and the share of the answers whose likeliest class is another one.

--explain DIR draws where the answer comes from: for images a PNG, for volumes a NIfTI file that lies on the scan and a PNG \
with three planes through the place of the strongest evidence.

Examples:
  densenet predict runs/digits-1/best.safetensors photo.png
  densenet predict scans.safetensors patient7.nii.gz dicom/patient8/
  densenet predict model.safetensors holiday/ --top-k 1 --json
  densenet predict model.safetensors a.jpg b.jpg --csv=result.csv
  densenet predict fold1.safetensors --ensemble fold2.safetensors --ensemble fold3.safetensors --tta hflip photos/
  densenet predict model.safetensors photo.jpg --explain maps/
  densenet predict scans.safetensors p7.nii.gz --explain maps/ --explain-method gradcam --explain-layer denseblock3";

/// What the network makes of one image.
struct Prediction {
    path: PathBuf,
    /// The likeliest classes, or why there is no answer.
    answer: Result<Answer, String>,
}

/// The answer for one image.
struct Answer {
    top: Vec<Candidate>,
    /// Where several answers were averaged: how many, and the share of them with another likeliest class.
    votes: Option<(usize, f64)>,
    explained: Vec<Explained>,
}

/// One class and how likely it is.
struct Candidate {
    class: String,
    index: usize,
    probability: f64,
    /// Where several answers were averaged: how far they lie apart.
    spread: Option<Spread>,
}

impl Predict {
    /// Finds the images, classifies them, prints.
    ///
    /// # Errors
    /// A model file that cannot be used, an explanation that is impossible or cannot be written. Images that cannot be read
    /// are reported one by one and make the exit code 3.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        if self.explain.wanted() && self.panel.wanted() {
            return Err(Failure::usage(
                "--explain: explains one answer of one model — leave out --ensemble and --tta",
            ));
        }
        let classifier = Classifier::new(self.panel.panel(&self.model)?);
        let explainer = self.explain.explainer(&classifier)?;
        let files = files::find(&self.paths, classifier.takes_volumes());
        let predictions = classifier.classify(files, self.top_k, explainer.as_ref())?;
        let mut failed = 0;
        for prediction in &predictions {
            if let Err(reason) = &prediction.answer {
                failed += 1;
                output::note(&format!("error: {reason}"));
            }
        }
        match &self.csv {
            Some(path) if path.as_os_str() == "-" => {
                output::print(&form::csv(&predictions, classifier.votes()))?;
            }
            Some(path) => {
                let table = form::csv(&predictions, classifier.votes());
                atomic::write(path, |out| out.write_all(table.as_bytes()))?;
                output::note(&format!("wrote {}", path.display()));
            }
            None if self.json => output::print_json(&form::json(&predictions))?,
            None => output::print(&form::text(&predictions, output::width()))?,
        }
        match failed {
            0 => Ok(()),
            _ => Err(Failure::silent(DATA)),
        }
    }
}
