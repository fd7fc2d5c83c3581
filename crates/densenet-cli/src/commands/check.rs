//! `densenet check`: is this data fit to train on, or this volume what I think it is?

use std::path::PathBuf;

use clap::Args;
use densenet_data::{
    Dataset, DecodedImage, Inspection, OpenOptions, Preprocessing, Samples, Split, check,
    decode_volume, npy,
    volume::{has_volume_extension, is_dicom_file, is_series},
};
use densenet_spec::{Architecture, Op};
use densenet_train::preprocessing_of;
use densenet_weights::{Model, atomic};
use serde_json::json;

use crate::{
    failure::{DATA, Failure},
    machine,
    options::{model, number::positive, run::RunOptions},
    output::{self, counted, grouped, pairs, shape},
};

/// Look at data before training on it, or at one volume
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Check {
    /// What `train` takes, or a single volume: a .nii, .npy or DICOM file, or a folder of DICOM slices
    data: PathBuf,
    /// The model file or preset that is to be trained or used
    #[arg(long, value_name = "PRESET|MODEL")]
    model: Option<String>,
    /// Samples in a forward pass
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    batch_size: usize,
    /// Write a single volume's values as read, [depth, height, width, channels], to a .npy file
    #[arg(long, value_name = "FILE.npy")]
    dump: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunOptions,
}

const AFTER_HELP: &str = "\
Nothing is changed and nothing is trained. Findings come with their cure; the exit code is 3 if training would be refused.

Examples:
  densenet check scans/
  densenet check scans/ --model runs/scans-1/best.safetensors
  densenet check brain.nii.gz
  densenet check dicom/series3/ --dump series3.npy";

/// One thing worth knowing, and what to do about it.
struct Finding {
    /// Whether training would be refused.
    fatal: bool,
    text: String,
}

/// Samples of the largest class for one of the smallest, beyond which a hint is due.
const UNBALANCED: usize = 5;
/// So many findings of one kind are listed.
const SHOWN: usize = 20;
/// Values per channel that batch norm should see at least.
const STEADY: usize = 8;

impl Check {
    /// Looks, and says what was found.
    ///
    /// # Errors
    /// Data that cannot be opened, and, after everything else was said, data that cannot be trained on (exit code 3).
    pub fn run(self) -> Result<(), Failure> {
        self.run.prepare()?;
        let series = self.data.is_dir() && is_series(&self.data)?;
        let file = self.data.is_file();
        if series || file && (has_volume_extension(&self.data) || is_dicom_file(&self.data)?) {
            return self.volume();
        }
        if let Some(path) = &self.dump {
            return Err(Failure::usage(format_args!(
                "--dump {}: for a single volume, and {} is a data set — name one of its files",
                path.display(),
                self.data.display()
            )));
        }
        self.dataset()
    }

    fn volume(&self) -> Result<(), Failure> {
        let volume = decode_volume(&self.data)?;
        let Samples::F32(values) = volume.samples() else {
            return Ok(());
        };
        if let Some(path) = &self.dump {
            let mut sizes = volume.spatial().to_vec();
            sizes.push(volume.channels());
            let bytes = npy::to_bytes(&sizes, values)?;
            atomic::write(path, |out| out.write_all(&bytes))?;
            output::note(&format!("wrote {}", path.display()));
        }
        let document = facts(&volume, values);
        if self.json {
            return output::print_json(&document);
        }
        let text = |key: &str| document[key].to_string();
        let lines = [
            ("Voxels", shape(&volume.spatial())),
            ("Channels", volume.channels().to_string()),
            (
                "Spacing",
                format!("{} mm (depth, height, width)", text("spacing")),
            ),
            (
                "Values",
                format!("{} to {}, mean {}", text("min"), text("max"), text("mean")),
            ),
            ("Not finite", text("non_finite")),
        ];
        let lines: Vec<_> = lines.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        output::print(&pairs(&lines, output::width()))
    }

