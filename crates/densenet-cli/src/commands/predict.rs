//! `densenet predict`: what is on these images, in these volumes?

mod classify;
mod files;
mod form;

use std::path::PathBuf;

use clap::Args;
use densenet_weights::atomic;

use crate::{
    failure::{DATA, Failure},
    options::{model, number::positive, run::RunOptions},
    output,
};
use classify::Classifier;

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
    run: RunOptions,
}

const AFTER_HELP: &str = "\
Images are prepared exactly as they were for training; the model file says how. An image that cannot be read is named
and left out; the exit code is then 3.

Examples:
  densenet predict runs/digits-1/best.safetensors photo.png
  densenet predict scans.safetensors patient7.nii.gz dicom/patient8/
  densenet predict model.safetensors holiday/ --top-k 1 --json
  densenet predict model.safetensors a.jpg b.jpg --csv=result.csv";

/// What the network makes of one image.
struct Prediction {
    path: PathBuf,
    /// The likeliest classes, or why there is no answer.
    answer: Result<Vec<Candidate>, String>,
}

/// One class and how likely it is.
struct Candidate {
    class: String,
    index: usize,
    probability: f64,
}

impl Predict {
    /// Finds the images, classifies them, prints.
    ///
    /// # Errors
    /// A model file that cannot be used. Images that cannot be read are reported one by one and make the exit code 3.
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        let classifier = Classifier::new(model::load(&self.model)?, &self.model)?;
        let files = files::find(&self.paths, classifier.takes_volumes());
        let predictions = classifier.classify(files, self.top_k);
        let mut failed = 0;
        for prediction in &predictions {
            if let Err(reason) = &prediction.answer {
                failed += 1;
                output::note(&format!("error: {reason}"));
            }
        }
        match &self.csv {
            Some(path) if path.as_os_str() == "-" => output::print(&form::csv(&predictions))?,
            Some(path) => {
                let table = form::csv(&predictions);
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
