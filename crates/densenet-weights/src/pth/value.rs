//! What a pickle describes: values in one arena that refer to each other by number.

use std::ops::Range;

use super::globals::Global;
use crate::dtype::DType;

/// A value's place in the arena.
pub(super) type Id = u32;

/// One value; texts are ranges of the pickle's bytes.
#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than eight bytes, as its little-endian bytes.
    BigInt(Range<u32>),
    /// A text, not yet checked to be UTF-8.
    Text(Range<u32>),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(TensorView),
    /// Something weights may be accompanied by and nobody reads: floats, bytes, sets, devices.
    Opaque,
}

impl Value {
    /// What error messages call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::BigInt(_) => "an integer",
            Value::Text(_) => "a text",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a function",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
            Value::Opaque => "another object",
        }
    }
}

/// A reference to the numbers behind tensors.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) dtype: DType,
    /// The record's name, a range of the pickle's bytes.
    pub(super) key: Range<u32>,
    /// Elements.
    pub(super) count: u64,
}

/// A tensor as a view of a storage, not yet checked.
#[derive(Debug)]
pub(super) struct TensorView {
    pub(super) storage: Id,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// A pickle's values.
pub(super) struct Arena<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) values: Vec<Value>,
}

impl<'a> Arena<'a> {
    /// The value with this number; numbers only come from this arena.
    pub(super) fn get(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }

    /// The bytes a range stands for.
    pub(super) fn slice(&self, range: &Range<u32>) -> &'a [u8] {
        self.bytes
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    /// A text's characters, if the value is one and is UTF-8.
    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Text(range) => std::str::from_utf8(self.slice(range)).ok(),
            _ => None,
        }
    }

    /// The value under the text key `name` of a dict's entries.
    pub(super) fn entry(&self, entries: &[(Id, Id)], name: &str) -> Option<Id> {
        entries
            .iter()
            .find(|(key, _)| self.text(*key) == Some(name))
            .map(|(_, value)| *value)
    }
}