    fn dataset(&self) -> Result<(), Failure> {
        let model = match &self.model {
            Some(name) => match model::Source::find(name)? {
                model::Source::File(path) => Some(model::load(&path)?),
                model::Source::Preset(_) => None,
            },
            None => None,
        };
        let options = OpenOptions {
            classes: model.as_ref().and_then(|m| m.classes.clone()),
            ..OpenOptions::default()
        };
        let dataset = Dataset::open(&self.data, &options)?;
        let preprocessing = match &model {
            Some(model) if model.preprocessing.is_some() => preprocessing_of(model)?,
            _ if dataset.is_volumes() => Preprocessing::suggest_volume(&dataset, None, None),
            _ => Preprocessing::suggest(&dataset, None, None),
        };
        let threads = self
            .run
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
        let Some(inspection) = check(&dataset, &preprocessing, threads, &|_, _| true)? else {
            return Ok(());
        };
        let mut findings = self.findings(&dataset, &inspection, &preprocessing);
        if let (Some(architecture), Some((&spatial, _))) = (
            self.architecture(model.as_ref(), &dataset, &preprocessing)?,
            inspection.sizes.first_key_value(),
        ) {
            self.network(&architecture, spatial, &mut findings)?;
        }
        self.tell(&dataset, &inspection, &findings)?;
        match findings.iter().any(|f| f.fatal) {
            true => Err(Failure::silent(DATA)),
            false => Ok(()),
        }
    }

    /// The network that was named, as this data would have it.
    fn architecture(
        &self,
        model: Option<&Model>,
        dataset: &Dataset,
        preprocessing: &Preprocessing,
    ) -> Result<Option<Architecture>, Failure> {
        let config = match (model, &self.model) {
            (Some(model), _) => model.config.clone(),
            (None, None) => return Ok(None),
            (None, Some(name)) => {
                let dims = if preprocessing.volume.is_some() { 3 } else { 2 };
                densenet_spec::DenseNetConfig {
                    num_classes: dataset.classes().len(),
                    in_channels: preprocessing.channels,
                    ..densenet_spec::preset(name)?.config(dims)?
                }
            }
        };
        Ok(Some(Architecture::new(&config)?))
    }

    fn findings(
        &self,
        dataset: &Dataset,
        inspection: &Inspection,
        preprocessing: &Preprocessing,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |fatal, text: String| findings.push(Finding { fatal, text });
        for note in dataset.notes() {
            add(false, note.clone());
        }
        for bad in inspection.bad.iter().take(SHOWN) {
            add(true, bad.error.to_string());
        }
        if inspection.bad.len() > SHOWN {
            add(
                true,
                format!(
                    "and {} more that cannot be used",
                    inspection.bad.len() - SHOWN
                ),
            );
        }
        if inspection.bad.is_empty()
            && let Err(error) = inspection.accept(dataset, densenet_data::OnError::Fail)
        {
            add(true, error.to_string());
        }
        for note in inspection.notes(dataset, preprocessing) {
            add(false, note);
        }
        for &(a, b) in inspection.leaks.iter().take(SHOWN) {
            add(
                false,
                format!(
                    "{}: the same as {} in another split — keep it in one of them",
                    dataset.describe(b),
                    dataset.describe(a)
                ),
            );
        }
        let counts = dataset.class_counts(Split::Train);
        let named = || dataset.classes().iter().zip(&counts);
        if let (Some((rare, &few)), Some((common, &many))) = (
            named().min_by_key(|(_, n)| **n),
            named().max_by_key(|(_, n)| **n),
        ) && many > UNBALANCED * few.max(1)
        {
            add(
                false,
                format!(
                    "{common} has {many} training samples, {rare} has {few} — add some, or give --class-weights balanced and --monitor macro_auroc"
                ),
            );
        }
        findings
    }

