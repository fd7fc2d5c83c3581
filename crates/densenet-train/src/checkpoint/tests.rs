use std::process::{Command, Stdio};

use super::*;

const STAGES: [SaveStage; 7] = [
    SaveStage::Begin,
    SaveStage::HeaderWritten,
    SaveStage::Written,
    SaveStage::Synced,
    SaveStage::Verified,
    SaveStage::Rotated,
    SaveStage::Renamed,
];

fn progress(generation: u64) -> Progress {
    Progress {
        format: Progress::FORMAT,
        generation,
        epoch: 3,
        sums: crate::loss::LossSum {
            loss: 0.1 + 0.2,
            weight: 3.0,
            correct: 2,
            samples: 3,
        }
        .into(),
        config: "lr = 0.1\n".into(),
        ..Progress::default()
    }
}

fn save(store: &Store, generation: u64, hook: SaveHook<'_>) -> Result<(), TrainError> {
    let (a, b) = (contents(generation), vec![-0.5; 3]);
    let arenas = [
        Arena {
            name: "parameters",
            values: &a,
        },
        Arena {
            name: "buffers",
            values: &b,
        },
    ];
    store.save(&progress(generation), &arenas, hook)
}

/// More than one chunk, different for every generation.
fn contents(generation: u64) -> Vec<f32> {
    (0..20_000)
        .map(|i| generation as f32 + i as f32 / 1024.0)
        .collect()
}

fn check(loaded: Loaded, generation: u64) {
    let mut state = loaded.state;
    assert_eq!(state.progress, progress(generation));
    assert_eq!(state.take("parameters"), Some(contents(generation)));
    assert_eq!(state.take("buffers"), Some(vec![-0.5; 3]));
    assert_eq!(state.take("buffers"), None);
    assert!(state.names().is_empty());
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_newest_state_comes_back_and_the_one_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    assert!(store.load().unwrap().is_none());
    for generation in 1..4 {
        save(&store, generation, &mut |_| Ok(())).unwrap();
        check(store.load().unwrap().unwrap(), generation);
    }
    assert_eq!(names(folder.path()), [PREVIOUS, CURRENT]);
    let previous = SavedState::decode(&fs::read(folder.path().join(PREVIOUS)).unwrap()).unwrap();
    assert_eq!(previous.progress.generation, 2);
}

#[test]
fn a_refusal_at_any_stage_keeps_a_whole_state_and_the_next_save_works() {
    for failing in STAGES {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::new(folder.path());
            save(&store, 1, &mut |_| Ok(())).unwrap();
            let refuse = &mut |stage| {
                if stage == failing {
                    Err(kind.into())
                } else {
                    Ok(())
                }
            };
            let error = save(&store, 2, refuse).unwrap_err();
            assert_eq!(error.exit_code(), 5, "{failing:?}: {error}");
            let loaded = store.load().unwrap().unwrap();
            assert!(loaded.warnings.is_empty());
            let generation = loaded.state.progress.generation;
            assert!(
                generation == 2 || generation == 1 && !matches!(failing, SaveStage::Renamed),
                "{failing:?}"
            );
            check(loaded, generation);
            save(&store, 3, &mut |_| Ok(())).unwrap();
            check(store.load().unwrap().unwrap(), 3);
            assert_eq!(
                names(folder.path()),
                [PREVIOUS, CURRENT],
                "{failing:?} left something behind"
            );
        }
    }
}

/// In the parent: a few saves into a folder of its own. In the child that [`killed_at_any_stage`] starts: the same,
/// but the process aborts, as `kill -9` would end it, at the stage that the environment names.
#[test]
fn saves_until_killed() {
    let own = tempfile::tempdir().unwrap();
    let order = std::env::var("DENSENET_TEST_ABORT").unwrap_or_default();
    let mut order = order.split(';');
    let folder = order
        .next()
        .filter(|f| !f.is_empty())
        .map_or(own.path().to_path_buf(), PathBuf::from);
    let (stage, fatal) = (
        order.next().unwrap_or_default(),
        order.next().unwrap_or_default(),
    );
    let store = Store::new(&folder);
    for generation in 1..=4_u64 {
        let hook = &mut |s: SaveStage| {
            if format!("{s:?}") == stage && generation.to_string() == fatal {
                std::process::abort();
            }
            Ok(())
        };
        save(&store, generation, hook).unwrap();
    }
    check(store.load().unwrap().unwrap(), 4);
}

