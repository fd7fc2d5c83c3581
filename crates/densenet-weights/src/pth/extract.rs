//! From a pickle's values to tensors: finding the state dict, checking views, converting numbers.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    bad,
    unpickle::Pickle,
    value::{Arena, Id, TensorView, Value},
};
use crate::{
    RawWeights, StateDict, Tensor,
    dtype::DType,
    error::{WeightsError, printable, unsupported, within},
};

/// Keys under which training scripts store the state dict, tried in this order.
const WRAPPERS: &[&str] = &["state_dict", "model_state_dict", "model"];
/// Most axes of a tensor; a 3-D convolution has 5.
const MAX_RANK: usize = 8;
/// Tensors may share storages; together they may not become more than this many times the file (f16 doubles).
const MAX_GROWTH: u64 = 8;

/// The tensors that are wanted and the storages they lie in.
pub(super) struct Plan<'a> {
    tensors: Vec<Planned<'a>>,
    storages: HashMap<&'a [u8], Needed>,
    notes: Vec<String>,
}

struct Planned<'a> {
    name: &'a str,
    shape: Vec<usize>,
    stride: Vec<usize>,
    offset: usize,
    count: usize,
    counter: bool,
    found: Option<Found>,
}

enum Found {
    Floats(Vec<f32>),
    Integer(i64),
}

struct Needed {
    dtype: DType,
    count: u64,
    tensors: Vec<usize>,
}

impl<'a> Plan<'a> {
    /// Finds the state dict in `pickle` and checks every tensor in it; `length` is the file's.
    pub(super) fn new(pickle: &Pickle<'a>, length: u64) -> Result<Self, WeightsError> {
        let arena = &pickle.arena;
        let mut plan = Plan {
            tensors: Vec::new(),
            storages: HashMap::new(),
            notes: Vec::new(),
        };
        let entries = plan.find_state_dict(arena, pickle.root)?;
        let mut left_out = Vec::new();
        let mut bytes = 0u64;
        for &(key, value) in entries {
            let Some(name) = arena.text(key) else {
                return Err(bad("the state dict has a key that is no text"));
            };
            match arena.get(value) {
                Value::Tensor(view) => {
                    let planned = plan.check(arena, name, view)?;
                    bytes = bytes.saturating_add(planned.count as u64 * 4);
                    within(
                        "bytes in all tensors",
                        bytes,
                        length.saturating_mul(MAX_GROWTH).saturating_add(1 << 20),
                    )?;
                    plan.tensors.push(planned);
                }
                _ => left_out.push(printable(name)),
            }
        }
        if plan.tensors.is_empty() {
            return Err(unsupported(
                "it holds no tensors under names",
                "in Python, save `model.state_dict()` and import that",
            ));
        }
        if !left_out.is_empty() {
            let shown = left_out
                .iter()
                .take(5)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            plan.notes.push(format!(
                "{} entries that are no tensors were left out ({shown})",
                left_out.len()
            ));
        }
        Ok(plan)
    }

