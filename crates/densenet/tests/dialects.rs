//! Checkpoints of every dialect, written by PyTorch, answer as the programs that they come from: the logits of an imported
//! network are those of torchvision's, MONAI's, timm's … own class. `tools/weights/make_logits_golden.py` wrote both.

use std::{collections::BTreeSet, fs, path::PathBuf};

use densenet::{
    Input, Isa, Predictor,
    weights::{
        ConfigFile, DIALECTS, ImportOptions, Imported, InputChange, Model, NewInput, export, import,
    },
};
use densenet_testkit::{Tolerance, assert_close, channels_last, compare, generate_input};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    seed: u64,
    cases: Vec<Case>,
}

/// A checkpoint, how to import it, and the logits of an input in f64.
#[derive(Deserialize)]
struct Case {
    checkpoint: String,
    recognised: String,
    /// The dialect to name, where the checkpoint does not tell.
    dialect: Option<String>,
    #[serde(default)]
    config: ConfigFile,
    input: Option<Change>,
    input_shape: Vec<usize>,
    logits: Vec<Vec<f64>>,
}

/// A first convolution for another number of channels.
#[derive(Deserialize)]
struct Change {
    in_channels: usize,
    change: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Every case with its input, in PyTorch's order.
fn cases() -> Vec<(Case, Vec<f32>)> {
    let text = fs::read_to_string(folder().join("logits.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    assert!(golden.cases.len() > 20);
    let seed = golden.seed;
    let with_input = |(step, case): (usize, Case)| {
        let input = images(&case.input_shape, seed, step);
        (case, input)
    };
    golden
        .cases
        .into_iter()
        .enumerate()
        .map(with_input)
        .collect()
}

/// The script's `images`: noise of another strength and mean for every sample and channel.
fn images(shape: &[usize], seed: u64, step: usize) -> Vec<f32> {
    let mut data = generate_input(shape, seed, step);
    let plane: usize = shape[2..].iter().product();
    for (i, values) in data.chunks_mut(plane).enumerate() {
        let (sample, channel) = (i / shape[1], i % shape[1]);
        for value in values {
            *value *= (1 + sample) as f32;
            *value += ((sample + channel) % 3) as f32 - 1.0;
        }
    }
    data
}

impl Case {
    fn options(&self) -> ImportOptions {
        ImportOptions {
            dialect: self.dialect.clone(),
            config: self.config.clone(),
            input: self.input.as_ref().map(|input| NewInput {
                in_channels: input.in_channels,
                change: InputChange::from_name(&input.change).unwrap(),
            }),
            head: None,
        }
    }

    fn imported(&self, options: &ImportOptions) -> Imported {
        import(&folder().join(&self.checkpoint), options).unwrap()
    }

    fn what(&self) -> String {
        format!("{} as {}", self.checkpoint, self.recognised)
    }

    fn expected(&self) -> Vec<f64> {
        self.logits.concat()
    }

    /// The promise to users: within 1e-4 of logits up to 1, in proportion where they are larger.
    fn tolerance(&self) -> Tolerance {
        let peak = self.expected().iter().fold(1.0f64, |m, v| m.max(v.abs()));
        Tolerance::absolute(1e-4 * peak)
    }

    fn run(&self, model: &Model, input: &[f32], isa: Isa) -> Vec<f32> {
        let predictor = Predictor::with_isa(&model.config, &model.state, isa).unwrap();
        let data = channels_last(input, &self.input_shape);
        let spatial = match self.input_shape[2..] {
            [height, width] => [1, height, width],
            [depth, height, width] => [depth, height, width],
            _ => panic!("{}: {:?}", self.checkpoint, self.input_shape),
        };
        let batch = self.input_shape[0];
        predictor
            .run(Input {
                data: &data,
                batch,
                spatial,
            })
            .unwrap()
    }

    fn check(&self, logits: &[f32], what: &str) {
        assert_close(logits, &self.expected(), self.tolerance(), what);
        let classes = self.logits[0].len();
        for (ours, theirs) in logits.chunks(classes).zip(&self.logits) {
            let ours: Vec<f64> = ours.iter().copied().map(f64::from).collect();
            assert_eq!(top(&ours), top(theirs), "{what}: top-1");
        }
    }
}

fn top(logits: &[f64]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

#[test]
fn every_checkpoint_answers_as_its_own_program() {
    for (case, input) in cases() {
        let found = case.imported(&case.options());
        assert_eq!(found.dialect, case.recognised, "{}", case.what());
        for &isa in Isa::available() {
            let logits = case.run(&found.model, &input, isa);
            case.check(&logits, &format!("{} on {}", case.what(), isa.name()));
        }
    }
}

#[test]
fn every_dialect_has_a_checkpoint() {
    let mut missing: BTreeSet<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    for (case, _) in cases() {
        // timm's names are torchvision's; the file's name tells that its class is timm's.
        missing.remove(case.recognised.as_str());
        missing.remove(case.checkpoint.trim_end_matches(".pth"));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_exported_answers_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let isa = Isa::available()[0];
    for (case, input) in cases() {
        let model = case.imported(&case.options()).model;
        let logits = case.run(&model, &input, isa);
        for ending in ["pth", "safetensors"] {
            let path = folder.path().join(format!("weights.{ending}"));
            export(&model, &path, Some(&case.recognised)).unwrap();
            // What the tensors do not show has to be said again; a changed first convolution is in the tensors.
            let options = ImportOptions {
                dialect: Some(case.recognised.clone()),
                input: None,
                ..case.options()
            };
            let again = import(&path, &options).unwrap().model;
            assert_eq!(again.config, model.config, "{} as {ending}", case.what());
            assert_eq!(again.state, model.state, "{} as {ending}", case.what());
            let repeated = case.run(&again, &input, isa);
            assert_eq!(repeated, logits, "{} as {ending}", case.what());
        }
    }
}

/// The logits of `model` are wrong, and by far enough that no tolerance hides it.
fn assert_noticed(case: &Case, model: &Model, input: &[f32], what: &str) {
    let logits = case.run(model, input, Isa::available()[0]);
    let Tolerance { atol, .. } = case.tolerance();
    let wide = Tolerance::absolute(10.0 * atol);
    let result = compare(&logits, &case.expected(), wide, what);
    assert!(result.is_err(), "{}: {what} was not noticed", case.what());
}

#[test]
fn lost_statistics_would_be_noticed() {
    for (case, input) in cases() {
        let model = case.imported(&case.options()).model;
        for (suffix, value) in [("running_mean", 0.0), ("running_var", 1.0)] {
            let mut lost = model.clone();
            for (name, tensor) in model.state.iter() {
                if name.ends_with(suffix) {
                    let mut tensor = tensor.clone();
                    tensor.data.fill(value);
                    lost.state.insert(name.to_string(), tensor);
                }
            }
            assert_noticed(&case, &lost, &input, suffix);
        }
    }
}

#[test]
fn what_no_tensor_shows_would_be_noticed() {
    let mut seen = BTreeSet::new();
    for (case, input) in cases() {
        let Imported { model, .. } = case.imported(&case.options());
        let mut wrong = model.clone();
        let what = if case.recognised == "tutorial-bottom" {
            wrong.config.concat_order = densenet::spec::ConcatOrder::OldNew;
            "the order of concatenation"
        } else if case.recognised == "kenshohara" {
            wrong.config.stem.stride[0] = 3 - model.config.stem.stride[0];
            "the stem's stride along depth"
        } else if case.config.bn_eps.is_some() {
            wrong.config.bn_eps = 1e-5;
            "the norms' constant"
        } else {
            continue;
        };
        assert_noticed(&case, &wrong, &input, what);
        seen.insert(what);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}
