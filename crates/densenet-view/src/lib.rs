//! A network as one page for the browser, and as a still picture.
//!
//! - [`Document`]: everything the page shows, as data: stages, layers, shapes, costs, receptive fields, and where there
//!   are weights their statistics, the stem's kernels and the paper's Fig. 5. [`Document::of`] derives it from an
//!   architecture; [`Document::timed`] and [`Document::with_sample`] add what was measured and seen.
//! - [`GraphDocument`]: any other ONNX graph, laid out in layers.
//! - [`page::html`]: the document as one self-contained HTML file. It loads nothing from anywhere.
//! - [`Server`]: that page, and nothing else, on the loopback address.
//! - [`picture::svg`]: the architecture as a still picture for papers and READMEs.
//!
//! ```
//! use densenet_spec::{Architecture, preset};
//! use densenet_view::{Document, Origin, Subject, page};
//!
//! let architecture = Architecture::new(&preset("densenet121")?.config(2)?)?;
//! let document = Document::of(&Subject {
//!     name: "densenet121",
//!     origin: Origin::Preset,
//!     architecture: &architecture,
//!     spatial: [1, 224, 224],
//!     weights: None,
//!     classes: None,
//! })?;
//! let html = page::html(&document);
//! assert!(html.starts_with("<!doctype html>") && !html.contains("https://"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the page promises
//! No request leaves it: style, program, pictures and data stand in the file, and its content security policy forbids
//! everything else; of scripts it allows the one whose SHA-256 it names. Names of classes, layers and files are shown as
//! text, never as markup.
//!
//! # What is not here
//! Decoding and preparing images (the data room does), reading files, opening a browser.
//!
//! # Source
//! The picture of a dense block is the paper's Fig. 1, the map of weights its Fig. 5; class activation maps: Zhou et al.,
//! *Learning Deep Features for Discriminative Localization*, CVPR 2016.
#![forbid(unsafe_code)]

mod activations;
mod document;
mod error;
mod facts;
mod graph;
mod numbers;
pub mod page;
pub mod picture;
mod server;
mod time;
mod weights;

pub use activations::{Picture, Sample};
pub use document::{Document, Origin, Subject};
pub use error::ViewError;
pub use graph::GraphDocument;
pub use server::Server;
pub use time::Timing;
