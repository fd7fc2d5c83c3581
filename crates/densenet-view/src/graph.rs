//! Any ONNX graph as a page: what it computes, in layers, with the shapes that the file tells.

mod place;

use std::collections::HashMap;

use densenet_onnx::{Dim, Graph, Value};
use serde::Serialize;

use crate::{ViewError, document::generator};
use place::place;

/// What the page shows of a graph that is no DenseNet of ours.
#[derive(Debug, Clone, Serialize)]
pub struct GraphDocument {
    kind: &'static str,
    generator: String,
    name: String,
    /// One line about the file.
    origin: String,
    /// Why it is shown as a plain graph.
    reason: String,
    graph: String,
    producer: String,
    opset: i64,
    /// What the file says about itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    about: String,
    metadata: Vec<(String, String)>,
    /// Numbers in stored tensors, as far as their shapes are known.
    params: u64,
    values: Vec<ValueFacts>,
    nodes: Vec<NodeFacts>,
    /// `[from, to, value]`, the first two into `nodes`.
    edges: Vec<[usize; 3]>,
}

/// A named tensor.
#[derive(Debug, Clone, Serialize)]
struct ValueFacts {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dtype: String,
    /// Numbers, names, or `?`; missing where the file does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<String>>,
    /// Whether its numbers lie in the file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stored: bool,
}

/// An operation, an input or an output of the graph, and where it stands.
#[derive(Debug, Clone, Serialize)]
struct NodeFacts {
    name: String,
    op: String,
    /// `input`, `output` or `node`.
    role: &'static str,
    /// Indices into `values`.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<(String, String)>,
    /// The middle, in units of a node's width.
    x: f64,
    layer: usize,
}

/// More would be a page that no browser scrolls.
const MOST_NODES: usize = 20_000;
const MOST_EDGES: usize = 100_000;
/// Characters of a name or an attribute's value.
const MOST_TEXT: usize = 240;

impl GraphDocument {
    /// Lays out `graph`, read from a file called `file`. `reason` says why it is not shown as a DenseNet.
    ///
    /// # Errors
    /// A graph without nodes, or with more than a page can show.
    pub fn of(file: &str, reason: &str, graph: &Graph) -> Result<Self, ViewError> {
        let edges: usize = graph.nodes.iter().map(|node| node.inputs.len()).sum();
        if graph.nodes.len() > MOST_NODES || edges > MOST_EDGES {
            return Err(ViewError::Graph {
                file: file.to_string(),
                what: format!(
                    "a graph of {} nodes and {edges} connections, and a page shows at most {MOST_NODES} and {MOST_EDGES}",
                    graph.nodes.len()
                ),
            });
        }
        if graph.nodes.is_empty() {
            return Err(ViewError::Graph {
                file: file.to_string(),
                what: "a graph without operations".to_string(),
            });
        }
        let mut builder = Builder::default();
        for value in &graph.initializers {
            builder.describe(value, true);
        }
        for value in graph
            .inputs
            .iter()
            .chain(&graph.values)
            .chain(&graph.outputs)
        {
            builder.describe(value, false);
        }
        builder.nodes(graph);
        let edges = builder.edges();
        place(&mut builder.nodes, &edges);
        Ok(GraphDocument {
            kind: "graph",
            generator: generator(),
            name: file.to_string(),
            origin: format!("ONNX file {file}, shown as a plain graph"),
            reason: clipped(reason),
            graph: clipped(&graph.name),
            producer: clipped(&graph.producer),
            opset: graph.opset,
            about: clipped(&graph.doc),
            metadata: pairs(&graph.metadata),
            params: graph
                .initializers
                .iter()
                .map(elements)
                .fold(0, u64::saturating_add),
            values: builder.values,
            nodes: builder.nodes,
            edges,
        })
    }

    /// What the file is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Default)]
struct Builder {
    values: Vec<ValueFacts>,
    /// By name, the place in `values`.
    index: HashMap<String, usize>,
    nodes: Vec<NodeFacts>,
}

impl Builder {
    /// The index of the value called `name`; a new one knows nothing but that.
    fn value(&mut self, name: &str) -> usize {
        if let Some(&index) = self.index.get(name) {
            return index;
        }
        self.index.insert(name.to_string(), self.values.len());
        self.values.push(ValueFacts {
            name: clipped(name),
            dtype: String::new(),
            shape: None,
            stored: false,
        });
        self.values.len() - 1
    }

    fn describe(&mut self, value: &Value, stored: bool) {
        let index = self.value(&value.name);
        let facts = &mut self.values[index];
        facts.dtype = clipped(&value.dtype);
        facts.shape = value
            .shape
            .as_ref()
            .map(|dims| dims.iter().map(dim).collect());
        facts.stored |= stored;
    }

