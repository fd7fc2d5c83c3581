//! The loop's promises, on a network small enough to strike at every step: softmax regression on the embedded digits, with
//! running statistics and a "dropout" keyed by the forward pass, so that a counter that goes wrong changes bits.

use std::{path::Path, sync::Arc};

use densenet_data::{
    Augmentation, Dataset, LastBatch, LoaderOptions, OpenOptions, Preprocessing, Split,
};

use super::*;
use crate::{
    checkpoint::SaveStage,
    network::Scorer,
    optimizer::OptimizerKind,
    spec::{Architecture, DenseNetConfig, ParameterKind, Stem, preset},
    weights::{InitMode, StateDict, initialize},
};

const PIXELS: usize = 64;
const CLASSES: usize = 10;
/// A gap between weight and bias, as alignment leaves one.
const BIAS: usize = 656;
const LEN: usize = BIAS + 16;

#[derive(Clone)]
struct Regression {
    config: DenseNetConfig,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    buffers: Vec<f32>,
    batches: u64,
    logits: Vec<f32>,
    /// The last forward pass's input after "dropout", and its mean per pixel.
    seen: Vec<f32>,
    mean: Vec<f32>,
    /// At this forward pass, what turns to NaN.
    poison: Option<(u64, Poison)>,
    passes: u64,
    dropout: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Poison {
    Loss,
    Gradient,
    Statistics,
}

fn regression() -> Regression {
    let base = preset("densenet-40-12").unwrap().config(2).unwrap();
    let config = DenseNetConfig {
        growth_rate: 1,
        block_config: vec![1],
        num_init_features: 1,
        in_channels: 1,
        stem: Stem::small(2),
        ..base
    };
    let mut parameters = crate::golden::values(3, LEN, 0.05);
    parameters[PIXELS * CLASSES..BIAS].fill(0.0);
    parameters[BIAS + CLASSES..].fill(0.0);
    Regression {
        config,
        parameters,
        gradients: vec![0.0; LEN],
        buffers: vec![0.0; PIXELS],
        batches: 0,
        logits: Vec::new(),
        seen: Vec::new(),
        mean: Vec::new(),
        poison: None,
        passes: 0,
        dropout: true,
    }
}

fn logits(parameters: &[f32], input: &[f32]) -> Vec<f32> {
    let row = |x: &[f32]| -> Vec<f32> {
        let dot = |c: usize| {
            x.iter()
                .zip(&parameters[c * PIXELS..])
                .map(|(x, w)| x * w)
                .sum::<f32>()
        };
        (0..CLASSES)
            .map(|c| parameters[BIAS + c] + dot(c))
            .collect()
    };
    input.chunks(PIXELS).flat_map(row).collect()
}

impl Net for Regression {
    fn forward(&mut self, batch: &Batch, pass: u64) -> Result<&[f32], TrainError> {
        self.passes = pass;
        self.seen = batch.data.clone();
        if self.dropout {
            for (i, x) in self.seen.iter_mut().enumerate() {
                if (i as u64 + pass * 7919).is_multiple_of(11) {
                    *x = 0.0;
                }
            }
        }
        let n = batch.len() as f32;
        self.mean = (0..PIXELS)
            .map(|p| self.seen.iter().skip(p).step_by(PIXELS).sum::<f32>() / n)
            .collect();
        self.logits = logits(&self.parameters, &self.seen);
        match self.poison {
            Some((at, Poison::Loss)) if at == pass => self.logits[3] = f32::NAN,
            Some((at, Poison::Statistics)) if at == pass => self.mean[3] = f32::INFINITY,
            _ => {}
        }
        Ok(&self.logits)
    }