    /// What the network asks of a sample's size and of the machine.
    fn network(
        &self,
        architecture: &Architecture,
        spatial: [usize; 3],
        findings: &mut Vec<Finding>,
    ) -> Result<(), Failure> {
        let least = architecture.min_input();
        if spatial.iter().zip(least).any(|(n, least)| *n < least) {
            findings.push(Finding {
                fatal: true,
                text: format!(
                    "samples of {} are smaller than the {} that the network needs — give a larger --image-size, or a network with --stem small",
                    shape(&spatial),
                    shape(&least)
                ),
            });
            return Ok(());
        }
        let trace = architecture
            .trace(spatial)
            .map_err(|error| Failure::usage(error.to_string()))?;
        let norms = architecture.layers().iter().zip(&trace.layers);
        let fewest = norms
            .filter(|(layer, _)| layer.op == Op::BatchNorm)
            .map(|(layer, shape)| (&layer.name, shape.spatial.iter().product::<usize>()))
            .min_by_key(|(_, n)| *n);
        if let Some((name, values)) = fewest
            && values * self.batch_size < STEADY
        {
            findings.push(Finding {
                fatal: values * self.batch_size < 2,
                text: format!(
                    "{name} sees {} a channel in a batch of {} — give a larger --batch-size or --image-size",
                    counted(values * self.batch_size, "value"),
                    self.batch_size
                ),
            });
        }
        let memory = densenet::memory::estimate(architecture, spatial, self.batch_size)?;
        if let Some(free) = machine::available_bytes()
            && memory.train_bytes as u64 > free
        {
            findings.push(Finding {
                fatal: false,
                text: format!(
                    "a training step of {} samples takes {}, {} are free — give a smaller --batch-size with --accumulate, or --memory-efficient ({})",
                    self.batch_size,
                    output::bytes(memory.train_bytes as u64),
                    output::bytes(free),
                    output::bytes(memory.train_memory_efficient_bytes as u64)
                ),
            });
        }
        Ok(())
    }

    fn tell(
        &self,
        dataset: &Dataset,
        inspection: &Inspection,
        findings: &[Finding],
    ) -> Result<(), Failure> {
        let counts = |split| dataset.indices(split).len();
        if self.json {
            let sizes: Vec<_> = inspection
                .sizes
                .iter()
                .map(|(size, (n, _))| json!({"size": size, "samples": n}))
                .collect();
            return output::print_json(&json!({
                "data": self.data.display().to_string(),
                "samples": dataset.len(),
                "splits": {"train": counts(Split::Train), "val": counts(Split::Val), "test": counts(Split::Test)},
                "classes": dataset.classes(),
                "train_class_counts": dataset.class_counts(Split::Train),
                "kinds": inspection.kinds,
                "sizes": sizes,
                "mean": inspection.mean,
                "std": inspection.std,
                "bad": inspection.bad.iter().map(|b| b.error.to_string()).collect::<Vec<_>>(),
                "findings": findings.iter().map(|f| json!({"refused": f.fatal, "text": f.text})).collect::<Vec<_>>(),
            }));
        }
        let kinds: Vec<String> = inspection
            .kinds
            .iter()
            .map(|(kind, n)| format!("{n} {kind}"))
            .collect();
        let sizes: Vec<String> = inspection.sizes.keys().map(|size| shape(size)).collect();
        let split = Split::ALL.map(|split| format!("{} {split}", grouped(counts(split) as u64)));
        let mut text = pairs(
            &[
                ("Samples".into(), split.join(", ")),
                ("Kinds".into(), kinds.join(", ")),
                ("Prepared to".into(), sizes.join(", ")),
                ("Classes".into(), dataset.classes().join(", ")),
            ],
            output::width(),
        );
        for finding in findings {
            let mark = if finding.fatal { "refused: " } else { "note: " };
            text.push_str(&format!("{mark}{}\n", finding.text));
        }
        if findings.is_empty() {
            text.push_str("nothing to complain about\n");
        }
        output::print(&text)
    }
}

/// What there is to say about a volume.
fn facts(volume: &DecodedImage, values: &[f32]) -> serde_json::Value {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let mean = finite().map(f64::from).sum::<f64>() / finite().count().max(1) as f64;
    let space = volume.space();
    json!({
        "spatial": volume.spatial(),
        "channels": volume.channels(),
        "spacing": space.map(|s| s.spacing().map(|v| (v * 1e4).round() / 1e4)),
        "affine": space.map(|s| s.affine),
        "min": finite().fold(f32::INFINITY, f32::min),
        "max": finite().fold(f32::NEG_INFINITY, f32::max),
        "mean": (mean * 1e4).round() / 1e4,
        "non_finite": values.len() - finite().count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volumes_facts_leave_out_what_is_no_number() {
        let volume = densenet_data::volume::decode_volume_bytes(
            "x",
            &npy::to_bytes(&[1, 1, 3], &[1.0, f32::NAN, 3.0]).unwrap(),
        )
        .unwrap();
        let Samples::F32(values) = volume.samples() else {
            panic!("volumes are f32")
        };
        let facts = facts(&volume, values);
        assert_eq!(
            (&facts["mean"], &facts["non_finite"]),
            (&json!(2.0), &json!(1))
        );
    }
}
