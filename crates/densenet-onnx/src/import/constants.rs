//! Stored tensors, and the few ways in which exporters compute with them.

use bytes::Bytes;
use half::{bf16, f16};

use crate::{
    error::{OnnxError, Problem, printable},
    proto::{
        NodeProto, TensorProto,
        tensor_proto::{DataLocation, DataType},
    },
    read::Folder,
};

use super::attributes::refuse;

/// A value that does not depend on the input's numbers.
#[derive(Debug, Clone)]
pub(super) enum Constant<'a> {
    /// A stored tensor, as it is or with its two axes exchanged.
    Stored {
        tensor: &'a TensorProto,
        transposed: bool,
    },
    /// The same number everywhere.
    Fill(f32),
    /// Whole numbers that a node holds.
    Ints(&'a [i64]),
    /// Computed from shapes; of no interest, since a DenseNet's shapes follow from its weights.
    Shape,
}

impl<'a> Constant<'a> {
    /// Sizes of the axes, where they are known.
    pub(super) fn dims(&self) -> Option<Vec<i64>> {
        match self {
            Constant::Stored { tensor, transposed } => {
                let mut dims = tensor.dims.clone();
                if *transposed {
                    dims.reverse();
                }
                Some(dims)
            }
            _ => None,
        }
    }

    /// The whole numbers it holds, where it holds a few.
    pub(super) fn ints(&self) -> Option<Vec<i64>> {
        match self {
            Constant::Ints(ints) => Some(ints.to_vec()),
            Constant::Stored { tensor, .. }
                if tensor.data_type() == DataType::Int64 as i32
                    && tensor.data_location() == DataLocation::Default =>
            {
                let raw = tensor.raw_data();
                let stored: Vec<i64> = if raw.is_empty() {
                    tensor.int64_data.clone()
                } else {
                    raw.as_chunks()
                        .0
                        .iter()
                        .map(|bytes| i64::from_le_bytes(*bytes))
                        .collect()
                };
                // More is no list of axes.
                (stored.len() <= 64).then_some(stored)
            }
            _ => None,
        }
    }

