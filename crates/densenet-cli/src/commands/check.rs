//! `densenet check`: is this data fit to train on, or this volume what I think it is?

use std::path::PathBuf;

use clap::Args;
use densenet_data::{
    DecodedImage, Samples, Split, decode_volume, npy,
    volume::{has_volume_extension, is_dicom_file, is_series},
};
use densenet_spec::Architecture;
use densenet_train::{Finding, Layer, Preflight, TrainConfig, install_signal_handlers, preflight};
use densenet_weights::atomic;
use serde_json::json;
use toml::{Table, Value};

use super::train::keys;
use crate::{
    failure::{BUG, DATA, Failure},
    options::{config::ConfigOptions, number::whole, run::RunOptions, train::DataOptions},
    output::{self, grouped, pairs, shape},
    table::wrap,
};

/// Look at data before training on it, or at one volume
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Check {
    /// What `train` takes, or a single volume: a NIfTI, NRRD, MetaImage, .npy or DICOM file, or a folder of DICOM slices
    data: PathBuf,
    /// A file of options, as `train` takes it
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// The preset or model file that training is to start from [default: as `train` chooses it]
    #[arg(long, value_name = "PRESET|MODEL")]
    model: Option<String>,
    /// The model file's classifier will be drawn anew
    #[arg(long)]
    replace_head: bool,
    /// Samples in a forward pass [default: 32]
    #[arg(long, value_name = "N", value_parser = whole)]
    batch_size: Option<usize>,
    /// Bottlenecks will be recomputed instead of kept, as `train --memory-efficient` does
    #[arg(long)]
    memory_efficient: bool,
    /// Write a single volume's values as read, [depth, height, width, channels], to a .npy file
    #[arg(long, value_name = "FILE.npy")]
    dump: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    data_options: DataOptions,
    #[command(flatten)]
    network: ConfigOptions,
}

const AFTER_HELP: &str = "\
Nothing is trained: it is the look that `train` takes first, with the same options. Findings come with their cure, options \
of `train` where they name any; the exit code is 3 if training would be refused.

Examples:
  densenet check scans/
  densenet check scans/ --model densenet121 --spacing 1.5 --image-size 96 --fit crop --batch-size 4
  densenet check scans/ --model runs/scans-1/best.safetensors
  densenet check brain.nii.gz
  densenet check dicom/series3/ --dump series3.npy";

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
        let config = TrainConfig::layered(&self.layers()?)?;
        let stop = install_signal_handlers()
            .map_err(|error| Failure::new(BUG, format_args!("signals: {error} — report this")))?;
        let mut reporter = output::reporter();
        let found = preflight(&config, &mut *reporter, &stop)?;
        drop(reporter);
        let Some(found) = found else {
            let signal = u8::try_from(128 + stop.raised().unwrap_or(2)).unwrap_or(130);
            return Err(Failure::new(signal, "check: stopped — start it again"));
        };
        self.tell(&found, config.memory_efficient)?;
        match found.findings.iter().any(Finding::is_refusal) {
            true => Err(Failure::silent(DATA)),
            false => Ok(()),
        }
    }

    /// The file and the command line, as `train` would read them.
    fn layers(&self) -> Result<Vec<Layer>, Failure> {
        let mut layers = Vec::new();
        if let Some(path) = &self.config {
            layers.push(Layer::read(path)?);
        }
        let mut table = Table::new();
        let text = |value: &str| Value::String(value.to_string());
        table.insert("data".into(), text(&self.data.to_string_lossy()));
        if let Some(model) = &self.model {
            table.insert("model".into(), text(model));
        }
        if let Some(size) = self.batch_size {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            table.insert("batch_size".into(), Value::Integer(size));
        }
        if self.replace_head {
            table.insert("replace_head".into(), Value::Boolean(true));
        }
        if self.memory_efficient {
            table.insert("memory_efficient".into(), Value::Boolean(true));
        }
        if self.data_options.no_augment {
            table.insert("augment".into(), text("none"));
        }
        if let Some(threads) = self.run.threads {
            let threads = i64::try_from(threads).unwrap_or(1);
            table.insert("loader_threads".into(), Value::Integer(threads));
        }
        table.extend(keys(&self.data_options)?);
        table.extend(keys(&self.network.file()?)?);
        layers.push(Layer {
            origin: "command line".into(),
            table,
        });
        Ok(layers)
    }

    fn tell(&self, found: &Preflight, memory_efficient: bool) -> Result<(), Failure> {
        let Preflight {
            dataset,
            inspection,
            findings,
            ..
        } = found;
        let step_bytes = found.memory.map(|memory| match memory_efficient {
            true => memory.train_memory_efficient_bytes,
            false => memory.train_bytes,
        });
        let counts = |split| dataset.indices(split).len();
        let parameters = match &found.network {
            Some(network) => Some(Architecture::new(network)?.num_parameters()),
            None => None,
        };
        if self.json {
            let sizes: Vec<_> = inspection
                .sizes
                .iter()
                .map(|(size, (n, _))| json!({"size": size, "samples": n}))
                .collect();
            let kind = |finding: &Finding| match finding {
                Finding::Note(_) => "note",
                Finding::Warning(_) => "warning",
                Finding::Refused(_) => "refused",
            };
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
                "input": found.input,
                "parameters": parameters,
                "train_step_bytes": step_bytes,
                "bad": inspection.bad.iter().map(|b| b.error.to_string()).collect::<Vec<_>>(),
                "findings": findings.iter().map(|f| json!({"kind": kind(f), "text": f.text()})).collect::<Vec<_>>(),
            }));
        }
        let kinds: Vec<String> = inspection
            .kinds
            .iter()
            .map(|(kind, n)| format!("{n} {kind}"))
            .collect();
        let sizes: Vec<String> = inspection.sizes.keys().map(|size| shape(size)).collect();
        let split = Split::ALL.map(|split| format!("{} {split}", grouped(counts(split) as u64)));
        let per_class = dataset.class_counts(Split::Train);
        let classes: Vec<String> = dataset
            .classes()
            .iter()
            .zip(per_class)
            .map(|(name, n)| format!("{name} ({n})"))
            .collect();
        let mut lines = vec![
            ("Samples".into(), split.join(", ")),
            ("Kinds".into(), or_dash(kinds.join(", "))),
            ("Prepared to".into(), or_dash(sizes.join(", "))),
            ("Training".into(), classes.join(", ")),
        ];
        if let (Some(parameters), Some(step)) = (parameters, step_bytes) {
            lines.push((
                "Network".into(),
                format!(
                    "{} parameters; a training step takes {}",
                    grouped(parameters as u64),
                    output::bytes(step as u64)
                ),
            ));
        }
        let mut text = pairs(&lines, output::width());
        for finding in findings {
            let mark = match finding {
                Finding::Note(_) => "note",
                Finding::Warning(_) => "warning",
                Finding::Refused(_) => "refused",
            };
            let line = format!("{mark}: {}", finding.text());
            text.push_str(&wrap(&line, output::width(), 2));
        }
        if findings.is_empty() {
            text.push_str("nothing to complain about\n");
        } else if findings.iter().any(|f| f.text().contains(" --")) {
            text.push_str("The options named here are given to `densenet train`.\n");
        }
        output::print(&text)
    }
}

/// A dash where there is nothing to tell.
fn or_dash(text: String) -> String {
    match text.is_empty() {
        true => "—".into(),
        false => text,
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
