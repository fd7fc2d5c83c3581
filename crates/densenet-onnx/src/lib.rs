#![forbid(unsafe_code)]
//! ONNX without Python: export with every shape inferred, import of DenseNets, reading of any graph.
//!
//! # What is here
//! - [`export()`]: a [`Model`](densenet_weights::Model) as an ONNX file. The graph is the architecture's list of layers
//!   under their own names; every intermediate value has its type and shape, with names for what is left open
//!   ([`ExportOptions`]).
//! - [`import()`]: the way back, from our own exports and from what PyTorch exports of torchvision's and MONAI's
//!   DenseNets, batch norms folded into convolutions or not. What is not recognised is refused with the node's name.
//! - [`read_graph`]: the graph of any ONNX file as plain data, for whoever shows it.
//!
//! # What is not here
//! Running a graph: that is for ONNX Runtime and its like. Training graphs, quantised weights, tensors outside the file
//! when writing.
//!
//! # What reading promises
//! Reading runs nothing, follows no path out of the model's folder, and takes memory in proportion to the files' length.
//! Every error is one line that names the file, what is wrong and what to do ([`OnnxError`]).
//!
//! ```
//! use densenet_onnx::{Dim, ExportOptions, export, graph_from, import_from};
//! use densenet_spec::{Architecture, preset};
//! use densenet_weights::{InitMode, Model, initialize};
//!
//! let mut config = preset("densenet121").unwrap().config(2).unwrap();
//! (config.growth_rate, config.num_init_features, config.block_config) = (4, 8, vec![2, 2]);
//! let state = initialize(&Architecture::new(&config).unwrap(), 42, InitMode::default_for(2));
//! let model = Model::new(config, state).unwrap();
//!
//! let file = export(&model, &ExportOptions::default()).unwrap();
//! let graph = graph_from(file.clone()).unwrap();
//! assert_eq!(graph.nodes[0].name, "/features/conv0");
//! let shape = graph.values[0].shape.as_ref().unwrap();
//! assert_eq!(shape[2], Dim::Symbol("(height + 1)//2".to_string()));
//!
//! assert_eq!(import_from(file).unwrap().model, model);
//! ```
//!
//! # Source
//! The ONNX specification, `onnx/docs/IR.md` and `Operators.md`; the messages are those of `onnx-ml.proto`.

mod document;
mod error;
mod export;
mod extent;
mod graph;
mod import;
mod proto;
mod read;
mod walk;

pub use error::{OnnxError, Problem};
pub use export::{DEFAULT_OPSET, ExportOptions, NEWEST_OPSET, OLDEST_OPSET, export, export_to};
pub use graph::{Dim, Graph, Node, Value, graph_from, read_graph};
pub use import::{Imported, import, import_from, import_with_notes};
