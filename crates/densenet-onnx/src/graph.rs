//! An ONNX graph as plain data, for whoever shows it.

use std::path::Path;

use crate::{
    error::OnnxError,
    proto::{
        AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
        attribute_proto::AttributeType, dtype_name, tensor_shape_proto::dimension, type_proto,
    },
    read,
};

/// Any ONNX model's graph without its numbers. Names and texts are the file's own: escape them before showing them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// The program that wrote the file, with its version: `pytorch 2.15.0`.
    pub producer: String,
    /// Version of ONNX's own operators; 0 where the file does not say.
    pub opset: i64,
    /// The doc string of the model, or else of the graph.
    pub doc: String,
    /// The model's metadata in the file's order.
    pub metadata: Vec<(String, String)>,
    /// What goes in; without the initializers that old files list here, too.
    pub inputs: Vec<Value>,
    /// What comes out.
    pub outputs: Vec<Value>,
    /// The operations in the file's order, which is an order in which they can be carried out.
    pub nodes: Vec<Node>,
    /// What the file says about intermediate values (`value_info`).
    pub values: Vec<Value>,
    /// The stored tensors: name, type and shape.
    pub initializers: Vec<Value>,
}

/// A named tensor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value {
    /// Its name; nodes refer to it.
    pub name: String,
    /// Its type of numbers, as `float32` or `int64`; something else that is no tensor is called by its kind.
    pub dtype: String,
    /// Sizes of its axes; none where the file does not even say how many.
    pub shape: Option<Vec<Dim>>,
}

/// The size of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Known(u64),
    /// A name, like `batch` or `(height + 3)//32`; equal names are equal sizes.
    Symbol(String),
    /// The file does not say.
    Unknown,
}

/// An operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name; may be empty.
    pub name: String,
    /// What it computes: `Conv`, `Relu`, …
    pub op_type: String,
    /// Whose operator it is; empty for ONNX's own.
    pub domain: String,
    /// Names of the values it reads; an empty name is an optional input that is left out.
    pub inputs: Vec<String>,
    /// Names of the values it computes.
    pub outputs: Vec<String>,
    /// Names and values, the latter as text: `[3, 3]`, `1e-5`, `"mean"`, `float32[64, 3, 7, 7]`.
    pub attributes: Vec<(String, String)>,
}

/// Reads the graph of any ONNX file; tensors stored beside it are not opened.
///
/// # Errors
/// A file that cannot be read, is no ONNX model or exceeds a limit.
pub fn read_graph(path: &Path) -> Result<Graph, OnnxError> {
    let model = read::model(path).map_err(|error| error.at(path))?;
    Ok(Graph::from(model))
}

/// Reads the graph of an ONNX file's content; otherwise as [`read_graph`].
///
/// # Errors
/// As [`read_graph`], without a path.
pub fn graph_from(content: Vec<u8>) -> Result<Graph, OnnxError> {
    Ok(Graph::from(read::decode(content.into())?))
}