    fn nodes(&mut self, graph: &Graph) {
        for input in &graph.inputs {
            let value = self.value(&input.name);
            self.push(&input.name, "Input", "input", (Vec::new(), vec![value]));
        }
        for node in &graph.nodes {
            let mut values = |names: &[String]| {
                let named = names.iter().filter(|name| !name.is_empty());
                named.map(|name| self.value(name)).collect::<Vec<_>>()
            };
            let ends = (values(&node.inputs), values(&node.outputs));
            let op = match node.domain.as_str() {
                "" | "ai.onnx" => node.op_type.clone(),
                domain => format!("{domain}.{}", node.op_type),
            };
            // Nodes without a name go by what they make.
            let first = node.outputs.first().map_or("", String::as_str);
            let name = if node.name.is_empty() {
                first
            } else {
                &node.name
            };
            self.push(name, &op, "node", ends);
            if let Some(last) = self.nodes.last_mut() {
                last.attributes = pairs(&node.attributes);
            }
        }
        for output in &graph.outputs {
            let value = self.value(&output.name);
            self.push(&output.name, "Output", "output", (vec![value], Vec::new()));
        }
    }

    fn push(&mut self, name: &str, op: &str, role: &'static str, ends: (Vec<usize>, Vec<usize>)) {
        self.nodes.push(NodeFacts {
            name: clipped(name),
            op: clipped(op),
            role,
            inputs: ends.0,
            outputs: ends.1,
            attributes: Vec::new(),
            x: 0.0,
            layer: 0,
        });
    }

    /// From the node that makes a value to those that read it. A file whose order is wrong loses the edges that would
    /// lead backwards.
    fn edges(&self) -> Vec<[usize; 3]> {
        let mut makers: HashMap<usize, usize> = HashMap::new();
        let mut edges = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for &value in &node.inputs {
                if let Some(&maker) = makers.get(&value) {
                    edges.push([maker, index, value]);
                }
            }
            makers.extend(node.outputs.iter().map(|&value| (value, index)));
        }
        edges
    }
}

fn dim(dim: &Dim) -> String {
    match dim {
        Dim::Known(size) => size.to_string(),
        Dim::Symbol(name) => clipped(name),
        Dim::Unknown => "?".to_string(),
    }
}

fn elements(value: &Value) -> u64 {
    let sizes = value.shape.iter().flatten().map(|dim| match dim {
        Dim::Known(size) => *size,
        _ => 0,
    });
    match value.shape {
        Some(_) => sizes.fold(1, u64::saturating_mul),
        None => 0,
    }
}

fn pairs(pairs: &[(String, String)]) -> Vec<(String, String)> {
    let all = pairs.iter();
    all.map(|(name, value)| (clipped(name), clipped(value)))
        .collect()
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_onnx::Node;

    fn node(op: &str, inputs: &[&str], output: &str) -> Node {
        Node {
            op_type: op.to_string(),
            inputs: inputs.iter().map(|i| i.to_string()).collect(),
            outputs: vec![output.to_string()],
            ..Node::default()
        }
    }

    fn value(name: &str, shape: &[u64]) -> Value {
        Value {
            name: name.to_string(),
            dtype: "float32".to_string(),
            shape: Some(shape.iter().map(|&s| Dim::Known(s)).collect()),
        }
    }

    /// A residual: x → conv → add, with x → add beside it.
    fn residual() -> Graph {
        Graph {
            inputs: vec![value("x", &[1, 8, 4, 4])],
            outputs: vec![value("y", &[1, 8, 4, 4])],
            initializers: vec![value("w", &[8, 8, 3, 3])],
            nodes: vec![
                node("Conv", &["x", "w", ""], "c"),
                node("Add", &["c", "x"], "y"),
            ],
            ..Graph::default()
        }
    }

    #[test]
    fn a_graph_stands_in_layers() {
        let document = GraphDocument::of("r.onnx", "no classifier", &residual()).unwrap();
        let layers: Vec<_> = document
            .nodes
            .iter()
            .map(|n| (n.op.as_str(), n.layer))
            .collect();
        assert_eq!(
            layers,
            [("Input", 0), ("Conv", 1), ("Add", 2), ("Output", 3)]
        );
        assert_eq!(document.edges.len(), 4);
        assert_eq!(document.params, 8 * 8 * 9);
        assert_eq!(document.nodes[1].name, "c");
        let stored: Vec<_> = document.values.iter().filter(|v| v.stored).collect();
        assert_eq!(stored[0].name, "w");
        assert_eq!(document.values[1].shape.as_deref().unwrap()[1], "8");
    }

    #[test]
    fn wrong_orders_and_wild_names_do_no_harm() {
        let mut graph = residual();
        graph.nodes.reverse();
        graph
            .nodes
            .push(node(&"é".repeat(1000), &["y", "y", "nowhere"], "x"));
        let document = GraphDocument::of("r.onnx", "", &graph).unwrap();
        assert!(document.edges.iter().all(|[from, to, _]| from < to));
        let longest = document.nodes.iter().map(|n| n.op.chars().count()).max();
        assert_eq!(longest, Some(MOST_TEXT + 1));
    }

    #[test]
    fn what_no_page_can_show_is_refused() {
        let empty = GraphDocument::of("e.onnx", "", &Graph::default()).unwrap_err();
        assert!(
            empty
                .to_string()
                .contains("e.onnx: a graph without operations — ")
        );
        let mut graph = residual();
        graph.nodes = vec![node("Relu", &["x"], "y"); MOST_NODES + 1];
        let large = GraphDocument::of("l.onnx", "", &graph).unwrap_err();
        assert!(large.to_string().contains("20001 nodes"), "{large}");
        assert_eq!(large.exit_code(), 7);
    }
}
