//! Names and calls: what a pickle would have Python do, translated into values.

use super::{Machine, OPAQUE};
use crate::{
    error::{Problem, WeightsError, printable},
    pth::{
        globals::Global,
        value::{Id, Storage, TensorView, Value},
    },
};

impl Machine<'_> {
    pub(super) fn global(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.arena.text(module), self.arena.text(name)) {
                (Some(module), Some(name)) => (module.to_string(), name.to_string()),
                _ => return Err(self.bad("a name is no text")),
            }
        };
        match Global::find(&module, &name) {
            Some(global) => self.push_new(Value::Global(global), 0),
            None => Err(Problem::Forbidden {
                global: printable(&format!("{module}.{name}")),
            }
            .into()),
        }
    }

    /// A call: the function's meaning is looked up, nothing runs.
    pub(super) fn reduce(&mut self) -> Result<(), WeightsError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let &Value::Global(global) = self.arena.get(function) else {
            let kind = self.arena.get(function).kind();
            return Err(self.bad(format!("the pickle calls {kind}")));
        };
        let Value::Tuple(arguments) = self.arena.get(arguments) else {
            return Err(self.bad("a call's arguments are no tuple"));
        };
        match (global, &**arguments) {
            (Global::OrderedDict, []) => self.push_new(Value::Dict(Vec::new()), 1),
            (Global::OrderedDict, &[items]) => self.dict_from_pairs(items),
            (Global::RebuildTensor, &[storage, offset, shape, stride, ..]) => {
                self.tensor(storage, offset, shape, stride)
            }
            (Global::RebuildParameter, &[tensor, ..]) => match self.arena.get(tensor) {
                Value::Tensor(_) => self.push(tensor),
                other => {
                    let kind = other.kind();
                    Err(self.bad(format!("a parameter is made of {kind}")))
                }
            },
            (Global::Size, &[sizes]) => self.push(sizes),
            (Global::Opaque, _) => self.push(OPAQUE),
            (global, _) => Err(self.bad(format!("wrong arguments for {global:?}"))),
        }
    }

    /// Python 2 hands an ordered dict its entries as a list of pairs.
    fn dict_from_pairs(&mut self, items: Id) -> Result<(), WeightsError> {
        let Value::List(pairs) = self.arena.get(items) else {
            return Err(self.bad("an ordered dict is made of something that is no list"));
        };
        let mut entries = Vec::with_capacity(pairs.len());
        let mut flat = Vec::with_capacity(pairs.len() * 2);
        for &pair in pairs {
            let pair: &[Id] = match self.arena.get(pair) {
                Value::List(pair) => pair,
                Value::Tuple(pair) => pair,
                _ => &[],
            };
            let &[key, value] = pair else {
                return Err(self.bad("an ordered dict's entry is no pair"));
            };
            entries.push((key, value));
            flat.extend([key, value]);
        }
        self.refer(flat.len())?;
        let depth = self.depth_of(&flat);
        self.push_new(Value::Dict(entries), depth)
    }

    fn tensor(
        &mut self,
        storage: Id,
        offset: Id,
        shape: Id,
        stride: Id,
    ) -> Result<(), WeightsError> {
        let &Value::Int(offset) = self.arena.get(offset) else {
            return Err(self.bad("a tensor's offset is no integer"));
        };
        if !matches!(self.arena.get(storage), Value::Storage(_)) {
            return Err(self.bad("a tensor is made of something that is no storage"));
        }
        let (Some(shape), Some(stride)) = (self.integers(shape), self.integers(stride)) else {
            return Err(self.bad("a tensor's size or stride is no tuple of integers"));
        };
        self.refer(shape.len() + stride.len())?;
        let view = TensorView {
            storage,
            offset,
            shape,
            stride,
        };
        self.push_new(Value::Tensor(view), 0)
    }

    fn integers(&self, id: Id) -> Option<Vec<i64>> {
        let items: &[Id] = match self.arena.get(id) {
            Value::Tuple(items) => items,
            Value::List(items) => items,
            _ => return None,
        };
        let integer = |&item: &Id| match self.arena.get(item) {
            Value::Int(value) => Some(*value),
            _ => None,
        };
        // More axes than any tensor has would only make work.
        (items.len() <= 64).then(|| items.iter().map(integer).collect())?
    }

    /// Attributes of a dict (`_metadata`) or of a companion; they are dropped.
    pub(super) fn build(&mut self) -> Result<(), WeightsError> {
        self.pop()?;
        let target = self.top()?;
        match self.arena.get(target) {
            Value::Dict(_) | Value::Opaque => Ok(()),
            other => {
                let kind = other.kind();
                Err(self.bad(format!("attributes are set on {kind}")))
            }
        }
    }

    /// A storage: `('storage', type, key, device, elements)`, in old files with a sixth item for views.
    pub(super) fn persistent(&mut self) -> Result<(), WeightsError> {
        let id = self.pop()?;
        let Value::Tuple(items) = self.arena.get(id) else {
            return Err(self.bad("a persistent id is no tuple"));
        };
        let (&[tag, kind, key, _device, count], view) = match &**items {
            [head @ .., view] if head.len() == 5 => (
                <&[Id; 5]>::try_from(head)
                    .map_err(|_| self.bad("a persistent id has too few items"))?,
                Some(*view),
            ),
            all => (
                <&[Id; 5]>::try_from(all)
                    .map_err(|_| self.bad("a persistent id has the wrong number of items"))?,
                None,
            ),
        };
        if self.arena.text(tag) != Some("storage") {
            return Err(self.bad("a persistent id names no storage"));
        }
        if view.is_some_and(|view| !matches!(self.arena.get(view), Value::None)) {
            return Err(
                self.bad("a storage is a view of another, which only versions before 0.4 wrote")
            );
        }
        let &Value::Global(Global::Storage(dtype)) = self.arena.get(kind) else {
            return Err(self.bad("a storage's type is none that weights use"));
        };
        let (Value::Text(key), &Value::Int(count)) = (self.arena.get(key), self.arena.get(count))
        else {
            return Err(self.bad("a storage's key or size is malformed"));
        };
        let Ok(count) = u64::try_from(count) else {
            return Err(self.bad("a storage has a negative size"));
        };
        let storage = Storage {
            dtype,
            key: key.clone(),
            count,
        };
        self.push_new(Value::Storage(storage), 0)
    }
}