    fn backward(&mut self, grad_logits: &[f32]) -> Result<(), TrainError> {
        for (x, g) in self.seen.chunks(PIXELS).zip(grad_logits.chunks(CLASSES)) {
            for (c, g) in g.iter().enumerate() {
                self.gradients[BIAS + c] += g;
                for (w, x) in self.gradients[c * PIXELS..(c + 1) * PIXELS]
                    .iter_mut()
                    .zip(x)
                {
                    *w += g * x;
                }
            }
        }
        if self.poison == Some((self.passes, Poison::Gradient)) {
            self.gradients[BIAS + 2] = f32::NEG_INFINITY;
        }
        Ok(())
    }

    fn zero_grad(&mut self) {
        self.gradients.fill(0.0);
    }

    fn update_running_statistics(&mut self) {
        for (b, m) in self.buffers.iter_mut().zip(&self.mean) {
            *b += 0.1 * (m - *b);
        }
        self.batches += 1;
    }

    fn batches_tracked(&self) -> u64 {
        self.batches
    }

    fn set_batches_tracked(&mut self, batches: u64) {
        self.batches = batches;
    }

    fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    fn parameters_and_gradients_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (&mut self.parameters, &mut self.gradients)
    }

    fn buffers(&self) -> &[f32] {
        &self.buffers
    }

    fn buffers_mut(&mut self) -> &mut [f32] {
        &mut self.buffers
    }

    fn views(&self) -> Vec<View> {
        let view = |name: &str, range, kind| View {
            name: name.into(),
            range,
            kind,
            trainable: true,
        };
        vec![
            view(
                "classifier.weight",
                0..PIXELS * CLASSES,
                ParameterKind::LinearWeight,
            ),
            view(
                "classifier.bias",
                BIAS..BIAS + CLASSES,
                ParameterKind::LinearBias,
            ),
        ]
    }

    /// A DenseNet of the same number of classes whose classifier carries a trace of every weight, so that it is a valid
    /// model file and differs whenever a weight does.
    fn state_dict_of(&self, parameters: &[f32], buffers: &[f32]) -> StateDict {
        let architecture = Architecture::new(&self.config).unwrap();
        let mut state = initialize(&architecture, 0, InitMode::FanIn);
        let bias = &mut state.get_mut("classifier.bias").unwrap().data;
        for (i, v) in parameters.iter().chain(buffers).enumerate() {
            bias[i % CLASSES] += v * (1.0 + i as f32 / 64.0);
        }
        state
    }

    fn scorer(&self, parameters: &[f32], _buffers: &[f32]) -> Result<Box<dyn Scorer>, TrainError> {
        struct Frozen(Vec<f32>);
        impl Scorer for Frozen {
            fn logits(&self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
                Ok(logits(&self.0, &batch.data))
            }
        }
        Ok(Box::new(Frozen(parameters.to_vec())))
    }
}

fn config() -> TrainConfig {
    let mut config = TrainConfig {
        epochs: 3,
        batch_size: 200,
        ema: Some(0.9),
        save_every: 0.0,
        loader_threads: Some(1),
        augment: Augmentation {
            padded_crop: 1,
            ..Augmentation::default()
        },
        ..TrainConfig::digits()
    };
    config.resolve_rates(false);
    config
}

fn parts(config: &TrainConfig, net: Regression, run: RunDir) -> Parts<Regression> {
    let dataset = Arc::new(Dataset::digits(&OpenOptions::default()).unwrap());
    let preprocessing = Preprocessing::plain(1);
    let options = LoaderOptions {
        threads: 1,
        last: LastBatch::Keep,
        augmentation: config.augment.clone(),
        ..LoaderOptions::training(config.batch_size, config.seed)
    };
    let train = Loader::new(
        dataset.clone(),
        Split::Train,
        preprocessing.clone(),
        options,
    )
    .unwrap();
    let val = Loader::new(
        dataset,
        Split::Val,
        preprocessing,
        LoaderOptions::evaluation(64),
    )
    .unwrap();
    let template = Model {
        config: net.config.clone(),
        state: StateDict::new(),
        classes: None,
        preprocessing: None,
        provenance: Some(serde_json::json!({})),
        num_batches_tracked: 0,
    };
    Parts {
        config: config.clone(),
        net,
        train,
        val: Some(val),
        run,
        template,
    }
}

