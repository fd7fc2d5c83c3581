//! From nodes to a list of operations.

mod head;

use std::{collections::HashMap, rc::Rc};

use densenet_spec::Window;

use super::{
    attributes::{Attributes, refuse},
    constants::Constant,
    shapes,
};
use crate::{
    error::{OnnxError, Problem, printable},
    proto::{GraphProto, ModelProto, NodeProto, tensor_proto::DataType},
    read,
};

/// What a graph computes, in its own order.
pub(super) struct Operations<'a> {
    /// The operations that make up the network.
    pub list: Vec<Operation<'a>>,
    /// Whether a softmax ends it.
    pub softmax: bool,
}

/// One operation and where its input comes from.
pub(super) struct Operation<'a> {
    /// The node that it was, to name in errors.
    pub node: &'a NodeProto,
    /// What it computes.
    pub kind: Kind<'a>,
    /// Whose channels it reads, in this order.
    pub inputs: Rc<[Source]>,
}

/// Where channels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The network's input.
    Input,
    /// The operation with this index.
    Operation(usize),
}

/// What an operation computes.
pub(super) enum Kind<'a> {
    Conv {
        window: Window,
        weight: Constant<'a>,
        bias: Option<Constant<'a>>,
    },
    Norm {
        /// γ, β, μ, σ².
        tensors: [Constant<'a>; 4],
        epsilon: f32,
        momentum: f32,
    },
    Relu,
    MaxPool(Window),
    AvgPool(Window),
    GlobalAvgPool,
    Linear {
        /// `[classes, features]`
        weight: Constant<'a>,
        bias: Option<Constant<'a>>,
    },
}

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Value<'a> {
    Constant(Constant<'a>),
    /// Channels of maps, or of what is left of them behind the global pooling.
    Channels(Rc<[Source]>),
}

/// All concatenations together may join this many inputs: a block of 4096 layers has eight million.
const MAX_PIECES: u64 = 1 << 24;

/// Reads every node of the graph.
///
/// # Errors
/// The first node that no DenseNet has, by its name.
pub(super) fn read(model: &ModelProto) -> Result<Operations<'_>, OnnxError> {
    let Some(graph) = &model.graph else {
        return Err(OnnxError::malformed("it holds no graph"));
    };
    if let Some(function) = model
        .functions
        .iter()
        .find(|f| matches!(f.domain(), "" | "ai.onnx"))
    {
        return Err(OnnxError::unsupported(
            format!("it redefines the operator {}", printable(function.name())),
            "export the network without functions",
        ));
    }
    let mut reader = Reader {
        opset: read::opset(model),
        values: HashMap::new(),
        list: Vec::new(),
        output: None,
        softmax: false,
        pieces: 0,
    };
    reader.stored(graph)?;
    for node in &graph.node {
        reader.node(node)?;
    }
    reader.finish(graph)
}

struct Reader<'a> {
    opset: i64,
    values: HashMap<&'a str, Value<'a>>,
    list: Vec<Operation<'a>>,
    /// The classifier's place in the list.
    output: Option<usize>,
    softmax: bool,
    pieces: u64,
}

impl<'a> Reader<'a> {
    /// Initializers and the one input.
    fn stored(&mut self, graph: &'a GraphProto) -> Result<(), OnnxError> {
        if !graph.sparse_initializer.is_empty() {
            return Err(OnnxError::unsupported(
                "it stores sparse tensors",
                "export the network with dense ones",
            ));
        }
        for tensor in &graph.initializer {
            let stored = Constant::Stored {
                tensor,
                transposed: false,
            };
            if self
                .values
                .insert(tensor.name(), Value::Constant(stored))
                .is_some()
            {
                let name = printable(tensor.name());
                return Err(OnnxError::malformed(format!(
                    "two tensors are called `{name}`"
                )));
            }
        }
        let inputs: Vec<&str> = graph
            .input
            .iter()
            .map(|input| input.name())
            .filter(|name| !self.values.contains_key(name))
            .collect();
        let [input] = inputs[..] else {
            return Err(OnnxError::unsupported(
                format!("its graph has {} inputs, a DenseNet has one", inputs.len()),
                "export a DenseNet on its own",
            ));
        };
        self.values
            .insert(input, Value::Channels(Rc::new([Source::Input])));
        Ok(())
    }