impl From<ModelProto> for Graph {
    fn from(mut model: ModelProto) -> Self {
        let graph = model.graph.take().unwrap_or_default();
        let producer = [model.producer_name(), model.producer_version()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let doc = match model.doc_string() {
            "" => graph.doc_string(),
            doc => doc,
        };
        let initializers: Vec<Value> = graph.initializer.iter().map(Value::from).collect();
        let stored: std::collections::HashSet<&str> = initializers
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        let inputs = graph.input.iter().map(Value::from);
        Graph {
            name: graph.name().to_string(),
            producer,
            opset: read::opset(&model),
            doc: doc.to_string(),
            metadata: model
                .metadata_props
                .iter()
                .map(|pair| (pair.key().to_string(), pair.value().to_string()))
                .collect(),
            inputs: inputs
                .filter(|value| !stored.contains(value.name.as_str()))
                .collect(),
            outputs: graph.output.iter().map(Value::from).collect(),
            nodes: graph.node.iter().map(Node::from).collect(),
            values: graph.value_info.iter().map(Value::from).collect(),
            initializers,
        }
    }
}

impl From<&ValueInfoProto> for Value {
    fn from(info: &ValueInfoProto) -> Self {
        use type_proto::Value as Kind;
        let kind = info
            .r#type
            .as_ref()
            .and_then(|r#type| r#type.value.as_ref());
        let (dtype, shape) = match kind {
            Some(Kind::TensorType(tensor)) => {
                (dtype_name(tensor.elem_type()), tensor.shape.as_ref())
            }
            Some(Kind::SparseTensorType(tensor)) => (
                format!("sparse {}", dtype_name(tensor.elem_type())),
                tensor.shape.as_ref(),
            ),
            Some(Kind::SequenceType(_)) => ("sequence".to_string(), None),
            Some(Kind::MapType(_)) => ("map".to_string(), None),
            Some(Kind::OptionalType(_)) => ("optional".to_string(), None),
            Some(Kind::OpaqueType(_)) => ("opaque".to_string(), None),
            None => ("undefined".to_string(), None),
        };
        let dim = |value: &Option<dimension::Value>| match value {
            Some(dimension::Value::DimValue(size)) => {
                u64::try_from(*size).map_or(Dim::Unknown, Dim::Known)
            }
            Some(dimension::Value::DimParam(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
            _ => Dim::Unknown,
        };
        Value {
            name: info.name().to_string(),
            dtype,
            shape: shape.map(|shape| shape.dim.iter().map(|axis| dim(&axis.value)).collect()),
        }
    }
}

impl From<&TensorProto> for Value {
    fn from(tensor: &TensorProto) -> Self {
        let dim = |&size: &i64| u64::try_from(size).map_or(Dim::Unknown, Dim::Known);
        Value {
            name: tensor.name().to_string(),
            dtype: dtype_name(tensor.data_type.unwrap_or_default()),
            shape: Some(tensor.dims.iter().map(dim).collect()),
        }
    }
}

impl From<&NodeProto> for Node {
    fn from(node: &NodeProto) -> Self {
        Node {
            name: node.name().to_string(),
            op_type: node.op_type().to_string(),
            domain: node.domain().to_string(),
            inputs: node.input.clone(),
            outputs: node.output.clone(),
            attributes: node
                .attribute
                .iter()
                .map(|attribute| (attribute.name().to_string(), readable(attribute)))
                .collect(),
        }
    }
}

/// More elements of an attribute than this are counted, not shown.
const MOST_SHOWN: usize = 64;

/// An attribute's value as text.
fn readable(attribute: &AttributeProto) -> String {
    if !attribute.ref_attr_name().is_empty() {
        return format!("the function's {}", attribute.ref_attr_name());
    }
    match attribute.r#type() {
        AttributeType::Undefined => String::new(),
        AttributeType::Float => format!("{:?}", attribute.f()),
        AttributeType::Int => attribute.i().to_string(),
        AttributeType::String => quoted(attribute.s()),
        AttributeType::Tensor => attribute.t.as_deref().map(tensor).unwrap_or_default(),
        AttributeType::Graph => attribute.g.as_deref().map(subgraph).unwrap_or_default(),
        AttributeType::Floats => list(attribute.floats.iter().map(|value| format!("{value:?}"))),
        AttributeType::Ints => list(attribute.ints.iter().map(i64::to_string)),
        AttributeType::Strings => list(attribute.strings.iter().map(|text| quoted(text))),
        AttributeType::Tensors => list(attribute.tensors.iter().map(tensor)),
        AttributeType::Graphs => list(attribute.graphs.iter().map(subgraph)),
        AttributeType::SparseTensor | AttributeType::SparseTensors => "sparse".to_string(),
        AttributeType::TypeProto | AttributeType::TypeProtos => "type".to_string(),
    }
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(MOST_SHOWN);
    let mut shown: Vec<_> = items.take(MOST_SHOWN).collect();
    if more > 0 {
        shown.push(format!("… {more} more"));
    }
    format!("[{}]", shown.join(", "))
}

fn quoted(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}

/// `float32[64, 3, 7, 7]`
fn tensor(tensor: &TensorProto) -> String {
    let sizes = list(tensor.dims.iter().map(i64::to_string));
    format!(
        "{}{sizes}",
        dtype_name(tensor.data_type.unwrap_or_default())
    )
}

fn subgraph(graph: &GraphProto) -> String {
    format!(
        "graph {} of {} nodes",
        quoted(graph.name().as_bytes()),
        graph.node.len()
    )
}
