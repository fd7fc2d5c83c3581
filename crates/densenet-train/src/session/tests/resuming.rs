//! Interrupted, killed, resumed: the same bits as if nothing had happened.

use std::process::{Command, Stdio};

use super::*;
use crate::{checkpoint::SaveStage, optimizer::OptimizerKind};

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
                .args(["--exact", "session::tests::resuming::runs_until_killed"])
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