fn create(out: &Path) -> RunDir {
    let run = RunDir::create(out, "t").unwrap();
    run.write_text("config.toml", "").unwrap();
    run
}

/// Everything a run leaves that must not depend on interruptions.
fn result(folder: &Path) -> (Vec<u8>, Vec<u8>, String, SavedState) {
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let mut state = Store::new(folder).load().unwrap().unwrap().state;
    state.progress.generation = 0;
    (
        read(BEST),
        read(LAST),
        String::from_utf8(read("metrics.csv")).unwrap(),
        state,
    )
}

fn straight(config: &TrainConfig, out: &Path) -> (Vec<u8>, Vec<u8>, String, SavedState) {
    let (stop, mut keep) = (StopFlag::new(), |_| Ok(()));
    let run = create(out);
    let folder = run.path().to_path_buf();
    let mut quiet = ();
    let mut session = Session::new(
        parts(config, regression(), run),
        &mut quiet,
        &stop,
        &mut keep,
    )
    .unwrap();
    assert!(matches!(session.run().unwrap(), End::Finished(_)));
    drop(session);
    result(&folder)
}

/// Raises the flag once a step has been taken, or an image evaluated, often enough.
struct StopAfter {
    left: usize,
    stop: StopFlag,
    in_evaluation: bool,
}

impl StopAfter {
    fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.stop.raise(2);
        }
    }
}

impl Reporter for StopAfter {
    fn step(&mut self, _step: &StepInfo) {
        if !self.in_evaluation {
            self.count();
        }
    }

    fn progress(&mut self, _what: &str, _done: usize, _total: usize) {
        if self.in_evaluation {
            self.count();
        }
    }
}

/// Runs, interrupted and resumed after every `every` events, to the end; returns the number of interruptions.
fn interrupted(config: &TrainConfig, folder: &Path, every: usize, in_evaluation: bool) -> usize {
    let mut fresh = Some(create(folder));
    let path = fresh.as_ref().map(|r| r.path().to_path_buf()).unwrap();
    for count in 0.. {
        let stop = StopFlag::new();
        let mut reporter = StopAfter {
            left: every,
            stop: stop.clone(),
            in_evaluation,
        };
        let mut keep = |_| Ok(());
        let resumed = fresh.is_none();
        let run = fresh.take().unwrap_or_else(|| RunDir::open(&path).unwrap());
        let mut session = Session::new(
            parts(config, regression(), run),
            &mut reporter,
            &stop,
            &mut keep,
        )
        .unwrap();
        if resumed {
            session
                .restore(Store::new(&path).load().unwrap().unwrap().state)
                .unwrap();
        }
        if let End::Finished(_) = session.run().unwrap() {
            return count;
        }
    }
    unreachable!("the loop above ends by returning")
}

#[test]
fn it_learns() {
    let out = tempfile::tempdir().unwrap();
    let (_, _, csv, state) = straight(
        &TrainConfig {
            epochs: 8,
            batch_size: 32,
            ema: None,
            ..config()
        },
        out.path(),
    );
    assert!(state.progress.watch.best.unwrap().value > 0.8, "{csv}");
    assert_eq!(csv.lines().count(), 9);
}

