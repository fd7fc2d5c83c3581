//! Reports as single HTML files: what a run or an evaluation found, for reading and printing.
//!
//! This room knows how a page looks, not where its numbers come from: a [`Report`], a [`Comparison`] or a [`Sweep`] is
//! plain data that the caller has computed, and `html()` turns it into one file.
//!
//! ```
//! use densenet_report::{Chart, Report, Series, Tone};
//!
//! let report = Report {
//!     title: "digits-1".into(),
//!     curves: vec![Chart::new("Loss", "epoch", vec![Series::new("training", Tone::Quiet, vec![(1.0, 2.3), (2.0, 0.4)])])],
//!     ..Report::default()
//! };
//! assert!(report.html().starts_with("<!DOCTYPE html>"));
//! ```
//!
//! # What a page promises
//! - One file: no request to anywhere, no script. Its content security policy allows its own style and `data:` pictures.
//! - Curves are inline SVG; resting on a point shows its numbers, by style alone. Everything drawn stands in a table, too.
//! - It follows the reader's preference for light or dark, fits 400 to 1280 pixels, and prints.
//! - Every text is escaped where it is written: names of classes, files and options may hold anything.
//!
//! # What it does not do
//! It reads and writes no file, and computes no score.
#![forbid(unsafe_code)]

mod chart;
mod comparison;
mod document;
mod number;
mod page;
pub mod picture;
mod run;
mod sweep;

pub use chart::{Chart, Scale, Series, Tone};
pub use comparison::{Comparison, Row};
pub use document::{
    Calibration, CalibrationBin, ClassRow, Evidence, Facts, Figure, Mistake, Report, Score, Scores,
    Status, Table,
};
pub use sweep::Sweep;
