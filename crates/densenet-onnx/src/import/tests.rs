//! Graphs changed by hand: what is understood all the same, and what is refused by name.

use densenet_spec::{Architecture, preset};
use densenet_weights::{InitMode, Model, initialize};
use prost::Message;

use super::{
    Imported,
    constants::{Constant, Tensors},
    import_from,
};
use crate::{
    error::OnnxError,
    export::{ExportOptions, export},
    proto::{
        AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
        ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
    },
    read::Folder,
};

fn model() -> Model {
    let mut config = preset("densenet121").unwrap().config(2).unwrap();
    (config.growth_rate, config.num_init_features) = (4, 6);
    (config.block_config, config.num_classes) = (vec![2, 1], 3);
    let state = initialize(
        &Architecture::new(&config).unwrap(),
        3,
        InitMode::default_for(2),
    );
    Model::new(config, state).unwrap()
}

/// The graph of [`model`], without the metadata by which it would be known.
fn graph() -> ModelProto {
    let file = export(&model(), &ExportOptions::default()).unwrap();
    let mut proto = ModelProto::decode(file.as_slice()).unwrap();
    proto.metadata_props.clear();
    proto
}

fn changed(change: impl FnOnce(&mut ModelProto)) -> Result<Imported, OnnxError> {
    let mut proto = graph();
    change(&mut proto);
    import_from(proto.encode_to_vec())
}

#[track_caller]
fn understood(change: impl FnOnce(&mut ModelProto)) {
    let imported = changed(change).unwrap();
    assert_eq!(imported.model.state, model().state);
    assert_eq!(imported.model.config, model().config);
}

#[track_caller]
fn refused(change: impl FnOnce(&mut ModelProto), parts: &[&str]) {
    let error = changed(change).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    let said = error.to_string();
    for part in parts.iter().chain(&[" — "]) {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

fn node<'a>(proto: &'a mut ModelProto, name: &str) -> &'a mut NodeProto {
    let nodes = &mut proto.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|node| node.name() == name).unwrap()
}

fn place(proto: &ModelProto, name: &str) -> usize {
    let nodes = &proto.graph.as_ref().unwrap().node;
    nodes.iter().position(|node| node.name() == name).unwrap()
}

fn tensor<'a>(proto: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    let tensors = &mut proto.graph.as_mut().unwrap().initializer;
    tensors
        .iter_mut()
        .find(|tensor| tensor.name() == name)
        .unwrap()
}

fn set(node: &mut NodeProto, attribute: AttributeProto) {
    node.attribute.retain(|old| old.name() != attribute.name());
    node.attribute.push(attribute);
}

fn new_node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|name| name.to_string()).collect(),
        output: vec![output.to_string()],
        name: Some(format!("new {op_type}")),
        op_type: Some(op_type.to_string()),
        ..Default::default()
    }
}

/// Puts `new` before the node called `before`, whose first input it takes and replaces.
fn insert(proto: &mut ModelProto, before: &str, mut new: NodeProto) {
    let index = place(proto, before);
    let reader = node(proto, before);
    let input = std::mem::replace(&mut reader.input[0], "inserted".to_string());
    new.input.insert(0, input);
    new.output = vec!["inserted".to_string()];
    proto.graph.as_mut().unwrap().node.insert(index, new);
}

fn floats(name: &str, values: &[f32]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Float.into()),
        float_data: values.to_vec(),
        name: Some(name.to_string()),
        ..Default::default()
    }
}

#[test]
fn the_graph_alone_says_which_network_it_is() {
    understood(|_| {});
}

#[test]
fn detours_of_exporters_are_understood() {
    understood(|proto| insert(proto, "/features/relu0", new_node("Identity", &[], "")));
    understood(|proto| insert(proto, "/classifier", new_node("Dropout", &[], "")));
    understood(|proto| {
        let mut pad = new_node("Pad", &[], "");
        pad.attribute = vec![AttributeProto::ints("pads", vec![0; 8])];
        insert(proto, "/features/transition1/pool", pad);
    });
    understood(|proto| {
        let mut cast = new_node("Cast", &[], "");
        cast.attribute = vec![AttributeProto::int("to", DataType::Float as i64)];
        insert(proto, "/features/denseblock1/denselayer2/conv2", cast);
    });
    // A concatenation of everything at once, in place of one that builds on the last.
    understood(|proto| {
        let concat = node(proto, "/features/denseblock1/denselayer2/concat");
        concat.input = vec![
            "/features/pool0".to_string(),
            "/features/denseblock1/denselayer1/conv2".to_string(),
            "/features/denseblock1/denselayer2/conv2".to_string(),
        ];
    });
}

#[test]
fn a_classifier_in_two_steps_is_understood() {
    understood(|proto| {
        let classifier = node(proto, "/classifier");
        classifier.op_type = Some("MatMul".to_string());
        classifier.attribute.clear();
        classifier.input = vec!["/flatten".into(), "turned".into()];
        classifier.output = vec!["product".into()];
        let mut turn = new_node("Transpose", &["classifier.weight"], "turned");
        turn.attribute = vec![AttributeProto::ints("perm", vec![1, 0])];
        let add = new_node("Add", &["classifier.bias", "product"], "logits");
        let nodes = &mut proto.graph.as_mut().unwrap().node;
        nodes.insert(0, turn);
        nodes.push(add);
    });
}

