//! The pickle stack machine, reduced to data.

mod calls;

use std::collections::HashMap;
use std::ops::Range;

use super::{
    bad,
    value::{Arena, Id, Value},
};
use crate::error::{WeightsError, within};

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

    fn bad(&self, what: impl std::fmt::Display) -> WeightsError {
        bad(format!("{what} (byte {} of the pickle)", self.position))
    }
}
