//! Files written by PyTorch itself (`tools/weights/make_golden.py`): every dialect, serialization and element type.

mod common;

use std::path::PathBuf;

use common::{formula, networks, small_config};
use densenet_spec::{Architecture, DenseNetConfig, Stem};
use densenet_weights::{ConfigFile, ImportOptions, Imported, WeightsError, import, read_weights};
use half::{bf16, f16};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn imported(name: &str) -> Imported {
    import(&golden(name), &ImportOptions::default()).unwrap()
}

fn refused(name: &str) -> WeightsError {
    import(&golden(name), &ImportOptions::default()).unwrap_err()
}

/// Imports `name`, checks dialect and configuration, and every element against the formula: PyTorch keeps a state dict in
/// the order in which the network was built, which is the architecture's.
fn check(name: &str, dialect: &str, config: &DenseNetConfig) {
    let found = imported(name);
    assert_eq!(found.dialect, dialect, "{name}");
    assert_eq!(&found.model.config, config, "{name}");
    let architecture = Architecture::new(config).unwrap();
    let raw = read_weights(&golden(name)).unwrap();
    assert_eq!(raw.tensors.len(), architecture.parameters().len(), "{name}");
    for (parameter, (stored, tensor)) in architecture.parameters().iter().zip(raw.tensors.iter()) {
        assert_eq!(tensor.shape, parameter.shape, "{name}: {stored}");
        let here = found.model.state.get(&parameter.name).unwrap();
        assert_eq!(here.shape, parameter.shape, "{name}: {stored}");
        for (i, &value) in here.data.iter().enumerate() {
            assert_eq!(value, formula(stored, i), "{name}: {stored}[{i}]");
        }
    }
    let steps = if raw.counters.is_empty() { 0 } else { 7 };
    assert_eq!(found.model.num_batches_tracked, steps, "{name}");
}

#[test]
fn every_dialect_is_recognised_and_every_element_arrives() {
    for (name, config) in networks() {
        // timm's names are torchvision's.
        let dialect = match name.split('+').next() {
            Some("timm") | None => "torchvision",
            Some(dialect) => dialect,
        };
        check(&format!("{name}.pth"), dialect, &config);
        // Where two programs use the same names for different stems, the choice is told.
        let told = imported(&format!("{name}.pth"))
            .notes
            .iter()
            .any(|note| note.contains("stem's stride"));
        assert_eq!(told, matches!(name, "kenshohara" | "tutorial-3d"), "{name}");
    }
}

#[test]
fn every_serialization_is_read() {
    for file in [
        "torchvision+channels-last.pth",
        "torchvision+deflated.pth",
        "torchvision+parameters.pth",
    ] {
        check(file, "torchvision", &small_config());
        assert!(imported(file).notes.is_empty(), "{file}");
    }
    let expected = imported("torchvision.pth").model;
    for file in [
        "torchvision+one-storage.pth",
        "torchvision+one-storage-legacy.pth",
    ] {
        assert_eq!(imported(file).model.state, expected.state, "{file}");
    }
    let found = imported("torchvision+f32.safetensors");
    assert_eq!(found.model.state, expected.state);
    assert_eq!(found.model.num_batches_tracked, 7);
    assert!(found.notes.is_empty());
}

#[test]
fn a_checkpoint_is_unwrapped_with_notes() {
    let found = imported("torchvision+checkpoint.pth");
    assert_eq!(found.model.state, imported("torchvision.pth").model.state);
    assert_eq!(
        found.notes,
        [
            "the weights were taken from the entry `model_state_dict`",
            "the prefix `module.` of DataParallel was taken off",
            "the prefix `_orig_mod.` of torch.compile was taken off",
        ]
    );
    let notes = imported("kenshohara-2018.pth").notes;
    assert_eq!(
        notes,
        [
            "the weights were taken from the entry `state_dict`",
            "the prefix `module.` of DataParallel was taken off",
        ]
    );
}

#[test]
fn other_element_types_are_converted_with_a_note() {
    for (file, round, note) in [
        (
            "torchvision+f16.pth",
            (|v| f16::from_f32(v).to_f32()) as fn(f32) -> f32,
            "46 tensors stored as f16 were widened to f32",
        ),
        (
            "torchvision+bf16.safetensors",
            |v| bf16::from_f32(v).to_f32(),
            "46 tensors stored as bf16 were widened to f32",
        ),
        (
            "torchvision+f64.safetensors",
            |v| v,
            "46 tensors stored as f64 were rounded to f32",
        ),
    ] {
        let found = imported(file);
        assert_eq!(found.notes, [note]);
        for (name, tensor) in found.model.state.iter() {
            for (i, &value) in tensor.data.iter().enumerate() {
                assert_eq!(value, round(formula(name, i)), "{file}: {name}[{i}]");
            }
        }
    }
}

#[test]
fn what_is_no_plain_densenet_is_refused_by_name() {
    for (file, expected) in [
        ("refused+timm-deep.pth", "its stem is timm's deep stem"),
        (
            "refused+module.pth",
            "asks for the Python object `torch.nn.modules.container.Sequential`",
        ),
        (
            "refused+sparse.pth",
            "asks for the Python object `torch._utils._rebuild_sparse_tensor`",
        ),
    ] {
        let error = refused(file);
        assert_eq!(error.exit_code(), 4);
        let message = error.to_string();
        assert!(
            message.contains(file) && message.contains(expected),
            "{message}"
        );
    }
}

#[test]
fn a_named_dialect_and_options_override_what_was_inferred() {
    let options = ImportOptions {
        dialect: Some("tutorial-3d".to_string()),
        ..ImportOptions::default()
    };
    let found = import(&golden("kenshohara.pth"), &options).unwrap();
    assert_eq!(found.model.config.stem, Stem::imagenet(3));
    assert_eq!(
        found.notes,
        [
            "the names are those of tutorial-3d, whose class is not 3-D with 3 input channels",
            "the stem's stride [2, 2, 2] with max-pool is the tutorial-3d default; tensors do not show it",
        ]
    );

    let options = ImportOptions {
        dialect: Some("timm".to_string()),
        config: ConfigFile {
            bn_eps: Some(1e-3),
            drop_rate: Some(0.2),
            ..ConfigFile::default()
        },
        ..ImportOptions::default()
    };
    let found = import(&golden("timm.pth"), &options).unwrap();
    assert_eq!(
        (
            found.dialect,
            found.model.config.bn_eps,
            found.model.config.drop_rate
        ),
        ("timm", 1e-3, 0.2)
    );

    let options = ImportOptions {
        dialect: Some("monai".to_string()),
        ..ImportOptions::default()
    };
    let error = import(&golden("torchvision.pth"), &options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("read as monai: the first dense layer's conv1"),
        "{error}"
    );
    let options = ImportOptions {
        dialect: Some("torchvison".to_string()),
        ..ImportOptions::default()
    };
    let error = import(&golden("torchvision.pth"), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "dialect: `torchvison` is no dialect — did you mean torchvision?"
    );
    assert_eq!(error.exit_code(), 2);
}