#[test]
fn a_bias_that_the_output_leaves_out_is_refused() {
    refused(
        |proto| {
            node(proto, "/classifier").input.pop();
            let add = new_node("Add", &["logits", "classifier.bias"], "elsewhere");
            proto.graph.as_mut().unwrap().node.push(add);
        },
        &["`logits` is not a classifier's"],
    );
}

#[test]
fn a_mean_over_the_pixels_is_a_global_pooling() {
    for (axes, keepdims) in [(vec![2, 3], 1), (vec![-1, -2], 0)] {
        understood(|proto| {
            let pool = node(proto, "/avgpool");
            pool.op_type = Some("ReduceMean".to_string());
            let keep = AttributeProto::int("keepdims", keepdims);
            pool.attribute = vec![AttributeProto::ints("axes", axes), keep];
        });
    }
    refused(
        |proto| {
            let pool = node(proto, "/avgpool");
            pool.op_type = Some("ReduceMean".to_string());
            pool.attribute = vec![AttributeProto::ints("axes", vec![1, 2])];
        },
        &["`/avgpool` (ReduceMean)", "axes [1, 2]"],
    );
}

#[test]
fn numbers_in_lists_are_read_as_raw_ones_are() {
    understood(|proto| {
        let bias = tensor(proto, "classifier.bias");
        let raw = bias.raw_data.take().unwrap();
        bias.float_data = raw
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
    });
}

#[test]
fn a_bias_before_a_norm_goes_into_its_mean() {
    let imported = changed(|proto| {
        let bias = floats("bias", &[0.5, -0.25, 1.0, 0.0, 2.0, -3.0]);
        proto.graph.as_mut().unwrap().initializer.push(bias);
        node(proto, "/features/conv0")
            .input
            .push("bias".to_string());
    })
    .unwrap();
    let mean = imported
        .model
        .state
        .get("features.norm0.running_mean")
        .unwrap();
    assert_eq!(mean.data, [-0.5, 0.25, -1.0, 0.0, -2.0, 3.0]);
    assert!(
        imported.notes[0].contains("took up the bias"),
        "{:?}",
        imported.notes
    );
}

#[test]
fn what_is_no_densenet_is_refused_by_its_node() {
    refused(
        |proto| node(proto, "/features/relu0").op_type = Some("Sigmoid".to_string()),
        &["`/features/relu0` (Sigmoid)", "no part of a DenseNet"],
    );
    refused(
        |proto| node(proto, "/features/relu5").domain = Some("com.example".to_string()),
        &["`/features/relu5`", "`com.example`"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/features/conv0"),
                AttributeProto::int("group", 3),
            )
        },
        &["`/features/conv0` (Conv)", "group is 3"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/features/conv0"),
                AttributeProto::ints("pads", vec![2; 4]),
            )
        },
        &["`/features/conv0`", "padding [0, 3, 3]"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/features/conv0"),
                AttributeProto::ints("pads", vec![3, 3, 2, 2]),
            )
        },
        &["differs before and behind"],
    );
    refused(
        |proto| {
            let conv = node(proto, "/features/denseblock1/denselayer1/conv2");
            set(conv, AttributeProto::ints("dilations", vec![2, 2]));
        },
        &["denselayer1/conv2", "dilated"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/features/pool0"),
                AttributeProto::int("ceil_mode", 1),
            )
        },
        &["`/features/pool0`", "ceil_mode is 1"],
    );
    refused(
        |proto| {
            let same = AttributeProto {
                name: Some("auto_pad".to_string()),
                r#type: Some(AttributeType::String.into()),
                s: Some("SAME_UPPER".into()),
                ..Default::default()
            };
            set(node(proto, "/features/pool0"), same);
        },
        &["auto_pad"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/features/norm5"),
                AttributeProto::float("epsilon", 1e-3),
            )
        },
        &["`/features/norm5`", "epsilon is 0.001"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/features/norm5"),
                AttributeProto::int("training_mode", 1),
            )
        },
        &["training_mode is 1"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/classifier"),
                AttributeProto::float("alpha", 2.0),
            )
        },
        &["`/classifier` (Gemm)", "alpha is 2"],
    );
    refused(
        |proto| {
            let bias = floats("bias", &[1.0; 4]);
            proto.graph.as_mut().unwrap().initializer.push(bias);
            node(proto, "/features/denseblock1/denselayer1/conv2")
                .input
                .push("bias".into());
        },
        &["denselayer1/conv2", "no norm of its own behind it"],
    );
}