    fn node(&mut self, node: &'a NodeProto) -> Result<(), OnnxError> {
        if !matches!(node.domain(), "" | "ai.onnx") {
            let domain = printable(node.domain());
            return Err(refuse(
                node,
                format!("an operator of `{domain}`, not of ONNX itself"),
            ));
        }
        let value = match shapes::constant(node, &self.values)? {
            Some(constant) => Value::Constant(constant),
            None => self.operation(node)?,
        };
        let mut outputs = node.output.iter().filter(|name| !name.is_empty());
        let (Some(output), None) = (outputs.next(), outputs.next()) else {
            return Err(refuse(node, "it has not one output"));
        };
        if self.values.insert(output, value).is_some() {
            return Err(refuse(node, "it computes a value that is there already"));
        }
        Ok(())
    }

    /// A node that computes with the network's maps.
    fn operation(&mut self, node: &'a NodeProto) -> Result<Value<'a>, OnnxError> {
        let attributes = Attributes(node);
        let kind = match node.op_type() {
            "Identity" => return self.same(node),
            "Dropout" => {
                // Outside training it does nothing; whether it trains, its third input says.
                if node.input.get(2).is_some_and(|name| !name.is_empty()) {
                    match self.constant(node, 2)? {
                        Constant::Stored { tensor, .. }
                            if tensor.raw_data().first() == Some(&0) => {}
                        _ => return Err(refuse(node, "it is for training")),
                    }
                }
                return self.same(node);
            }
            "Cast" => {
                let to = DataType::try_from(attributes.int("to", 0) as i32).unwrap_or_default();
                use DataType::{Bfloat16, Double, Float, Float16};
                if !matches!(to, Float | Float16 | Bfloat16 | Double) {
                    return Err(refuse(node, "it makes whole numbers of the network's maps"));
                }
                return self.same(node);
            }
            "Pad" => return self.no_padding(node),
            "Concat" => return self.concat(node),
            "Flatten" => {
                attributes.must_be("axis", 1, 1)?;
                return self.flattened(node);
            }
            "Reshape" | "Squeeze" => return self.flattened(node),
            "Softmax" => return self.softmax(node),
            "Add" => return self.add_bias(node),
            "Conv" => {
                attributes.must_be("group", 1, 1)?;
                let weight = self.constant(node, 1)?;
                let dims = weight.dims().unwrap_or_default();
                Kind::Conv {
                    window: attributes.window(dims.get(2..))?,
                    weight,
                    bias: self.optional(node, 2)?,
                }
            }
            "BatchNormalization" => {
                attributes.must_be("training_mode", 0, 0)?;
                let tensor = |index| self.constant(node, index);
                Kind::Norm {
                    tensors: [tensor(1)?, tensor(2)?, tensor(3)?, tensor(4)?],
                    epsilon: attributes.float("epsilon", 1e-5),
                    momentum: attributes.float("momentum", 0.9),
                }
            }
            "Relu" => Kind::Relu,
            "MaxPool" => {
                attributes.must_be("ceil_mode", 0, 0)?;
                Kind::MaxPool(attributes.window(None)?)
            }
            "AveragePool" => {
                attributes.must_be("ceil_mode", 0, 0)?;
                Kind::AvgPool(attributes.window(None)?)
            }
            "GlobalAveragePool" => Kind::GlobalAvgPool,
            "ReduceMean" => {
                self.all_spatial(node)?;
                Kind::GlobalAvgPool
            }
            "Gemm" => self.gemm(node)?,
            "MatMul" => Kind::Linear {
                weight: self.exchanged(node, 1)?,
                bias: None,
            },
            _ => return Err(refuse(node, "no part of a DenseNet")),
        };
        let inputs = self.channels(node, 0)?;
        if matches!(kind, Kind::Linear { .. }) {
            self.output = Some(self.list.len());
        }
        self.list.push(Operation { node, kind, inputs });
        self.channels_of(node, vec![Source::Operation(self.list.len() - 1)])
    }

    fn concat(&mut self, node: &'a NodeProto) -> Result<Value<'a>, OnnxError> {
        let axis = Attributes(node).int("axis", 1);
        // From behind, the channels come before two or three spatial axes.
        if !matches!(axis, 1 | -3 | -4) {
            return Err(refuse(
                node,
                format!("it joins along axis {axis}, not along the channels"),
            ));
        }
        let mut joined = Vec::new();
        for index in 0..node.input.len() {
            joined.extend_from_slice(&self.channels(node, index)?);
            if joined.len() as u64 > MAX_PIECES {
                break;
            }
        }
        self.channels_of(node, joined)
    }

    /// Padding by nothing, as older exporters put before an average pooling.
    fn no_padding(&self, node: &'a NodeProto) -> Result<Value<'a>, OnnxError> {
        let pads = match Attributes(node).ints("pads") {
            Some(pads) => Some(pads.to_vec()),
            None => self.constant(node, 1)?.ints(),
        };
        if pads.is_none_or(|pads| pads.iter().any(|&pad| pad != 0)) {
            return Err(refuse(
                node,
                "a DenseNet pads only inside convolutions and poolings",
            ));
        }
        self.same(node)
    }

    /// The value of a node that changes nothing.
    fn same(&self, node: &'a NodeProto) -> Result<Value<'a>, OnnxError> {
        Ok(Value::Channels(self.channels(node, 0)?))
    }

    /// The maps at an input.
    fn channels(&self, node: &'a NodeProto, index: usize) -> Result<Rc<[Source]>, OnnxError> {
        let name = node.input.get(index).map_or("", String::as_str);
        match self.values.get(name) {
            Some(Value::Channels(channels)) => Ok(Rc::clone(channels)),
            Some(Value::Constant(_)) => Err(refuse(
                node,
                format!("its input `{}` is no map of the network", printable(name)),
            )),
            None => Err(unknown(node, name)),
        }
    }

    /// The tensor at an input.
    fn constant(&self, node: &'a NodeProto, index: usize) -> Result<Constant<'a>, OnnxError> {
        let name = node.input.get(index).map_or("", String::as_str);
        match self.values.get(name) {
            Some(Value::Constant(constant)) => Ok(constant.clone()),
            Some(Value::Channels(_)) => Err(refuse(
                node,
                format!("its input `{}` is no stored tensor", printable(name)),
            )),
            None => Err(unknown(node, name)),
        }
    }

    /// The tensor at an input that may be left out.
    fn optional(
        &self,
        node: &'a NodeProto,
        index: usize,
    ) -> Result<Option<Constant<'a>>, OnnxError> {
        match node.input.get(index).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(_) => self.constant(node, index).map(Some),
        }
    }

    /// A value of these channels, counted.
    fn channels_of(
        &mut self,
        node: &NodeProto,
        channels: Vec<Source>,
    ) -> Result<Value<'a>, OnnxError> {
        self.pieces += channels.len() as u64;
        if self.pieces > MAX_PIECES {
            return Err(Problem::Limit {
                what: format!("maps joined up to node `{}`", printable(node.name())),
                found: self.pieces,
                limit: MAX_PIECES,
                cure: "no DenseNet joins as many; check where the file comes from",
            }
            .into());
        }
        Ok(Value::Channels(channels.into()))
    }

    /// The list, if the graph's one output is the classifier's.
    fn finish(self, graph: &GraphProto) -> Result<Operations<'a>, OnnxError> {
        let [output] = &graph.output[..] else {
            return Err(OnnxError::unsupported(
                format!(
                    "its graph has {} outputs, a DenseNet has one",
                    graph.output.len()
                ),
                "export a DenseNet on its own",
            ));
        };
        let value = self.values.get(output.name());
        let last = self.output.map(Source::Operation);
        let ends = matches!(value, Some(Value::Channels(from)) if from.first().copied() == last);
        if last.is_none() || !ends {
            return Err(OnnxError::unsupported(
                format!(
                    "its output `{}` is not a classifier's",
                    printable(output.name())
                ),
                "export a whole DenseNet, with its classifier",
            ));
        }
        Ok(Operations {
            list: self.list,
            softmax: self.softmax,
        })
    }
}

/// An input that no earlier node computes.
pub(super) fn unknown(node: &NodeProto, name: &str) -> OnnxError {
    refuse(
        node,
        format!(
            "its input `{}` is nowhere computed before it",
            printable(name)
        ),
    )
}
