#![forbid(unsafe_code)]
//! ONNX without Python: export with every shape inferred, import of DenseNets, reading of any graph.

mod document;
mod error;
mod export;
mod extent;
mod graph;
mod proto;
mod read;
mod walk;

pub use error::{OnnxError, Problem};
pub use export::{DEFAULT_OPSET, ExportOptions, NEWEST_OPSET, OLDEST_OPSET, export, export_to};
pub use graph::{Dim, Graph, Node, Value, graph_from, read_graph};