    fn find_state_dict<'b>(
        &mut self,
        arena: &'b Arena<'a>,
        root: Id,
    ) -> Result<&'b [(Id, Id)], WeightsError> {
        let mut current = root;
        // A wrapper in a wrapper happens; more than that does not.
        for _ in 0..4 {
            let Value::Dict(entries) = arena.get(current) else {
                return Err(unsupported(
                    format!("it holds {}, not a state dict", arena.get(current).kind()),
                    "in Python, save `model.state_dict()` and import that",
                ));
            };
            let inner = WRAPPERS.iter().find_map(|&wrapper| {
                let value = arena.entry(entries, wrapper)?;
                matches!(arena.get(value), Value::Dict(_)).then_some((wrapper, value))
            });
            let Some((wrapper, value)) = inner else {
                return Ok(entries);
            };
            self.notes
                .push(format!("the weights were taken from the entry `{wrapper}`"));
            current = value;
        }
        Err(bad("the state dict is wrapped too many times"))
    }

    /// Checks a view against its storage: inside, no element twice, no negative step.
    fn check(
        &mut self,
        arena: &Arena<'a>,
        name: &'a str,
        view: &TensorView,
    ) -> Result<Planned<'a>, WeightsError> {
        let shown = || printable(name);
        let Value::Storage(storage) = arena.get(view.storage) else {
            return Err(bad(format!("tensor `{}` has no storage", shown())));
        };
        if view.shape.len() > MAX_RANK || view.shape.len() != view.stride.len() {
            return Err(bad(format!(
                "tensor `{}` has {} axes and {} strides",
                shown(),
                view.shape.len(),
                view.stride.len()
            )));
        }
        let sizes = |values: &[i64]| {
            values
                .iter()
                .map(|&v| usize::try_from(v).ok())
                .collect::<Option<Vec<_>>>()
        };
        let (Some(shape), Some(stride), Ok(offset)) = (
            sizes(&view.shape),
            sizes(&view.stride),
            usize::try_from(view.offset),
        ) else {
            return Err(bad(format!(
                "tensor `{}` has a negative size, stride or offset",
                shown()
            )));
        };
        let outside = || {
            bad(format!(
                "tensor `{}` of shape {:?}, stride {:?} and offset {} does not lie inside its storage of {} elements",
                shown(),
                view.shape,
                view.stride,
                view.offset,
                storage.count
            ))
        };
        let count = crate::tensor::element_count(&shape).ok_or_else(outside)?;
        if count == 0 {
            return Err(bad(format!(
                "tensor `{}` of shape {shape:?} has no elements",
                shown()
            )));
        }
        let last = shape
            .iter()
            .zip(&stride)
            .try_fold(offset, |last, (&size, &step)| {
                last.checked_add((size - 1).checked_mul(step)?)
            });
        if last.is_none_or(|last| last as u64 >= storage.count) || count as u64 > storage.count {
            return Err(outside());
        }
        let counter = RawWeights::is_counter(name, storage.dtype, &shape)?;
        let index = self.tensors.len();
        let needed = self
            .storages
            .entry(arena.slice(&storage.key))
            .or_insert_with(|| Needed {
                dtype: storage.dtype,
                count: storage.count,
                tensors: Vec::new(),
            });
        if needed.dtype != storage.dtype || needed.count != storage.count {
            return Err(bad(format!(
                "the storage of tensor `{}` is described in two ways",
                shown()
            )));
        }
        needed.tensors.push(index);
        Ok(Planned {
            name,
            shape,
            stride,
            offset,
            count,
            counter,
            found: None,
        })
    }

    /// The storages that are needed with their length in bytes.
    pub(super) fn needed(&self) -> Result<Vec<(&'a [u8], u64)>, WeightsError> {
        let mut needed = Vec::with_capacity(self.storages.len());
        for (&key, storage) in &self.storages {
            let Some(bytes) = storage.count.checked_mul(storage.dtype.size_bytes() as u64) else {
                return Err(bad("the size of a storage overflows"));
            };
            needed.push((key, bytes));
        }
        needed.sort_unstable();
        Ok(needed)
    }

    /// Takes the tensors out of the bytes of storage `key`, which has the length that [`Plan::needed`] told.
    pub(super) fn supply(&mut self, key: &[u8], bytes: &[u8]) {
        let Some(storage) = self.storages.get(key) else {
            return;
        };
        for &index in &storage.tensors {
            if let Some(tensor) = self.tensors.get_mut(index) {
                tensor.found = Some(tensor.read(storage.dtype, bytes));
            }
        }
    }

    /// The tensors, all of which have been supplied.
    pub(super) fn finish(self) -> Result<RawWeights, WeightsError> {
        let mut weights = RawWeights {
            notes: self.notes,
            ..RawWeights::default()
        };
        let mut converted = BTreeMap::new();
        for storage in self.storages.values() {
            if storage.dtype.is_float() && storage.dtype != DType::F32 {
                *converted.entry(storage.dtype.name()).or_default() += storage.tensors.len();
            }
        }
        let mut tensors = StateDict::new();
        let mut names = HashSet::new();
        for planned in self.tensors {
            if !names.insert(planned.name) {
                return Err(bad(format!(
                    "the name `{}` appears twice",
                    printable(planned.name)
                )));
            }
            match planned.found {
                None => {
                    return Err(bad(format!(
                        "the storage of tensor `{}` is missing",
                        printable(planned.name)
                    )));
                }
                Some(Found::Integer(value)) => {
                    weights.counters.push((planned.name.to_string(), value));
                }
                Some(Found::Floats(data)) => {
                    let tensor = Tensor {
                        shape: planned.shape,
                        data,
                    };
                    tensors.insert(planned.name, tensor);
                }
            }
        }
        weights.tensors = tensors;
        weights.note_conversions(&converted);
        Ok(weights)
    }
}

impl Planned<'_> {
    /// Its elements in row-major order; the view has been checked to lie inside `bytes`.
    fn read(&self, dtype: DType, bytes: &[u8]) -> Found {
        let size = dtype.size_bytes();
        if self.counter {
            let start = self.offset * size;
            let value = bytes
                .get(start..start + 8)
                .and_then(|b| b.try_into().ok())
                .map(i64::from_le_bytes);
            return Found::Integer(value.unwrap_or_default());
        }
        let mut data = Vec::with_capacity(self.count);
        if self.is_contiguous() {
            let start = self.offset * size;
            dtype.decode_floats(
                bytes
                    .get(start..start + self.count * size)
                    .unwrap_or_default(),
                &mut data,
            );
        } else {
            let mut index = vec![0usize; self.shape.len()];
            for _ in 0..self.count {
                let element: usize = self.offset
                    + index
                        .iter()
                        .zip(&self.stride)
                        .map(|(i, s)| i * s)
                        .sum::<usize>();
                dtype.decode_floats(
                    bytes
                        .get(element * size..(element + 1) * size)
                        .unwrap_or_default(),
                    &mut data,
                );
                for (i, &limit) in index.iter_mut().zip(&self.shape).rev() {
                    *i += 1;
                    if *i < limit {
                        break;
                    }
                    *i = 0;
                }
            }
        }
        Found::Floats(data)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &step) in self.shape.iter().zip(&self.stride).rev() {
            if size != 1 && step != expected {
                return false;
            }
            expected *= size;
        }
        true
    }
}
