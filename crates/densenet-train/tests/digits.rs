//! Whole runs of a real DenseNet on the embedded digits.

use std::{fs, path::Path};

use densenet_train::{
    Layer, Outcome, Reporter, StopFlag, Summary, TrainConfig, TrainError, report::StepInfo, resume,
    train,
};

/// A network so small that a run takes a second or two.
fn tiny(out: &Path, more: &str) -> TrainConfig {
    let base = format!(
        "out = {:?}\ngrowth_rate = 4\nblock_config = [2, 2]\nnum_init_features = 8\nbatch_size = 128\nepochs = 2",
        out.display().to_string()
    );
    TrainConfig::layered(&[layer(&base), layer(more)]).unwrap()
}

fn layer(text: &str) -> Layer {
    Layer::parse("test", text).unwrap()
}

fn finished(outcome: Outcome) -> Box<Summary> {
    match outcome {
        Outcome::Finished(summary) => summary,
        other => panic!("{other:?}"),
    }
}

fn run(config: &TrainConfig) -> Box<Summary> {
    finished(train(config, &mut (), &StopFlag::new()).unwrap())
}

#[test]
fn nothing_else_said_learns_the_digits() {
    let out = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        out: out.path().to_path_buf(),
        ..TrainConfig::digits()
    };
    let test = run(&config).test.unwrap();
    assert!(test.accuracy >= 0.98, "{}", test.accuracy);
}

#[test]
fn a_run_leaves_everything_it_promises() {
    let out = tempfile::tempdir().unwrap();
    let summary = run(&tiny(
        out.path(),
        "batch_size = 32\nepochs = 6\ndrop_rate = 0.0\naugment = \"crop:1\"",
    ));
    assert_eq!(summary.run, out.path().join("digits-1"));
    for file in [
        &summary.best_model,
        &summary.last_model,
        &summary.config,
        &summary.metrics,
    ] {
        assert!(file.is_file(), "{}", file.display());
    }
    let test = summary.test.as_ref().unwrap();
    assert_eq!(test.samples, 500);
    assert!(test.accuracy > 0.8, "{}", test.accuracy);
    assert_eq!(test.confusion.iter().flatten().sum::<u64>(), 500);
    let json = serde_json::to_value(test).unwrap();
    for field in [
        "accuracy",
        "loss",
        "macro_auroc",
        "samples",
        "confusion",
        "per_class",
    ] {
        assert!(json.get(field).is_some_and(|v| !v.is_null()), "{field}");
    }
    assert!(summary.next_commands()[0].starts_with("densenet eval "));
    assert_eq!(
        fs::read_to_string(&summary.metrics)
            .unwrap()
            .lines()
            .count(),
        7
    );

    // config.toml gives the same run again, to the last bit.
    let mut again = TrainConfig::layered(&[Layer::read(&summary.config).unwrap()]).unwrap();
    again.name = Some("again".into());
    let again = run(&again);
    assert_eq!(
        fs::read(&again.metrics).unwrap(),
        fs::read(&summary.metrics).unwrap()
    );
    let model = |path: &Path| densenet::weights::Model::load(path).unwrap();
    assert_eq!(
        model(&again.best_model).state,
        model(&summary.best_model).state
    );

    // A finished run resumes to its end.
    let resumed = finished(resume(&summary.run, &[], &mut (), &StopFlag::new()).unwrap());
    assert_eq!(resumed.test, summary.test);
    assert_eq!(resumed.epochs, summary.epochs);
}

/// Raises the flag after so many steps.
struct Interrupt(usize, StopFlag);

impl Reporter for Interrupt {
    fn step(&mut self, _step: &StepInfo) {
        self.0 -= 1;
        if self.0 == 0 {
            self.1.raise(2);
        }
    }
}

#[test]
fn interrupted_and_resumed_is_the_same_with_dropout_ema_and_any_number_of_threads() {
    let options = "drop_rate = 0.2\nema = 0.95\nno_decay_norm_bias = true\nclip_norm = 1.0\nwarmup = 0.5\naccumulate = 2";
    let out = tempfile::tempdir().unwrap();
    let straight = run(&tiny(out.path(), options));
    for (every, threads) in [(1, 1), (3, 2), (4, 3)] {
        let out = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let changes = [Layer::parse("test", &format!("loader_threads = {threads}")).unwrap()];
        let call = |folder: Option<&Path>| {
            let stop = StopFlag::new();
            let mut reporter = Interrupt(every, stop.clone());
            pool.install(|| match folder {
                None => train(&tiny(out.path(), options), &mut reporter, &stop),
                Some(folder) => resume(folder, &changes, &mut reporter, &stop),
            })
            .unwrap()
        };
        let mut outcome = call(None);
        let mut interruptions = 0;
        while let Outcome::Interrupted { signal, run } = &outcome {
            assert_eq!((*signal, outcome.exit_code()), (2, 130));
            interruptions += 1;
            assert!(interruptions < 100);
            let folder = run.clone().unwrap();
            outcome = call(Some(&folder));
        }
        assert!(interruptions >= 2, "{interruptions}");
        let resumed = finished(outcome);
        assert_eq!(resumed.epochs, straight.epochs);
        for (a, b) in [
            (&resumed.best_model, &straight.best_model),
            (&resumed.last_model, &straight.last_model),
        ] {
            assert!(
                fs::read(a).unwrap() == fs::read(b).unwrap(),
                "every {every} steps: {} differs",
                a.display()
            );
        }
        assert_eq!(
            fs::read(&resumed.metrics).unwrap(),
            fs::read(&straight.metrics).unwrap()
        );
        assert_eq!(resumed.test, straight.test);
    }
}