    /// The one number that it holds everywhere, where that is plain to see.
    pub(super) fn fill(&self) -> Option<f32> {
        match self {
            Constant::Fill(value) => Some(*value),
            Constant::Stored { tensor, .. } if tensor.dims.iter().all(|&size| size == 1) => {
                let raw = tensor.raw_data();
                match DataType::try_from(tensor.data_type()) {
                    Ok(DataType::Float) => match raw.as_chunks().0 {
                        [bytes] => Some(f32::from_le_bytes(*bytes)),
                        _ => tensor.float_data.first().copied(),
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Reads stored tensors as f32, within a budget.
pub(super) struct Tensors {
    folder: Folder,
    /// Length of the model file.
    length: u64,
    /// Bytes of f32 that were read.
    read: u64,
    /// Tensors that were not f32.
    pub(super) converted: usize,
}

/// Bytes of f32 for each byte of the files: half precision doubles, and some tensors are shared.
const PER_BYTE: u64 = 4;
/// Bytes beyond that, for vectors that are a single number.
const FREE: u64 = 64 << 20;

impl Tensors {
    pub(super) fn new(folder: Folder, length: u64) -> Self {
        Tensors {
            folder,
            length,
            read: 0,
            converted: 0,
        }
    }

    /// The elements of `constant`, which has to have `shape`, in row-major order. `node` uses it as its `what`.
    pub(super) fn read(
        &mut self,
        node: &NodeProto,
        what: &str,
        constant: &Constant<'_>,
        shape: &[usize],
    ) -> Result<Vec<f32>, OnnxError> {
        let count = shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size));
        let Some(count) = count else {
            return Err(refuse(node, format!("its {what} would be too large")));
        };
        match constant {
            Constant::Fill(value) => {
                self.spend(count)?;
                Ok(vec![*value; count])
            }
            Constant::Stored { tensor, transposed } => {
                let dims = constant.dims().unwrap_or_default();
                let same = dims.len() == shape.len()
                    && dims
                        .iter()
                        .zip(shape)
                        .all(|(&dim, &size)| u64::try_from(dim) == Ok(size as u64));
                if !same {
                    return Err(refuse(
                        node,
                        format!("its {what} has the shape {dims:?} where {shape:?} is needed"),
                    ));
                }
                let mut data = self.stored(tensor, count)?;
                if let (true, &[rows, columns]) = (transposed, shape) {
                    data = transpose(&data, rows, columns);
                }
                Ok(data)
            }
            Constant::Ints(_) | Constant::Shape => {
                Err(refuse(node, format!("its {what} is computed, not stored")))
            }
        }
    }

    fn spend(&mut self, count: usize) -> Result<(), OnnxError> {
        self.read += 4 * count as u64;
        let limit = FREE + PER_BYTE * (self.length + self.folder.length());
        if self.read > limit {
            return Err(Problem::Limit {
                what: "bytes of weights that it would take".to_string(),
                found: self.read,
                limit,
                cure: "its tensors are used over and over; check where the file comes from",
            }
            .into());
        }
        Ok(())
    }

    /// The `count` elements of a stored tensor.
    fn stored(&mut self, tensor: &TensorProto, count: usize) -> Result<Vec<f32>, OnnxError> {
        let name = || printable(tensor.name());
        if tensor.segment.is_some() {
            return Err(OnnxError::unsupported(
                format!("tensor `{}` is stored in segments", name()),
                "save the model again with whole tensors",
            ));
        }
        let dtype = DataType::try_from(tensor.data_type()).unwrap_or_default();
        let width = match dtype {
            DataType::Float => 4,
            DataType::Double => 8,
            DataType::Float16 | DataType::Bfloat16 => 2,
            _ => {
                return Err(OnnxError::unsupported(
                    format!(
                        "tensor `{}` holds {}",
                        name(),
                        crate::proto::dtype_name(tensor.data_type())
                    ),
                    "weights are float32, float16, bfloat16 or float64; export the network unquantised",
                ));
            }
        };
        let raw = match tensor.data_location() {
            // Empty for a tensor whose elements stand in a list of their type.
            DataLocation::Default => tensor.raw_data.clone().unwrap_or_default(),
            DataLocation::External => self.folder.bytes(tensor, (width * count) as u64)?,
        };
        let listed = match dtype {
            DataType::Float => tensor.float_data.len(),
            DataType::Double => tensor.double_data.len(),
            _ => tensor.int32_data.len(),
        };
        let present = if raw.is_empty() {
            listed
        } else {
            raw.len() / width
        };
        if present != count || (!raw.is_empty() && raw.len() % width != 0) {
            return Err(OnnxError::malformed(format!(
                "tensor `{}` holds {present} elements where its shape says {count}",
                name()
            )));
        }
        self.spend(count)?;
        self.converted += usize::from(dtype != DataType::Float);
        Ok(elements(dtype, &raw, tensor))
    }
}

/// The elements in f32, from `raw` or, where that is empty, from the list of their type.
fn elements(dtype: DataType, raw: &Bytes, tensor: &TensorProto) -> Vec<f32> {
    // Half-precision numbers stand in the list of 32-bit integers as their bits.
    let bits = tensor.int32_data.iter().map(|&bits| bits as u16);
    match (dtype, raw.is_empty()) {
        (DataType::Float, false) => raw
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        (DataType::Float, true) => tensor.float_data.clone(),
        (DataType::Double, false) => raw
            .as_chunks()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b) as f32)
            .collect(),
        (DataType::Double, true) => tensor
            .double_data
            .iter()
            .map(|&value| value as f32)
            .collect(),
        (DataType::Float16, false) => raw
            .as_chunks()
            .0
            .iter()
            .map(|b| f16::from_le_bytes(*b).to_f32())
            .collect(),
        (DataType::Float16, true) => bits.map(|bits| f16::from_bits(bits).to_f32()).collect(),
        (_, false) => raw
            .as_chunks()
            .0
            .iter()
            .map(|b| bf16::from_le_bytes(*b).to_f32())
            .collect(),
        (_, true) => bits.map(|bits| bf16::from_bits(bits).to_f32()).collect(),
    }
}

/// `rows × columns` numbers from as many that are stored as `columns × rows`.
fn transpose(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for row in 0..rows {
        out.extend((0..columns).filter_map(|column| data.get(column * rows + row)));
    }
    out
}
