//! Number formats of stored tensors and their conversion to f32.

use half::{bf16, f16};

/// How a file stores a tensor's elements (little-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// Each format's name in safetensors, PyTorch's storage class, and bytes per element.
const TABLE: &[(DType, &str, &str, usize)] = &[
    (DType::F64, "F64", "DoubleStorage", 8),
    (DType::F32, "F32", "FloatStorage", 4),
    (DType::F16, "F16", "HalfStorage", 2),
    (DType::Bf16, "BF16", "BFloat16Storage", 2),
    (DType::I64, "I64", "LongStorage", 8),
    (DType::I32, "I32", "IntStorage", 4),
    (DType::I16, "I16", "ShortStorage", 2),
    (DType::I8, "I8", "CharStorage", 1),
    (DType::U8, "U8", "ByteStorage", 1),
    (DType::Bool, "BOOL", "BoolStorage", 1),
];

impl DType {
    /// The format safetensors calls `name`.
    pub(crate) fn from_safetensors(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The format of PyTorch's storage class `name`.
    pub(crate) fn from_storage(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// `F32`, as safetensors and our messages call it.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    pub(crate) fn size_bytes(self) -> usize {
        self.row().3
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::Bf16)
    }

    fn row(self) -> &'static (DType, &'static str, &'static str, usize) {
        // Every variant stands in the table (asserted by the test below).
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// Appends the f32 values of `bytes`, rounding f64 to nearest; a trailing part of an element is ignored.
    ///
    /// Formats that are not floating-point append nothing: callers check [`DType::is_float`] first.
    pub(crate) fn decode_floats(self, bytes: &[u8], into: &mut Vec<f32>) {
        match self {
            DType::F64 => into.extend(elements(bytes).map(|e| f64::from_le_bytes(e) as f32)),
            DType::F32 => into.extend(elements(bytes).map(f32::from_le_bytes)),
            DType::F16 => into.extend(elements(bytes).map(|e| f16::from_le_bytes(e).to_f32())),
            DType::Bf16 => into.extend(elements(bytes).map(|e| bf16::from_le_bytes(e).to_f32())),
            _ => debug_assert!(self.is_float(), "callers check the format first"),
        }
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_formats() {
        for &(dtype, safetensors, storage, size) in TABLE {
            assert_eq!(DType::from_safetensors(safetensors), Some(dtype));
            assert_eq!(DType::from_storage(storage), Some(dtype));
            assert_eq!((dtype.name(), dtype.size_bytes()), (safetensors, size));
        }
        assert_eq!(DType::from_safetensors("F8_E4M3"), None);
    }

    #[test]
    fn floats_are_converted() {
        let mut values = Vec::new();
        DType::F64.decode_floats(&0.1f64.to_le_bytes(), &mut values);
        DType::F16.decode_floats(&f16::from_f32(-1.5).to_le_bytes(), &mut values);
        DType::Bf16.decode_floats(&bf16::from_f32(3.0).to_le_bytes(), &mut values);
        DType::F32.decode_floats(&[0, 0, 128, 63, 7], &mut values);
        assert_eq!(values, [0.1f32, -1.5, 3.0, 1.0]);
    }
}