#[test]
fn channels_in_another_order_are_refused() {
    refused(
        |proto| {
            node(proto, "/features/denseblock1/denselayer2/concat")
                .input
                .swap(0, 1)
        },
        &["`/features/transition1/norm`", "in another order"],
    );
    refused(
        |proto| {
            set(
                node(proto, "/features/denseblock1/denselayer1/concat"),
                AttributeProto::int("axis", 2),
            )
        },
        &["denselayer1/concat", "axis 2"],
    );
    // The layer reads what the block began with, not what the last layer added.
    refused(
        |proto| {
            let norm = node(proto, "/features/denseblock1/denselayer2/norm1");
            norm.input[0] = "/features/pool0".to_string();
        },
        &["denselayer2/norm1", "reads other channels"],
    );
}

#[test]
fn broken_graphs_are_refused() {
    refused(
        |proto| node(proto, "/features/norm0").input[0] = "nowhere".to_string(),
        &["`/features/norm0`", "`nowhere` is nowhere computed"],
    );
    refused(
        |proto| node(proto, "/features/norm0").output = vec!["/features/conv0".to_string()],
        &["there already"],
    );
    refused(
        |proto| proto.graph.as_mut().unwrap().node.truncate(12),
        &["`logits` is not a classifier's"],
    );
    refused(
        |proto| {
            let again = tensor(proto, "classifier.bias").clone();
            proto.graph.as_mut().unwrap().initializer.push(again);
        },
        &["two tensors are called `classifier.bias`"],
    );
    refused(
        |proto| tensor(proto, "classifier.bias").dims = vec![4],
        &[
            "`/classifier`",
            "bias has the shape [4] where [3] is needed",
        ],
    );
    refused(
        |proto| tensor(proto, "classifier.bias").dims = vec![-1],
        &["shape [-1]"],
    );
    refused(
        |proto| tensor(proto, "classifier.bias").raw_data = Some(vec![0; 8].into()),
        &["`classifier.bias` holds 2 elements where its shape says 3"],
    );
    refused(
        |proto| tensor(proto, "classifier.bias").data_type = Some(DataType::Int8.into()),
        &["holds int8", "unquantised"],
    );
    refused(
        |proto| {
            let nan = f32::NAN.to_le_bytes().repeat(3);
            tensor(proto, "classifier.bias").raw_data = Some(nan.into());
        },
        &["`classifier.bias` holds NaN"],
    );
    refused(
        |proto| {
            let more = ValueInfoProto {
                name: Some("mask".to_string()),
                ..Default::default()
            };
            proto.graph.as_mut().unwrap().input.push(more);
        },
        &["2 inputs"],
    );
    refused(
        |proto| {
            proto.opset_import = vec![OperatorSetIdProto {
                domain: None,
                version: Some(8),
            }]
        },
        &["opset 8"],
    );
    refused(
        |proto| {
            let function = FunctionProto {
                name: Some("Relu".to_string()),
                ..Default::default()
            };
            proto.functions.push(function);
        },
        &["redefines the operator Relu"],
    );
    refused(|proto| proto.graph = None, &["no graph"]);
}

#[test]
fn metadata_that_contradict_the_graph_are_refused() {
    let with_config = |from: &str, to: &str| {
        let file = export(&model(), &ExportOptions::default()).unwrap();
        let mut proto = ModelProto::decode(file.as_slice()).unwrap();
        let pairs = &mut proto.metadata_props;
        let pair = pairs
            .iter_mut()
            .find(|pair| pair.key() == "densenet.config")
            .unwrap();
        let text = pair.value().replace(from, to);
        assert_ne!(text, pair.value());
        pair.value = Some(text);
        import_from(proto.encode_to_vec()).unwrap_err()
    };
    for (from, to, part) in [
        (
            "\"block_config\":[2,1]",
            "\"block_config\":[1,2]",
            "`/features/denseblock1/denselayer2/",
        ),
        ("\"growth_rate\":4", "\"growth_rate\":5", "shape"),
        (
            "\"final_norm\":true",
            "\"final_norm\":false",
            "`/features/norm5`",
        ),
        ("\"num_classes\":3", "\"num_classes\":4", "`/classifier`"),
        (
            "\"block_config\":[2,1]",
            "\"block_config\":[4000,4000]",
            "8000 dense layers",
        ),
        (
            "\"growth_rate\":4",
            "\"growth_rate\":\"x\"",
            "`densenet.config`",
        ),
        (
            "\"compression\":0.5",
            "\"compression\":0.6",
            "`/features/transition1/conv`",
        ),
    ] {
        let error = with_config(from, to);
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(
            error.to_string().contains(part),
            "{part:?} is not in: {error}"
        );
    }
}

#[test]
fn a_tensor_used_over_and_over_is_a_limit() {
    // A number expanded to a long vector costs the file nothing.
    let node = new_node("Conv", &[], "y");
    let mut tensors = Tensors::new(Folder::none(), 1000);
    let fill = Constant::Fill(0.5);
    let read = tensors.read(&node, "bias", &fill, &[1 << 20]).unwrap();
    assert_eq!((read.len(), read[77]), (1 << 20, 0.5));
    let error = tensors.read(&node, "bias", &fill, &[1 << 24]).unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(error.to_string().contains("over and over"), "{error}");
    let error = tensors
        .read(&node, "bias", &fill, &[usize::MAX, 2])
        .unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}
