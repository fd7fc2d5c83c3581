//! What is exported is imported again: every dialect, both formats; and what cannot be exported is refused.

mod common;

use common::{model, small_config};
use densenet_spec::{ConcatOrder, DenseNetConfig, Stem};
use densenet_weights::{
    ConfigFile, DIALECTS, ImportOptions, InputChange, Model, NewHead, NewInput, StemFile,
    StemParts, export, import,
};

/// A network that the dialect's class can be.
fn suitable(dialect: &str) -> DenseNetConfig {
    let mut config = small_config();
    match dialect {
        "monai" | "kenshohara" | "kenshohara-2018" | "tutorial-3d" => {
            config.spatial_dims = 3;
            config.stem = Stem::imagenet(3);
            if dialect.starts_with("kenshohara") {
                config.stem.stride = [1, 2, 2];
            } else {
                config.in_channels = 1;
            }
        }
        "tutorial-rewritten" => config.block_config = vec![1, 1, 2, 1],
        "tutorial-bottom" => {
            config.block_config = vec![1, 1, 2, 1];
            config.concat_order = ConcatOrder::NewOld;
            config.final_norm = false;
        }
        "gpleiss" => {
            config.stem = Stem::small(2);
            config.compression = 0.7;
        }
        _ => {}
    }
    config
}

#[test]
fn every_dialect_returns() {
    let folder = tempfile::tempdir().unwrap();
    for dialect in DIALECTS {
        let mut original = model(&suitable(dialect.name));
        for ending in ["pth", "pt", "safetensors"] {
            let path = folder.path().join(format!("{}.{ending}", dialect.name));
            let exported = export(&original, &path, Some(dialect.name)).unwrap();
            assert_eq!(exported.dialect, dialect.name);
            let found = import(&path, &ImportOptions::default()).unwrap();
            // timm's names are torchvision's.
            let expected = if dialect.name == "timm" {
                "torchvision"
            } else {
                dialect.name
            };
            assert_eq!(found.dialect, expected);
            assert_eq!(found.model.config, original.config, "{}", dialect.name);
            assert_eq!(found.model.state, original.state, "{}", dialect.name);
            if dialect.name.contains("legacy") || dialect.name.contains("2018") {
                original.num_batches_tracked = 0;
            }
            assert_eq!(
                found.model.num_batches_tracked,
                original.num_batches_tracked
            );
            original.num_batches_tracked = 7;
            let provenance = found.model.provenance.unwrap();
            assert_eq!(provenance["dialect"], expected);
        }
    }
    // Nothing but the files themselves is left.
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, DIALECTS.len() * 3);
}

#[test]
fn without_a_dialect_the_first_that_fits_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    for (config, expected) in [
        (suitable("torchvision"), "torchvision"),
        (suitable("monai"), "monai"),
        (suitable("kenshohara"), "kenshohara"),
        (suitable("gpleiss"), "gpleiss"),
        (suitable("tutorial-bottom"), "tutorial-bottom"),
    ] {
        let path = folder.path().join("weights.safetensors");
        assert_eq!(
            export(&model(&config), &path, None).unwrap().dialect,
            expected
        );
    }
}

#[test]
fn a_model_file_is_imported_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let mut original = model(&small_config());
    original.classes = Some(["a", "b", "c"].map(String::from).to_vec());
    original.save(&path).unwrap();
    let found = import(&path, &ImportOptions::default()).unwrap();
    assert_eq!((found.dialect, &found.model), ("model", &original));

    // Its ends change like any other's, once; an option that contradicts its tensors is an error.
    let mut options = ImportOptions {
        dialect: Some("auto".to_string()),
        input: Some(NewInput {
            in_channels: 1,
            change: InputChange::Sum,
        }),
        ..ImportOptions::default()
    };
    assert_eq!(import(&path, &options).unwrap().model.config.in_channels, 1);
    options.config.in_channels = Some(5);
    let error = import(&path, &options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("features.conv0.weight is [4, 3, 7, 7], needed [4, 5, 7, 7]"),
        "{error}"
    );
}

#[test]
fn what_a_class_cannot_be_is_not_exported_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    let changed = |change: fn(&mut DenseNetConfig)| {
        let mut config = small_config();
        change(&mut config);
        model(&config)
    };
    let cases: [(&str, Model, &str); 8] = [
        (
            "torchvision",
            model(&suitable("monai")),
            "the network is 3-D",
        ),
        ("kenshohara", model(&small_config()), "the network is 2-D"),
        (
            "torchvision",
            model(&suitable("tutorial-bottom")),
            "the network concatenates new_old",
        ),
        (
            "torchvision",
            changed(|c| c.final_norm = false),
            "the network has no final norm",
        ),
        (
            "torchvision",
            changed(|c| c.bn_size = 0),
            "the network has no bottlenecks",
        ),
        (
            "torchvision",
            changed(|c| c.stem = Stem::small(2)),
            "the network has another stem",
        ),
        (
            "tutorial-rewritten",
            model(&small_config()),
            "the network has 2 blocks, not 4",
        ),
        (
            "tutorial-3d",
            model(&suitable("kenshohara")),
            "the network has another stem",
        ),
    ];
    for (dialect, model, expected) in cases {
        let error = export(&model, &path, Some(dialect)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    let nowhere = changed(|c| (c.bn_size, c.stem) = (0, Stem::small(2)));
    let error = export(&nowhere, &path, None).unwrap_err();
    assert!(error.to_string().contains("keep the model file"), "{error}");
    let error = export(&model(&small_config()), &folder.path().join("x.h5"), None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("end the name with .pth, .pt or .safetensors"),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn users_of_the_class_are_told_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = small_config();
    config.in_channels = 1;
    config.bn_eps = 1e-3;
    config.compression = 1.0;
    let notes = export(&model(&config), &folder.path().join("x.pth"), None)
        .unwrap()
        .notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].contains("reads 3 channels"));
    assert!(notes[1].contains("keeps a share of 1"));
    assert!(notes[2].contains("set eps = 0.001"));
}

