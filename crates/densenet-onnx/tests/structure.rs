//! Nodes, shapes and names of exported files, held against golden lists.
//!
//! `DENSENET_WRITE_GOLDEN=1 cargo test -p densenet-onnx --test structure` writes the lists anew. That they are right,
//! `tools/onnx/check.py` proves with ONNX's own checker and shape inference.

mod common;

use std::{fmt::Write, path::Path};

use common::{generated, tiny};
use densenet_onnx::{Dim, ExportOptions, Graph, Value, export, graph_from};
use densenet_spec::{ConcatOrder, DenseNetConfig, preset};
use densenet_weights::{InitMode, Model, initialize};

fn shown(value: &Value) -> String {
    let dims = value.shape.iter().flatten().map(|dim| match dim {
        Dim::Known(size) => size.to_string(),
        Dim::Symbol(name) => name.clone(),
        Dim::Unknown => "?".to_string(),
    });
    format!("{} [{}]", value.dtype, dims.collect::<Vec<_>>().join(", "))
}

/// A line for each input, node and output, in the file's order.
fn listed(graph: &Graph) -> String {
    let mut text = format!("graph {}, opset {}\n", graph.name, graph.opset);
    for input in &graph.inputs {
        writeln!(text, "input {}: {}", input.name, shown(input)).unwrap();
    }
    for node in &graph.nodes {
        let attributes: Vec<_> = node
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let [output] = &node.outputs[..] else {
            panic!("{} has not one output", node.name)
        };
        let value = graph
            .values
            .iter()
            .chain(&graph.outputs)
            .find(|value| value.name == *output);
        let value = value.unwrap_or_else(|| panic!("{output} has no shape"));
        writeln!(
            text,
            "{}: {}({}) {} -> {}{}",
            node.name,
            node.op_type,
            attributes.join(", "),
            node.inputs.join(", "),
            if *output == node.name {
                String::new()
            } else {
                format!("{output}: ")
            },
            shown(value),
        )
        .unwrap();
    }
    for tensor in &graph.initializers {
        writeln!(text, "tensor {}: {}", tensor.name, shown(tensor)).unwrap();
    }
    text
}

#[track_caller]
fn hold(name: &str, model: &Model, options: &ExportOptions) -> Graph {
    let graph = graph_from(export(model, options).unwrap()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let text = listed(&graph);
    if std::env::var_os("DENSENET_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (line, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "{name}, line {}", line + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{name}");
    graph
}

#[test]
fn open_sizes_keep_their_names() {
    hold(
        "open-2d.txt",
        &generated(&tiny(2)),
        &ExportOptions::default(),
    );
}

#[test]
fn volumes_of_a_fixed_size() {
    let options = ExportOptions {
        opset: 13,
        batch: Some(2),
        spatial: Some([40, 33, 57]),
        softmax: true,
        fold: true,
        ..ExportOptions::default()
    };
    hold("fixed-3d-folded.txt", &generated(&tiny(3)), &options);
}

#[test]
fn half_precision_newest_first() {
    let config = DenseNetConfig {
        concat_order: ConcatOrder::NewOld,
        bn_size: 0,
        final_norm: false,
        ..tiny(2)
    };
    let options = ExportOptions {
        opset: 28,
        f16: true,
        input_name: "image".into(),
        output_name: Some("class".into()),
        ..ExportOptions::default()
    };
    hold("half-2d-new-old.txt", &generated(&config), &options);
}

#[test]
fn densenet121_is_the_tutorials() {
    let config = preset("densenet121").unwrap().config(2).unwrap();
    let architecture = densenet_spec::Architecture::new(&config).unwrap();
    let model = Model::new(
        config,
        initialize(&architecture, 1, InitMode::default_for(2)),
    )
    .unwrap();
    let options = ExportOptions {
        spatial: Some([1, 224, 224]),
        ..ExportOptions::default()
    };
    let graph = hold("densenet121.txt", &model, &options);
    assert_eq!(graph.nodes.len(), 427);
    assert_eq!(graph.values.len(), 426);
    assert!(
        graph.doc.contains("growth rate 32, blocks 6,12,24,16"),
        "{}",
        graph.doc
    );
    assert!(graph.doc.contains("at least 29x29 pixels"), "{}", graph.doc);
    let keys: Vec<_> = graph.metadata.iter().map(|(key, _)| key.as_str()).collect();
    let expected = ["format_version", "config", "num_batches_tracked", "export"];
    assert_eq!(keys, expected.map(|key| format!("densenet.{key}")));
}