#[test]
fn interrupted_at_every_step_is_the_same_to_the_last_bit() {
    let variants = [
        config(),
        TrainConfig {
            optimizer: OptimizerKind::AdamW,
            lr: Some(1e-2),
            ema: None,
            clip_norm: Some(0.5),
            accumulate: 2,
            ..config()
        },
    ];
    for config in variants {
        let out = tempfile::tempdir().unwrap();
        let expected = straight(&config, out.path());
        let steps = expected.3.progress.step as usize;
        assert!(steps >= 9);
        for every in [1, 2, 3, steps - 1] {
            let out = tempfile::tempdir().unwrap();
            let count = interrupted(&config, out.path(), every, false);
            assert!(count >= steps / every - 1, "{count} interruptions");
            let found = result(&out.path().join("t-1"));
            assert!(
                found.2 == expected.2,
                "every {every}: metrics\n{}\n{}",
                found.2,
                expected.2
            );
            assert!(found == expected, "every {every}: a bit differs");
        }
        let out = tempfile::tempdir().unwrap();
        // An evaluation is begun anew after an interruption; it has three batches, so that the fourth falls into the next.
        assert!(interrupted(&config, out.path(), 4, true) >= 2);
        assert!(
            result(&out.path().join("t-1")) == expected,
            "interrupted while evaluating: a bit differs"
        );
    }
}

#[test]
fn an_interruption_saves_at_once_and_says_which_signal() {
    let out = tempfile::tempdir().unwrap();
    let run = create(out.path());
    let store = Store::new(run.path());
    let (stop, mut keep) = (StopFlag::new(), |_| Ok(()));
    stop.raise(15);
    let mut quiet = ();
    let mut session = Session::new(
        parts(&config(), regression(), run),
        &mut quiet,
        &stop,
        &mut keep,
    )
    .unwrap();
    assert_eq!(session.run().unwrap(), End::Interrupted(15));
    assert_eq!(store.load().unwrap().unwrap().state.progress.step, 0);
}

#[test]
fn a_nan_never_reaches_weights_or_statistics() {
    for (poison, what) in [
        (Poison::Loss, "the loss is not finite"),
        (
            Poison::Gradient,
            "the gradient of classifier.bias is not finite",
        ),
        (
            Poison::Statistics,
            "the batch statistics of a norm is not finite",
        ),
    ] {
        for accumulate in [1, 2] {
            let config = TrainConfig {
                accumulate,
                ..config()
            };
            // The state after five passes' worth of steps, by stopping there.
            let out = tempfile::tempdir().unwrap();
            let run = create(out.path());
            let folder = run.path().to_path_buf();
            let stop = StopFlag::new();
            let mut reporter = StopAfter {
                left: 4 / accumulate,
                stop: stop.clone(),
                in_evaluation: false,
            };
            let mut keep = |_| Ok(());
            let mut session = Session::new(
                parts(&config, regression(), run),
                &mut reporter,
                &stop,
                &mut keep,
            )
            .unwrap();
            session.run().unwrap();
            drop(session);
            let mut good = Store::new(&folder).load().unwrap().unwrap().state;
            // The same run, poisoned in the last pass of the step after.
            let out = tempfile::tempdir().unwrap();
            let run = create(out.path());
            let folder = run.path().to_path_buf();
            let net = Regression {
                poison: Some((3 + accumulate as u64, poison)),
                ..regression()
            };
            let stop = StopFlag::new();
            let (mut quiet, mut keep) = ((), |_| Ok(()));
            let mut session =
                Session::new(parts(&config, net, run), &mut quiet, &stop, &mut keep).unwrap();
            let error = session.run().unwrap_err();
            assert_eq!(error.exit_code(), 6);
            let text = error.to_string();
            assert!(text.contains(what), "{text}");
            assert!(
                text.contains(&format!("step {}", 4 / accumulate + 1)) && text.contains("digits"),
                "{text}"
            );
            drop(session);
            let mut kept = Store::new(&folder).load().unwrap().unwrap().state;
            (good.progress.generation, kept.progress.generation) = (0, 0);
            assert!(
                kept == good,
                "{poison:?} with {accumulate} passes a step left a trace"
            );
        }
    }
}

