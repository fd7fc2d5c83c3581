//! The loop's promises, on a network small enough to strike at every step.

use std::{path::Path, sync::Arc};

use densenet_data::{
    Augmentation, Dataset, LastBatch, LoaderOptions, OpenOptions, Preprocessing, Split,
};

use super::*;
use crate::{checkpoint::SavedState, report::StepInfo, weights::StateDict};

mod faults;
mod regression;
mod resuming;

use regression::{Regression, regression};

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