#[test]
fn killed_at_any_stage() {
    for stage in STAGES {
        for fatal in [1_u64, 2, 4] {
            let folder = tempfile::tempdir().unwrap();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "checkpoint::tests::saves_until_killed"])
                .env(
                    "DENSENET_TEST_ABORT",
                    format!("{};{stage:?};{fatal}", folder.path().display()),
                )
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(
                !status.success(),
                "the child was to abort at {stage:?} of save {fatal}"
            );
            let store = Store::new(folder.path());
            crate::run_dir::remove_orphans(folder.path()).unwrap();
            match store.load().unwrap() {
                Some(loaded) => {
                    assert!(
                        loaded.warnings.is_empty(),
                        "{stage:?} {fatal}: {:?}",
                        loaded.warnings
                    );
                    let generation = loaded.state.progress.generation;
                    assert!(
                        generation == fatal || generation == fatal - 1,
                        "{stage:?} {fatal}: {generation}"
                    );
                    check(loaded, generation);
                }
                // Only the very first save may leave nothing.
                None => assert_eq!(fatal, 1, "{stage:?}"),
            }
            save(&store, 9, &mut |_| Ok(())).unwrap();
            check(store.load().unwrap().unwrap(), 9);
            assert!(
                names(folder.path())
                    .iter()
                    .all(|n| !n.ends_with(".tmp") && n != NEW),
                "{:?}",
                names(folder.path())
            );
        }
    }
}

#[test]
fn every_truncation_and_bit_flip_is_found_and_the_previous_state_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let tiny = |generation| {
        let arenas = [Arena {
            name: "parameters",
            values: &[1.0, 2.0, 3.0],
        }];
        store
            .save(&progress(generation), &arenas, &mut |_| Ok(()))
            .unwrap();
    };
    tiny(1);
    tiny(2);
    let whole = fs::read(store.path()).unwrap();
    assert!(SavedState::decode(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(
            SavedState::decode(&whole[..length]).is_err(),
            "cut to {length} bytes"
        );
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(SavedState::decode(&bytes).is_err(), "bit {bit} flipped");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(SavedState::decode(&longer).is_err());

    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(store.path(), &bytes).unwrap();
    let loaded = store.load().unwrap().unwrap();
    assert_eq!(loaded.state.progress.generation, 1);
    assert!(
        loaded.warnings[0].contains("state.safetensors: damaged"),
        "{:?}",
        loaded.warnings
    );
    // The good state has taken the damaged one's place, so that the next save does not push it out.
    tiny(3);
    fs::write(store.path(), &whole[..99]).unwrap();
    assert_eq!(store.load().unwrap().unwrap().state.progress.generation, 1);

    fs::write(store.path(), b"").unwrap();
    let error = store.load().unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("cannot be resumed"), "{error}");
}

#[test]
fn a_lying_disk_is_caught_by_reading_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    save(&store, 1, &mut |_| Ok(())).unwrap();
    let new = folder.path().join(NEW);
    let lie = &mut |stage| {
        if stage == SaveStage::Synced {
            let mut bytes = fs::read(&new)?;
            let middle = bytes.len() / 2;
            bytes[middle..middle + 1000].fill(0);
            fs::write(&new, bytes)?;
        }
        Ok(())
    };
    let error = save(&store, 2, lie).unwrap_err();
    assert!(
        error.to_string().contains("not what was written"),
        "{error}"
    );
    check(store.load().unwrap().unwrap(), 1);
}

#[test]
fn the_file_is_plain_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    save(&store, 1, &mut |_| Ok(())).unwrap();
    let bytes = fs::read(store.path()).unwrap();
    let raw =
        crate::weights::safetensors::read_from(&mut bytes.as_slice(), bytes.len() as u64).unwrap();
    assert!(raw.metadata.contains_key("progress"));
}