#[test]
fn accumulation_equals_the_large_batch() {
    // Without dropout and augmentation the passes of a step see what one large pass would; the last step of an epoch is
    // made of parts of different sizes.
    let run = |batch_size, accumulate| {
        let out = tempfile::tempdir().unwrap();
        let run = create(out.path());
        let config = TrainConfig {
            batch_size,
            accumulate,
            augment: Augmentation::default(),
            lr: Some(0.1),
            label_smoothing: 0.1,
            class_weights: Some(crate::config::ClassWeights::List(
                (1..=10).map(f64::from).collect(),
            )),
            ..config()
        };
        let net = Regression {
            dropout: false,
            ..regression()
        };
        let (mut quiet, stop, mut keep) = ((), StopFlag::new(), |_| Ok(()));
        let mut session =
            Session::new(parts(&config, net, run), &mut quiet, &stop, &mut keep).unwrap();
        session.run().unwrap();
        session.into_parts().0.net.parameters
    };
    let (large, small) = (run(240, 1), run(60, 4));
    for (a, b) in large.iter().zip(&small) {
        // Only the order of f32 sums over 240 samples differs, for 18 steps.
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn a_full_disk_in_between_is_survived_and_at_the_end_reported() {
    let steps_saved = TrainConfig {
        save_every_steps: Some(1),
        ..config()
    };
    let out = tempfile::tempdir().unwrap();
    let expected = straight(&steps_saved, out.path());
    let run_with = |full: fn(usize) -> bool| {
        let out = tempfile::tempdir().unwrap();
        let run = create(out.path());
        let folder = run.path().to_path_buf();
        let mut saves = 0;
        let mut hook = |stage| {
            saves += usize::from(stage == SaveStage::Begin);
            if stage == SaveStage::Written && full(saves) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(())
        };
        let (mut warnings, stop) = (Warnings::default(), StopFlag::new());
        let mut session = Session::new(
            parts(&steps_saved, regression(), run),
            &mut warnings,
            &stop,
            &mut hook,
        )
        .unwrap();
        let end = session.run();
        drop(session);
        (end, warnings.0, folder, out)
    };
    let (end, warnings, folder, _out) = run_with(|save| (3..6).contains(&save));
    assert!(matches!(end, Ok(End::Finished(_))));
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].contains("training goes on"), "{warnings:?}");
    assert!(result(&folder) == expected);

    let (end, warnings, folder, _out) = run_with(|save| save >= 9);
    let error = end.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error}");
    assert!(!warnings.is_empty());
    assert!(
        Store::new(&folder).load().unwrap().is_some(),
        "the last good state is kept"
    );

    let (end, ..) = run_with(|_| true);
    assert_eq!(
        end.unwrap_err().exit_code(),
        5,
        "a disk that takes nothing is found before the first step"
    );
}

#[derive(Default)]
struct Warnings(Vec<String>);

impl Reporter for Warnings {
    fn warning(&mut self, text: &str) {
        self.0.push(text.to_string());
    }
}

#[test]
fn patience_ends_a_run_and_the_end_is_final() {
    let out = tempfile::tempdir().unwrap();
    // A rate so small that nothing ever gets better.
    let config = TrainConfig {
        epochs: 50,
        patience: Some(2),
        lr: Some(1e-30),
        momentum: 0.0,
        nesterov: false,
        ema: None,
        ..config()
    };
    let (_, _, csv, state) = straight(&config, out.path());
    assert_eq!(csv.lines().count(), 1 + 3, "{csv}");
    assert_eq!(
        state.progress.finished.as_deref(),
        Some("no better epoch for 2 epochs")
    );
    assert_eq!(state.progress.watch.best.unwrap().epoch, 1);
}

#[test]
fn a_state_of_another_run_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let config = config();
    straight(&config, out.path());
    let path = out.path().join("t-1");
    let refused = |config: &TrainConfig, change: fn(&mut SavedState)| {
        let run = RunDir::open(&path).unwrap();
        let mut state = Store::new(&path).load().unwrap().unwrap().state;
        change(&mut state);
        let (mut quiet, stop, mut keep) = ((), StopFlag::new(), |_| Ok(()));
        let mut session = Session::new(
            parts(config, regression(), run),
            &mut quiet,
            &stop,
            &mut keep,
        )
        .unwrap();
        let error = session.restore(state).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        error.to_string()
    };
    let other = TrainConfig {
        lr: Some(0.123),
        ..config.clone()
    };
    let text = refused(&other, |_| ());
    assert!(text.contains("lr is 0.123, was 0.1"), "{text}");
    assert!(
        refused(&config, |s| s.progress.data = "0".into())
            .contains("data is not what the run was trained on")
    );
    assert!(refused(&config, |s| s.progress.layout = "0".into()).contains("laid out differently"));
    assert!(refused(&config, |s| drop(s.take("optimizer.0"))).contains("`optimizer.0` is missing"));
}

