//! The pickle stack machine, reduced to data.

use std::collections::HashMap;
use std::ops::Range;

use super::{
    bad,
    globals::Global,
    value::{Arena, Id, Storage, TensorView, Value},
};
use crate::error::{Problem, WeightsError, printable, within};

/// Longest pickle that is read: a DenseNet-264's takes about 0.4 MB.
pub const MAX_PICKLE_BYTES: u64 = 16 << 20;
/// Most values in one pickle.
pub const MAX_NODES: usize = 1_000_000;
/// Most entries of all containers, the stack and the memo.
pub const MAX_REFERENCES: usize = 4_000_000;
/// Deepest nesting of containers and of open marks.
pub const MAX_DEPTH: usize = 64;

/// Ready-made values, so that a flood of them costs no nodes.
const NONE: Id = 0;
const TRUE: Id = 1;
const FALSE: Id = 2;
const OPAQUE: Id = 3;

/// One pickle's result.
pub(super) struct Pickle<'a> {
    pub(super) arena: Arena<'a>,
    pub(super) root: Id,
    /// Bytes up to and including STOP.
    pub(super) length: usize,
}

/// Reads the pickle at the start of `bytes`.
pub(super) fn unpickle(bytes: &[u8]) -> Result<Pickle<'_>, WeightsError> {
    let mut machine = Machine {
        arena: Arena {
            bytes,
            values: vec![
                Value::None,
                Value::Bool(true),
                Value::Bool(false),
                Value::Opaque,
            ],
        },
        depths: vec![0; 4],
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        references: 0,
        position: 0,
    };
    let root = machine.run()?;
    Ok(Pickle {
        length: machine.position,
        arena: machine.arena,
        root,
    })
}