#[test]
fn memory_efficient_changes_no_bit() {
    let out = tempfile::tempdir().unwrap();
    let (a, b) = (
        run(&tiny(out.path(), "epochs = 1")),
        run(&tiny(out.path(), "epochs = 1\nmemory_efficient = true")),
    );
    assert_eq!(a.run, out.path().join("digits-1"));
    assert_eq!(b.run, out.path().join("digits-2"));
    assert!(fs::read(&a.last_model).unwrap() == fs::read(&b.last_model).unwrap());
}

#[test]
fn fine_tuning_keeps_what_is_frozen() {
    let out = tempfile::tempdir().unwrap();
    let first = run(&tiny(out.path(), ""));
    let model = densenet::weights::Model::load(&first.best_model).unwrap();
    let text = format!(
        "out = {:?}\nmodel = {:?}\nfreeze = [\"stem\", \"denseblock1\", \"transition1\"]\nreplace_head = true\nepochs = 1\nbatch_size = 128",
        out.path().display().to_string(),
        first.best_model.display().to_string()
    );
    let config = TrainConfig::layered(&[Layer::parse("test", &text).unwrap()]).unwrap();
    let tuned = run(&config);
    let after = densenet::weights::Model::load(&tuned.last_model).unwrap();
    assert_eq!(after.config, model.config);
    assert_eq!(after.preprocessing, model.preprocessing);
    assert!(after.num_batches_tracked > model.num_batches_tracked);
    let (mut kept, mut changed) = (0, 0);
    for ((name, a), (_, b)) in model.state.iter().zip(after.state.iter()) {
        let frozen = [
            "features.conv0",
            "features.denseblock1",
            "features.transition1",
        ]
        .iter()
        .any(|s| name.starts_with(s));
        if frozen {
            assert!(a == b, "{name} is frozen and changed");
            kept += 1;
        } else if a != b {
            changed += 1;
        }
    }
    assert!(kept > 10 && changed > 10, "{kept} kept, {changed} changed");

    let refused = |more: &str| {
        let config = TrainConfig::layered(&[layer(&format!("{text}\n{more}"))]).unwrap();
        train(&config, &mut (), &StopFlag::new()).unwrap_err()
    };
    let error = refused("growth_rate = 5");
    assert!(
        error.to_string().contains("a model file fixes its network"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let out = tempfile::tempdir().unwrap();
    let cases = [
        (
            "num_classes = 7",
            "--num-classes: 7 classes, but the data has 10",
            2,
        ),
        ("in_channels = 2", "", 2),
        ("block_config = [1, 1, 1, 1, 1, 1]", "smaller than the", 2),
        (
            "batch_size = 1\nblock_config = [1, 1, 1, 1]",
            "a single value per channel",
            2,
        ),
        ("freeze = [\"denseblok1\"]", "denseblock1", 2),
        (
            "class_weights = [1.0, 2.0]",
            "--class-weights: 2 weights for 10 classes",
            2,
        ),
        ("model = \"densenet12\"", "densenet121", 2),
        ("model = \"nowhere/x.safetensors\"", "no such model file", 2),
        ("data = \"/nowhere/at/all\"", "no such file or folder", 5),
        ("name = \"a/b\"", "--name", 2),
        ("spatial_dims = 3", "", 2),
    ];
    for (more, expected, code) in cases {
        let config = tiny(out.path(), more);
        let error = train(&config, &mut (), &StopFlag::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{more}: {text}");
        assert_eq!(error.exit_code(), code, "{more}: {text}");
        assert!(!text.contains('\n'));
    }
    assert_eq!(
        fs::read_dir(out.path()).unwrap().count(),
        0,
        "a refused run leaves no folder"
    );
}

#[test]
fn a_rate_that_explodes_ends_with_a_good_state() {
    let out = tempfile::tempdir().unwrap();
    let config = tiny(out.path(), "lr = 1e30\nschedule = \"constant\"\nepochs = 5");
    let error = train(&config, &mut (), &StopFlag::new()).unwrap_err();
    assert!(matches!(error, TrainError::NonFinite(_)), "{error}");
    assert_eq!(error.exit_code(), 6);
    let text = error.to_string();
    assert!(
        text.contains("digits-1") && text.contains("at step"),
        "{text}"
    );
}

#[test]
fn a_held_folder_and_a_changed_configuration_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let summary = run(&tiny(out.path(), "epochs = 1"));
    let changes = [Layer::parse("command line", "lr = 0.5").unwrap()];
    let error = resume(&summary.run, &changes, &mut (), &StopFlag::new()).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("lr is 0.5, was 0.1"), "{error}");
    let lock = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(summary.run.join("run.lock"))
        .unwrap();
    lock.lock().unwrap();
    let error = resume(&summary.run, &[], &mut (), &StopFlag::new()).unwrap_err();
    assert_eq!(error.exit_code(), 75);
    lock.unlock().unwrap();
    // A damaged state falls back to the one before, and says so.
    let state = summary.run.join("state.safetensors");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    let mut heard = Heard::default();
    let resumed = finished(resume(&summary.run, &[], &mut heard, &StopFlag::new()).unwrap());
    assert!(
        heard.0.iter().any(|w| w.contains("damaged")),
        "{:?}",
        heard.0
    );
    assert_eq!(resumed.test, summary.test);
}

#[derive(Default)]
struct Heard(Vec<String>);

impl Reporter for Heard {
    fn warning(&mut self, text: &str) {
        self.0.push(text.to_string());
    }
}
