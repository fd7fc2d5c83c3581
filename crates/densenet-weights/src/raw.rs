//! What a weights file holds, before anyone knows which network it is.

use std::collections::BTreeMap;

use crate::{
    StateDict, Tensor,
    dtype::DType,
    error::{WeightsError, printable, unsupported},
};

/// The tensors of a file under the file's own names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawWeights {
    /// Floating-point tensors, converted to f32, in the file's order.
    pub tensors: StateDict,
    /// Integer scalars (`num_batches_tracked`), in the file's order.
    pub counters: Vec<(String, i64)>,
    /// Text that came with the tensors (`__metadata__` of a `.safetensors` file).
    pub metadata: BTreeMap<String, String>,
    /// What was converted, unwrapped or left out, one sentence each.
    pub notes: Vec<String>,
}

/// The suffix of batch norm's step counter, which PyTorch stores as an integer.
pub(crate) const COUNTER: &str = "num_batches_tracked";

impl RawWeights {
    /// Whether a tensor of this name, format and shape is a step counter (true) or a weight (false).
    pub(crate) fn is_counter(
        name: &str,
        dtype: DType,
        shape: &[usize],
    ) -> Result<bool, WeightsError> {
        if dtype.is_float() {
            return Ok(false);
        }
        let single = shape.iter().product::<usize>() == 1 && shape.len() <= 1;
        if dtype == DType::I64 && single && name.rsplit('.').next() == Some(COUNTER) {
            return Ok(true);
        }
        Err(unsupported(
            format!(
                "tensor `{}` holds {} numbers of shape {shape:?}, where weights are floating-point",
                printable(name),
                dtype.name()
            ),
            "export the network's float weights (quantised models cannot be imported)",
        ))
    }

    /// Adds one note about all conversions: `converted` counts tensors by their format in the file.
    pub(crate) fn note_conversions(&mut self, converted: &BTreeMap<&'static str, usize>) {
        for (format, count) in converted {
            let how = if *format == "F64" {
                "rounded"
            } else {
                "widened"
            };
            self.notes.push(format!(
                "{count} tensors stored as {} were {how} to f32",
                format.to_lowercase()
            ));
        }
    }
}

/// One tensor to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    /// A weight.
    Float(&'a Tensor),
    /// A step counter, an integer without axes.
    Counter(i64),
}

impl Item<'_> {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Item::Float(tensor) => &tensor.shape,
            Item::Counter(_) => &[],
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            Item::Float(_) => DType::F32,
            Item::Counter(_) => DType::I64,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Item::Float(tensor) => tensor.len(),
            Item::Counter(_) => 1,
        }
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.len() * self.dtype().size_bytes()
    }

    /// Hands the little-endian bytes to `sink` piece by piece.
    pub(crate) fn for_each_piece<E>(
        &self,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Item::Counter(value) => sink(&value.to_le_bytes()),
            Item::Float(tensor) => {
                let mut bytes = Vec::with_capacity(PIECE * 4);
                for piece in tensor.data.chunks(PIECE) {
                    bytes.clear();
                    bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
                    sink(&bytes)?;
                }
                Ok(())
            }
        }
    }
}

/// Elements converted at a time: 64 KiB of f32, which stays in the first- or second-level cache.
const PIECE: usize = 16 * 1024;