struct Machine<'a> {
    arena: Arena<'a>,
    /// Nesting of each value when it was made or last extended.
    depths: Vec<u8>,
    stack: Vec<Id>,
    /// Stack heights at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    references: usize,
    position: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, WeightsError> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let version = self.take(1)?[0];
                    if version > 5 {
                        return Err(self.bad(format!("pickle protocol {version} does not exist")));
                    }
                }
                0x95 => {
                    // A frame only promises how many bytes follow.
                    self.take(8)?;
                }
                b'(' => {
                    within(
                        "open marks in the pickle",
                        self.marks.len() as u64 + 1,
                        MAX_DEPTH as u64,
                    )?;
                    self.marks.push(self.stack.len());
                }
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.push(top)?;
                }
                b'N' => self.push(NONE)?,
                0x88 => self.push(TRUE)?,
                0x89 => self.push(FALSE)?,
                b'J' | b'K' | b'M' | 0x8a => self.integer(opcode)?,
                b'G' => {
                    self.take(8)?;
                    self.push(OPAQUE)?;
                }
                b'X' | b'T' | b'B' | b'U' | b'C' | 0x8c | 0x8d | 0x8e | 0x96 => {
                    self.text(opcode)?
                }
                b')' | b't' | 0x85..=0x87 => self.tuple(opcode)?,
                b']' => self.push_new(Value::List(Vec::new()), 1)?,
                b'}' => self.push_new(Value::Dict(Vec::new()), 1)?,
                b'l' => {
                    let items = self.pop_to_mark()?;
                    let depth = self.depth_of(&items);
                    self.push_new(Value::List(items), depth)?;
                }
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push_new(Value::Dict(Vec::new()), 1)?;
                    self.extend_dict(items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.extend_list(items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.extend_dict(vec![key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(items)?;
                }
                // Sets accompany checkpoints at most: their members are dropped.
                0x8f => self.push(OPAQUE)?,
                0x90 => {
                    self.pop_to_mark()?;
                    let top = self.top()?;
                    if !matches!(self.arena.get(top), Value::Opaque) {
                        return Err(self.bad("members are added to what is no set"));
                    }
                }
                0x91 => {
                    self.pop_to_mark()?;
                    self.push(OPAQUE)?;
                }
                b'c' | 0x93 => self.global(opcode)?,
                b'R' | 0x81 => self.reduce()?,
                b'b' => self.build()?,
                b'q' | b'r' | 0x94 => self.put(opcode)?,
                b'h' | b'j' => self.get(opcode)?,
                b'Q' => self.persistent()?,
                b'i' | b'o' | 0x92 => {
                    return Err(
                        self.bad("the pickle builds a Python object (INST, OBJ or NEWOBJ_EX)")
                    );
                }
                other => {
                    return Err(self.bad(format!(
                        "the pickle has an operation that weights do not need (0x{other:02x})"
                    )));
                }
            }
        }
    }

    // Bytes.

    fn take(&mut self, count: usize) -> Result<&[u8], WeightsError> {
        let range = self.take_range(count)?;
        Ok(self.arena.slice(&range))
    }

    fn take_range(&mut self, count: usize) -> Result<Range<u32>, WeightsError> {
        let end = self
            .position
            .checked_add(count)
            .filter(|&end| end <= self.arena.bytes.len());
        let (Some(end), Ok(start)) = (end, u32::try_from(self.position)) else {
            return Err(self.bad("the pickle ends early"));
        };
        let Ok(end32) = u32::try_from(end) else {
            return Err(self.bad("the pickle is too long"));
        };
        self.position = end;
        Ok(start..end32)
    }

    /// A little-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, WeightsError> {
        let bytes = self.take(N)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<String, WeightsError> {
        const LONGEST: usize = 1024;
        let rest = self.arena.bytes.get(self.position..).unwrap_or_default();
        let Some(length) = rest.iter().take(LONGEST).position(|&byte| byte == b'\n') else {
            return Err(self.bad("a name does not end"));
        };
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.position += length + 1;
        Ok(name)
    }

    // Values.

    fn push(&mut self, id: Id) -> Result<(), WeightsError> {
        within(
            "values on the pickle's stack",
            self.stack.len() as u64 + 1,
            MAX_NODES as u64,
        )?;
        self.stack.push(id);
        Ok(())
    }

    fn push_new(&mut self, value: Value, depth: usize) -> Result<(), WeightsError> {
        within(
            "values in the pickle",
            self.arena.values.len() as u64 + 1,
            MAX_NODES as u64,
        )?;
        within(
            "levels of nesting in the pickle",
            depth as u64,
            MAX_DEPTH as u64,
        )?;
        // MAX_NODES fits u32 and MAX_DEPTH fits u8.
        let id = self.arena.values.len() as Id;
        self.arena.values.push(value);
        self.depths.push(depth as u8);
        self.push(id)
    }

    fn refer(&mut self, count: usize) -> Result<(), WeightsError> {
        self.references += count;
        within(
            "references in the pickle",
            self.references as u64,
            MAX_REFERENCES as u64,
        )
    }

    /// One more than the deepest of `items`.
    fn depth_of(&self, items: &[Id]) -> usize {
        let deepest = items
            .iter()
            .filter_map(|&id| self.depths.get(id as usize))
            .max();
        1 + deepest.map_or(0, |&depth| usize::from(depth))
    }

    /// Records that `container` now holds `items`.
    fn deepen(&mut self, container: Id, items: &[Id]) -> Result<(), WeightsError> {
        let depth = self.depth_of(items);
        within(
            "levels of nesting in the pickle",
            depth as u64,
            MAX_DEPTH as u64,
        )?;
        if let Some(known) = self.depths.get_mut(container as usize) {
            *known = (*known).max(depth as u8);
        }
        Ok(())
    }

    fn top(&self) -> Result<Id, WeightsError> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(self.bad("a mark stands where a value is needed"));
        }
        match self.stack.last() {
            Some(&id) => Ok(id),
            None => Err(self.bad("the pickle takes a value from its empty stack")),
        }
    }

    fn pop(&mut self) -> Result<Id, WeightsError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, WeightsError> {
        let Some(mark) = self.marks.pop() else {
            return Err(self.bad("the pickle looks for a mark that it never set"));
        };
        let items = self.stack.split_off(mark);
        self.refer(items.len())?;
        Ok(items)
    }

    // Operations.

    fn integer(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let value = match opcode {
            b'J' => Value::Int(i64::from(self.number::<4>()? as u32 as i32)),
            b'K' => Value::Int(self.number::<1>()? as i64),
            b'M' => Value::Int(self.number::<2>()? as i64),
            _ => {
                let length = self.number::<1>()? as usize;
                let range = self.take_range(length)?;
                let bytes = self.arena.slice(&range);
                if bytes.len() > 8 {
                    Value::BigInt(range)
                } else {
                    // Two's complement: the top byte's sign fills the rest.
                    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                    let mut wide = [if negative { 0xff } else { 0 }; 8];
                    wide[..bytes.len()].copy_from_slice(bytes);
                    Value::Int(i64::from_le_bytes(wide))
                }
            }
        };
        self.push_new(value, 0)
    }

    fn text(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let length = match opcode {
            b'U' | b'C' | 0x8c => self.number::<1>()?,
            0x8d | 0x8e | 0x96 => self.number::<8>()?,
            _ => self.number::<4>()?,
        };
        let Ok(length) = usize::try_from(length) else {
            return Err(self.bad("the pickle ends early"));
        };
        let range = self.take_range(length)?;
        match opcode {
            b'B' | b'C' | 0x8e | 0x96 => self.push(OPAQUE),
            _ => self.push_new(Value::Text(range), 0),
        }
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            _ => {
                let mut items = Vec::new();
                for _ in 0..opcode - 0x84 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.refer(items.len())?;
                items
            }
        };
        let depth = self.depth_of(&items);
        self.push_new(Value::Tuple(items.into_boxed_slice()), depth)
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), WeightsError> {
        let target = self.top()?;
        self.refer(items.len())?;
        self.deepen(target, &items)?;
        match self.arena.values.get_mut(target as usize) {
            Some(Value::List(list)) => {
                list.extend(items);
                Ok(())
            }
            other => {
                let kind = other.map_or("nothing", |value| value.kind());
                Err(self.bad(format!("an item is appended to {kind}")))
            }
        }
    }

    fn extend_dict(&mut self, items: Vec<Id>) -> Result<(), WeightsError> {
        let target = self.top()?;
        self.refer(items.len())?;
        self.deepen(target, &items)?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.bad("a dict is given a key without a value"));
        }
        match self.arena.values.get_mut(target as usize) {
            Some(Value::Dict(dict)) => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            other => {
                let kind = other.map_or("nothing", |value| value.kind());
                Err(self.bad(format!("an entry is set on {kind}")))
            }
        }
    }

    fn global(&mut self, opcode: u8) -> Result<(), WeightsError> {
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
    fn reduce(&mut self) -> Result<(), WeightsError> {
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
    fn build(&mut self) -> Result<(), WeightsError> {
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

    fn put(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let slot = match opcode {
            b'q' => self.number::<1>()? as u32,
            b'r' => self.number::<4>()? as u32,
            _ => self.memo.len() as u32,
        };
        let top = self.top()?;
        within(
            "entries in the pickle's memo",
            self.memo.len() as u64 + 1,
            MAX_NODES as u64,
        )?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<(), WeightsError> {
        let slot = match opcode {
            b'h' => self.number::<1>()? as u32,
            _ => self.number::<4>()? as u32,
        };
        match self.memo.get(&slot) {
            Some(&id) => self.push(id),
            None => Err(self.bad(format!(
                "the pickle asks for memo {slot}, which it never stored"
            ))),
        }
    }

    /// A storage: `('storage', type, key, device, elements)`, in old files with a sixth item for views.
    fn persistent(&mut self) -> Result<(), WeightsError> {
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

    fn bad(&self, what: impl std::fmt::Display) -> WeightsError {
        bad(format!("{what} (byte {} of the pickle)", self.position))
    }
}
