//! Versions of the operators.
//!
//! Everything a DenseNet needs (Conv, BatchNormalization, Relu, MaxPool, AveragePool, Concat, GlobalAveragePool,
//! Flatten, Gemm, Softmax, Cast) is written the same in every version from 13 to 28: what changed are types of
//! numbers, and attributes whose defaults are what we mean. Before 13, Softmax meant something else.

use crate::error::OnnxError;

/// The version written unless another is asked for: known to every runtime since 2022.
pub const DEFAULT_OPSET: i64 = 17;
/// The oldest version that can be written.
pub const OLDEST_OPSET: i64 = 13;
/// The newest version that can be written: what the `onnx` package 1.23 knows.
pub const NEWEST_OPSET: i64 = 28;

/// The first opset and the version of the file format it was published with.
///
/// # Source
/// `onnx/docs/Versioning.md`, the table of released versions.
const IR_VERSIONS: &[(i64, i64)] = &[
    (13, 7),
    (15, 8),
    (19, 9),
    (21, 10),
    (23, 11),
    (24, 12),
    (25, 13),
    (28, 14),
];

/// Refuses versions that cannot be written.
pub(super) fn check(opset: i64) -> Result<(), OnnxError> {
    if (OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
        return Ok(());
    }
    let cure = format!("give {OLDEST_OPSET} to {NEWEST_OPSET}");
    Err(OnnxError::usage(
        "opset",
        format!("{opset} cannot be written"),
        cure,
    ))
}

/// The version of the file format that belongs to `opset`, so that every program that knows the one knows the other.
pub(super) fn ir_version(opset: i64) -> i64 {
    let row = IR_VERSIONS.iter().rev().find(|(first, _)| *first <= opset);
    row.map_or(7, |(_, version)| *version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_together() {
        let versions: Vec<_> = (OLDEST_OPSET..=NEWEST_OPSET).map(ir_version).collect();
        assert_eq!(
            versions,
            [7, 7, 8, 8, 8, 8, 9, 9, 10, 10, 11, 12, 13, 13, 13, 14]
        );
        for wrong in [12, 29, 0, -1, i64::MAX] {
            assert_eq!(check(wrong).unwrap_err().exit_code(), 2);
        }
    }
}
