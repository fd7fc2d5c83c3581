//! NaN and full disks.

use super::{regression::Poison, *};
use crate::checkpoint::SaveStage;

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
        for (accumulate, clip_norm) in [(1, None), (1, Some(1e9)), (2, None)] {
            let config = TrainConfig {
                accumulate,
                clip_norm,
                save_every_steps: Some(4 / accumulate as u64),
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
                "{poison:?} with {accumulate} passes a step, {clip_norm:?}, left a trace"
            );
        }
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