/// In the child that [`killed_in_the_middle_of_any_save`] starts: a run that aborts, as `kill -9` would end it, at a stage
/// of a save. On its own it goes through to the end.
#[test]
fn runs_until_killed() {
    let own = tempfile::tempdir().unwrap();
    let order = std::env::var("DENSENET_TEST_ABORT_RUN").unwrap_or_default();
    let mut order = order.split(';');
    let out = order
        .next()
        .filter(|o| !o.is_empty())
        .map_or(own.path().to_path_buf(), std::path::PathBuf::from);
    let (stage, fatal) = (
        order.next().unwrap_or_default(),
        order.next().unwrap_or_default(),
    );
    let run = create(&out);
    let mut saves = 0;
    let mut hook = |s: SaveStage| {
        saves += usize::from(s == SaveStage::Begin);
        if format!("{s:?}") == stage && saves.to_string() == fatal {
            std::process::abort();
        }
        Ok(())
    };
    let (mut quiet, stop) = ((), StopFlag::new());
    let config = TrainConfig {
        save_every_steps: Some(2),
        epochs: 2,
        ..config()
    };
    let mut session = Session::new(
        parts(&config, regression(), run),
        &mut quiet,
        &stop,
        &mut hook,
    )
    .unwrap();
    assert!(matches!(session.run().unwrap(), End::Finished(_)));
}

#[test]
fn killed_in_the_middle_of_any_save() {
    use std::process::{Command, Stdio};
    let config = TrainConfig {
        save_every_steps: Some(2),
        epochs: 2,
        ..config()
    };
    let out = tempfile::tempdir().unwrap();
    let expected = straight(&config, out.path());
    let stages = [
        "Begin",
        "HeaderWritten",
        "Written",
        "Synced",
        "Verified",
        "Rotated",
        "Renamed",
    ];
    // Save 1 is the one before the first step, save 5 closes the first epoch, save 9 the last.
    for (i, fatal) in [1, 2, 5, 6, 9].into_iter().enumerate() {
        for stage in stages.into_iter().skip(i % 2).step_by(2) {
            let out = tempfile::tempdir().unwrap();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "session::tests::runs_until_killed"])
                .env(
                    "DENSENET_TEST_ABORT_RUN",
                    format!("{};{stage};{fatal}", out.path().display()),
                )
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(
                !status.success(),
                "the child was to abort at {stage} of save {fatal}"
            );
            let path = out.path().join("t-1");
            let run = RunDir::open(&path).unwrap();
            let (mut quiet, stop, mut keep) = ((), StopFlag::new(), |_| Ok(()));
            let mut session = Session::new(
                parts(&config, regression(), run),
                &mut quiet,
                &stop,
                &mut keep,
            )
            .unwrap();
            match Store::new(&path).load().unwrap() {
                Some(loaded) => session.restore(loaded.state).unwrap(),
                None => assert_eq!(fatal, 1, "{stage}: only the first save may leave nothing"),
            }
            assert!(matches!(session.run().unwrap(), End::Finished(_)));
            drop(session);
            assert!(
                result(&path) == expected,
                "killed at {stage} of save {fatal}: a bit differs"
            );
            let left = std::fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap());
            assert!(
                left.into_iter()
                    .all(|n| !n.ends_with(".tmp") && !n.starts_with("new."))
            );
        }
    }
}
