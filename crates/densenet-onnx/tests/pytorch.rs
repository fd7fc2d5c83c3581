//! PyTorch's exports, as `tools/onnx/make_golden.py` wrote them.

mod common;

use std::path::{Path, PathBuf};

use common::{generated, logits, tiny};
use densenet_onnx::{import_with_notes, read_graph};
use densenet_spec::DenseNetConfig;
use densenet_testkit::{Tolerance, assert_close};
use densenet_weights::{InputChange, NewHead, NewInput};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn cases() -> [(&'static str, DenseNetConfig); 2] {
    let volumes = DenseNetConfig {
        in_channels: 1,
        ..tiny(3)
    };
    [("torchvision", tiny(2)), ("monai", volumes)]
}

#[test]
fn exports_with_their_norms_come_back_bit_by_bit() {
    for (program, config) in cases() {
        for exporter in ["old", "new"] {
            let name = format!("{program}-{exporter}.onnx");
            let imported = import_with_notes(&golden(&name)).unwrap();
            let expected = generated(&config);
            assert_eq!(imported.model.config, config, "{name}");
            assert_eq!(imported.model.state, expected.state, "{name}");
            assert!(imported.notes.is_empty(), "{name}: {:?}", imported.notes);
            let provenance = imported.model.provenance.unwrap();
            assert_eq!(provenance["imported_from"], name);
            assert!(
                provenance["onnx_producer"]
                    .as_str()
                    .unwrap()
                    .starts_with("pytorch 2.15")
            );
        }
    }
}

#[test]
fn both_ends_can_be_replaced() {
    for (program, config) in cases() {
        let mut imported = import_with_notes(&golden(&format!("{program}-new.onnx"))).unwrap();
        let input = NewInput {
            in_channels: config.in_channels + 1,
            change: InputChange::Repeat,
        };
        let head = NewHead {
            num_classes: 7,
            seed: 1,
        };
        imported.adapt(Some(input), Some(head)).unwrap();
        imported.model.check().unwrap();
        let found = &imported.model.config;
        assert_eq!(
            [found.in_channels, found.num_classes],
            [input.in_channels, 7]
        );
        assert_eq!(imported.notes.len(), 2);
        let provenance = imported.model.provenance.unwrap();
        assert_eq!(provenance["notes"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn exports_with_folded_norms_come_back_with_the_same_effect() {
    for (program, config) in cases() {
        let expected = logits(&generated(&config));
        for exporter in ["old", "new"] {
            let name = format!("{program}-{exporter}-folded.onnx");
            let imported = import_with_notes(&golden(&name)).unwrap();
            assert_eq!(imported.model.config, config, "{name}");
            // norm0 and the norm2 of each of three layers.
            assert!(
                imported.notes[0].starts_with("4 batch norms"),
                "{:?}",
                imported.notes
            );
            // PyTorch folds in f32.
            let tolerance = Tolerance::of_peak(&expected, 1e-5);
            assert_close(&logits(&imported.model), &expected, tolerance, &name);
        }
    }
}

#[test]
fn graphs_of_strangers_are_read() {
    let graph = read_graph(&golden("torchvision-new.onnx")).unwrap();
    assert_eq!(graph.producer, "pytorch 2.15.0+cu132");
    assert_eq!(graph.opset, 20);
    assert_eq!(graph.inputs.len(), 1);
    assert_eq!(graph.outputs.len(), 1);
    let constant = graph
        .nodes
        .iter()
        .find(|node| node.op_type == "Constant")
        .unwrap();
    assert_eq!(
        constant.attributes,
        [("value_ints".to_string(), "[1]".to_string())]
    );
    let conv = graph
        .nodes
        .iter()
        .find(|node| node.op_type == "Conv")
        .unwrap();
    assert!(
        conv.attributes
            .contains(&("auto_pad".to_string(), "\"NOTSET\"".to_string()))
    );
    assert!(
        graph
            .initializers
            .iter()
            .any(|tensor| tensor.name == "classifier.weight")
    );
}