#[test]
fn plain_networks_keep_their_structure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut config = small_config();
    (config.bn_size, config.compression, config.stem) = (0, 1.0, Stem::small(2));
    config.block_config = vec![3, 2];
    let original = model(&config);
    // Without its metadata the model file is a plain torchvision-named one.
    original.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    safetensors::serialize_to_file(theirs.iter(), None, &path).unwrap();
    let found = import(&path, &ImportOptions::default()).unwrap();
    assert_eq!(found.model.config, config);
    assert_eq!(found.model.state, original.state);
}

#[test]
fn a_head_is_replaced_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    let original = model(&small_config());
    export(&original, &path, None).unwrap();
    let contradicting = ImportOptions {
        config: ConfigFile {
            num_classes: Some(5),
            ..ConfigFile::default()
        },
        ..ImportOptions::default()
    };
    let error = import(&path, &contradicting).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("2 misshaped (classifier.weight is [3, 6], needed [5, 6]"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 4);

    let asked = ImportOptions {
        head: Some(NewHead {
            num_classes: 5,
            seed: 1,
        }),
        ..ImportOptions::default()
    };
    let found = import(&path, &asked).unwrap();
    assert_eq!(found.model.config.num_classes, 5);
    assert_eq!(
        found.model.state.get("classifier.weight").unwrap().shape,
        [5, 6]
    );
    assert_eq!(
        found.model.state.get("features.conv0.weight"),
        original.state.get("features.conv0.weight")
    );
    assert_eq!(
        found.notes,
        ["the classifier for 3 classes was replaced by a fresh one for 5"]
    );
}

#[test]
fn the_first_convolution_changes_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    let original = model(&small_config());
    export(&original, &path, None).unwrap();
    let old = original.state.get("features.conv0.weight").unwrap();
    let at = |tensor: &densenet_weights::Tensor, o: usize, i: usize, k: usize| {
        tensor.data[(o * tensor.shape[1] + i) * 49 + k]
    };
    for (in_channels, change) in [
        (1, InputChange::Sum),
        (1, InputChange::Mean),
        (2, InputChange::Mean),
        (5, InputChange::Repeat),
    ] {
        let options = ImportOptions {
            input: Some(NewInput {
                in_channels,
                change,
            }),
            ..ImportOptions::default()
        };
        let found = import(&path, &options).unwrap();
        assert_eq!(found.model.config.in_channels, in_channels);
        let new = found.model.state.get("features.conv0.weight").unwrap();
        assert_eq!(new.shape, [4, in_channels, 7, 7]);
        for (o, i, k) in
            (0..4).flat_map(|o| (0..in_channels).flat_map(move |i| (0..49).map(move |k| (o, i, k))))
        {
            let sum: f32 = (0..3).map(|c| at(old, o, c, k)).sum();
            let expected = match change {
                InputChange::Sum => sum,
                InputChange::Mean => sum / 3.0,
                InputChange::Repeat => at(old, o, i % 3, k) * 3.0 / 5.0,
            };
            assert!((at(new, o, i, k) - expected).abs() < 1e-6);
        }
    }
    let options = ImportOptions {
        input: Some(NewInput {
            in_channels: 2,
            change: InputChange::Sum,
        }),
        ..ImportOptions::default()
    };
    let error = import(&path, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "in_channels: the sum over channels makes 1 channel, not 2 — choose `repeat` or `mean`"
    );
}

#[test]
fn options_that_contradict_the_tensors_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    export(&model(&small_config()), &path, None).unwrap();
    let with = |config: ConfigFile| {
        let options = ImportOptions {
            config,
            ..ImportOptions::default()
        };
        import(&path, &options)
    };
    let error = with(ConfigFile {
        growth_rate: Some(3),
        ..ConfigFile::default()
    })
    .unwrap_err();
    assert!(error.to_string().contains("misshaped"), "{error}");
    let error = with(ConfigFile {
        final_norm: Some(false),
        ..ConfigFile::default()
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("surplus (features.norm5.weight"),
        "{error}"
    );
    let error = with(ConfigFile {
        drop_rate: Some(1.5),
        ..ConfigFile::default()
    })
    .unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let stem = StemParts {
        kernel: vec![7, 7],
        stride: vec![1, 1],
        norm: true,
        pool: false,
    };
    let found = with(ConfigFile {
        stem: Some(StemFile::Parts(stem)),
        ..ConfigFile::default()
    })
    .unwrap();
    assert_eq!(found.model.config.stem.stride, [1, 1, 1]);
}
