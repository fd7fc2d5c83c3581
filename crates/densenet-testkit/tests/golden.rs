//! The golden files are whole, and the generator here gives the same bits as the one in Python that made them.

use std::{fs, path::Path};

use densenet_testkit::{
    Distribution, Goldens, Tolerance, assert_close, fill, generate_labels, goldens,
};

#[test]
fn python_and_rust_generate_the_same_bits() {
    let index = goldens().index;
    let samples = index["generator"].as_array().unwrap();
    assert!(samples.len() >= 5);
    for sample in samples {
        let name = sample["name"].as_str().unwrap();
        let seed: u64 = sample["seed"].as_str().unwrap().parse().unwrap();
        let whole = |key: &str| -> Vec<u64> {
            let values = sample[key].as_array().unwrap().iter();
            values.map(|v| v.as_u64().unwrap()).collect()
        };
        let expected = whole("bits");
        let distribution = Distribution {
            center: sample["center"].as_f64().unwrap(),
            half_width: sample["half_width"].as_f64().unwrap(),
        };
        let values = fill(name, expected.len(), seed, distribution);
        let bits: Vec<u64> = values.iter().map(|v| v.to_bits() as u64).collect();
        assert_eq!(bits, expected, "{name}");
        let labels: Vec<u64> = generate_labels(expected.len(), 10, seed, 0)
            .into_iter()
            .map(|label| label as u64)
            .collect();
        assert_eq!(labels, whole("labels"), "{name}");
    }
}

#[test]
fn goldens_say_what_made_them() {
    let goldens = goldens();
    for tool in [
        "python",
        "torch",
        "torchvision",
        "monai",
        "numpy",
        "safetensors",
    ] {
        assert!(
            goldens.versions.get(tool).is_some_and(|v| !v.is_empty()),
            "{tool}"
        );
    }
    for case in &goldens.logits {
        let logits = &case.logits;
        assert_eq!(
            logits.shape,
            [case.batch(), case.config.num_classes],
            "{}",
            case.name
        );
        assert!(logits.data.iter().all(|v| v.is_finite()), "{}", case.name);
    }
    for case in &goldens.training {
        assert_eq!(case.config.drop_rate, 0.0, "{}", case.name);
        // Otherwise float32 could see another derivative, and no tolerance would be derived.
        assert!(
            case.kink_margin > 1e-5 && case.run_kink_margin > 1e-6,
            "{}",
            case.name
        );
    }
}

#[test]
fn damaged_files_are_named() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let folder =
        std::env::temp_dir().join(format!("densenet-golden-damaged-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for file in fs::read_dir(&golden).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_dir() {
            continue;
        }
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    assert!(Goldens::load(&folder).is_ok());

    let victim = folder.join("training-2d-plain-small.safetensors");
    let reason_with = |content: &[u8]| {
        fs::write(&victim, content).unwrap();
        let error = Goldens::load(&folder).unwrap_err();
        assert_eq!(error.path, victim);
        error.reason
    };
    let whole = fs::read(&victim).unwrap();
    let other = fs::read(golden.join("logits.safetensors")).unwrap();
    assert!(!reason_with(&whole[..whole.len() / 2]).is_empty());
    assert!(!reason_with(b"not a file of tensors").is_empty());
    assert!(reason_with(&other).starts_with("lacks the tensor "));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn tolerances_grow_with_pytorchs_own_error() {
    let goldens = goldens();
    let case = goldens.training_case("2d-plain-small");
    let tensor = &case.gradients[0].1;
    let peak = |data: &[f64]| data.iter().fold(0.0f64, |peak, v| peak.max(v.abs()));
    let all: Vec<f64> = case.gradients.iter().map(|(_, t)| peak(&t.data)).collect();
    assert_eq!(tensor.group_peak, peak(&all));
    let rounding = f32::EPSILON as f64 * (16.0 * peak(&tensor.data) + tensor.group_peak);
    let expected = 10.0 * (tensor.float32_error + rounding);
    let found = tensor.tolerance(10.0);
    assert_close(
        &[found.atol],
        &[expected],
        Tolerance {
            atol: 0.0,
            rtol: 1e-12,
        },
        "tolerance",
    );
    assert!(
        found.rtol == 0.0 && tensor.float32_error > 0.0 && expected < 1e-2 * peak(&tensor.data)
    );
}

#[test]
#[should_panic(expected = "no golden case nonsense; there are [")]
fn unknown_cases_are_a_panic_that_lists_the_known() {
    goldens().logits_case("nonsense");
}
