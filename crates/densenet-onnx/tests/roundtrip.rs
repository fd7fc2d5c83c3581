//! What is exported comes back.

mod common;

use common::{generated, logits, networks, tiny};
use densenet_onnx::{
    ExportOptions, NEWEST_OPSET, OLDEST_OPSET, export, export_to, import, import_from,
};
use densenet_testkit::{Tolerance, assert_close};
use densenet_weights::{Model, Tensor};
use half::f16;

fn default() -> ExportOptions {
    ExportOptions::default()
}

#[test]
fn every_network_comes_back_bit_by_bit() {
    for (name, config) in networks() {
        let mut model = generated(&config);
        model.classes = Some(vec!["cat".into(), "dog".into(), "Käfer".into()]);
        model.preprocessing = Some(serde_json::json!({"channels": 3, "mean": [0.5, 0.25, 0.1]}));
        model.provenance = Some(serde_json::json!({"data": "a test's"}));
        model.num_batches_tracked = 70;
        let open = export(&model, &default()).unwrap();
        let imported = import_from(open).unwrap();
        assert_eq!(imported.model, model, "{name}");
        assert!(imported.notes.is_empty(), "{name}: {:?}", imported.notes);
        assert!(
            imported.producer.starts_with("densenet "),
            "{}",
            imported.producer
        );
    }
}

#[test]
fn every_opset_and_size_comes_back() {
    let model = generated(&tiny(3));
    for opset in OLDEST_OPSET..=NEWEST_OPSET {
        let spatial = (opset % 2 == 0).then_some([40, 33, 57]);
        let batch = (opset % 3 == 0).then_some(4);
        let options = ExportOptions {
            opset,
            spatial,
            batch,
            ..default()
        };
        let file = export(&model, &options).unwrap();
        assert_eq!(import_from(file).unwrap().model, model, "{opset}");
    }
}

#[test]
fn folded_norms_come_back_as_others_with_the_same_effect() {
    for (name, config) in networks() {
        let model = generated(&config);
        let options = ExportOptions {
            fold: true,
            softmax: true,
            ..default()
        };
        let imported = import_from(export(&model, &options).unwrap()).unwrap();
        assert_eq!(imported.model.config, model.config, "{name}");
        let folds = config.bn_size > 0 || config.stem.norm;
        let folded = imported
            .notes
            .iter()
            .any(|note| note.contains("had become part"));
        assert_eq!(folded, folds, "{name}: {:?}", imported.notes);
        assert!(
            imported.notes.iter().any(|note| note.contains("softmax")),
            "{name}"
        );
        // Weights and biases are rounded to f32 once more, and so are 1 − ε and its root: a few ε₃₂ of the peak.
        let expected = logits(&model);
        let tolerance = Tolerance::of_peak(&expected, 1e-5);
        assert_close(&logits(&imported.model), &expected, tolerance, name);
    }
}

#[test]
fn half_precision_rounds_weights_and_nothing_else() {
    let model = generated(&tiny(2));
    let options = ExportOptions {
        f16: true,
        ..default()
    };
    let file = export(&model, &options).unwrap();
    let imported = import_from(file).unwrap();
    for ((name, ours), (_, theirs)) in model.state.iter().zip(imported.model.state.iter()) {
        for (&value, &back) in ours.data.iter().zip(&theirs.data) {
            let rounded = if ours.shape.len() > 1 {
                f16::from_f32(value).to_f32()
            } else {
                value
            };
            assert_eq!(back, rounded, "{name}");
        }
    }
    // 6 convolutions of the blocks, one of the transition, the stem's, the classifier.
    assert_eq!(
        imported.notes,
        ["9 tensors of another precision became f32"]
    );
}

#[test]
fn a_weight_beyond_half_precision_is_named() {
    let mut model = generated(&tiny(2));
    model.state.get_mut("features.conv0.weight").unwrap().data[3] = 7e4;
    let options = ExportOptions {
        f16: true,
        ..default()
    };
    let error = export(&model, &options).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let said = error.to_string();
    assert!(
        said.contains("element 3 of features.conv0.weight is 70000"),
        "{said}"
    );
}

#[test]
fn a_norm_that_cannot_be_folded_is_named() {
    let mut model = generated(&tiny(2));
    let name = "features.norm0.running_var";
    model.state.insert(name, Tensor::full(&[6], -1.0));
    let options = ExportOptions {
        fold: true,
        ..default()
    };
    let error = export(&model, &options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("features.norm0 cannot be folded"),
        "{error}"
    );
}

#[test]
fn options_that_cannot_be_carried_out_are_named() {
    let model = generated(&tiny(2));
    let refused = |change: &dyn Fn(&mut ExportOptions), part: &str| {
        let mut options = default();
        change(&mut options);
        let error = export(&model, &options).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        let said = error.to_string();
        assert!(
            said.contains(part) && said.contains(" — "),
            "{part:?} is not in: {said}"
        );
    };
    refused(&|o| o.opset = 12, "opset: 12 cannot be written");
    refused(&|o| o.opset = 99, "13 to 28");
    refused(&|o| o.batch = Some(0), "batch: 0");
    refused(&|o| o.spatial = Some([1, 1, 64]), "too small");
    refused(&|o| o.spatial = Some([3, 64, 64]), "depth 1");
    refused(&|o| o.input_name = String::new(), "input-name");
    refused(
        &|o| o.input_name = "/features/conv0".into(),
        "`/features/conv0` cannot be the name",
    );
    refused(
        &|o| o.output_name = Some("classifier.bias".into()),
        "output-name",
    );
    refused(
        &|o| o.output_name = Some("input".into()),
        "`input` is the input's name",
    );
}

#[test]
fn an_unsound_model_is_not_written() {
    let mut model = generated(&tiny(2));
    model.state.get_mut("classifier.bias").unwrap().data[0] = f32::NAN;
    let error = export(&model, &default()).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(
        error.to_string().contains("`classifier.bias` holds NaN"),
        "{error}"
    );
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let model = generated(&tiny(2));
    let length = export_to(&model, &default(), &path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    assert_eq!(import(&path).unwrap(), model);
    let absent = folder.path().join("absent").join("model.onnx");
    let error = export_to(&model, &default(), &absent).unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("absent"), "{error}");
    let error = import(&absent).unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert_eq!(import(folder.path()).unwrap_err().exit_code(), 5);
    let model: Model = import(&path).unwrap();
    assert_eq!(model.num_batches_tracked, 0);
}
