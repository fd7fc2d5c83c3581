//! One file per subcommand.

pub mod bench;
pub mod calibrate;
pub mod check;
pub mod compare;
pub mod eval;
pub mod export;
pub mod import;
pub mod infer;
pub mod init;
pub mod lr_find;
mod panel;
pub mod predict;
pub mod summary;
pub mod train;
pub mod view;

use std::path::Path;

use densenet_spec::Architecture;

use crate::output;

/// Tells on standard error that a model file was written.
fn wrote(path: &Path, architecture: &Architecture) {
    output::note(&format!(
        "wrote {}: {}, {} parameters",
        path.display(),
        output::network(architecture.config()),
        output::grouped(architecture.num_parameters() as u64),
    ));
}
