//! The JSON header: parsed strictly, and written.

use std::{cell::Cell, collections::BTreeMap, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, Visitor},
};

use crate::{
    RawWeights,
    dtype::DType,
    error::{Format, Problem, WeightsError, malformed, printable, unsupported},
    tensor::element_count,
};

/// Longest header that is read: a DenseNet-264 with counters needs about 0.3 MiB.
pub const MAX_HEADER_BYTES: u64 = 8 << 20;
/// Most tensors that are read: a DenseNet-264 has 1,591.
pub const MAX_TENSORS: usize = 65_536;
/// Most axes of a tensor; a 3-D convolution has 5.
const MAX_RANK: usize = 8;

/// A checked header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// In the order of their bytes, without gap or overlap.
    pub(crate) tensors: Vec<Info>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// One tensor's place and format.
#[derive(Debug)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Number of elements.
    pub(crate) count: usize,
}

impl Info {
    pub(crate) fn len_bytes(&self) -> u64 {
        (self.count * self.dtype.size_bytes()) as u64
    }

    /// As [`RawWeights::is_counter`].
    pub(crate) fn is_counter(&self) -> Result<bool, WeightsError> {
        RawWeights::is_counter(&self.name, self.dtype, &self.shape)
    }
}

impl Header {
    /// Parses `json` and checks that its tensors fill `data_bytes` exactly.
    pub(super) fn parse(json: &[u8], data_bytes: u64) -> Result<Header, WeightsError> {
        if json.first() != Some(&b'{') {
            return Err(bad("the header does not start with `{`"));
        }
        let too_many = Cell::new(false);
        let mut parser = serde_json::Deserializer::from_slice(json);
        let parsed = Entries {
            too_many: &too_many,
        }
        .deserialize(&mut parser)
        .and_then(|parsed| parser.end().map(|()| parsed))
        .map_err(|error| {
            if too_many.get() {
                return WeightsError::from(Problem::Limit {
                    what: "tensors in the header",
                    found: MAX_TENSORS as u64 + 1,
                    limit: MAX_TENSORS as u64,
                });
            }
            bad(format!(
                "the header is not valid: {}",
                printable(&error.to_string())
            ))
        })?;
        let mut entries = parsed.entries;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut tensors = Vec::with_capacity(entries.len());
        let mut end = 0u64;
        for (name, entry) in entries {
            let (from, to) = entry.data_offsets;
            if from > end {
                return Err(bad(format!(
                    "bytes {end}..{from} belong to no tensor (gap before `{}`)",
                    printable(&name)
                )));
            }
            if from < end {
                return Err(bad(format!(
                    "tensor `{}` overlaps the one before it",
                    printable(&name)
                )));
            }
            let info = check(name, entry, to.checked_sub(from))?;
            end = to;
            tensors.push(info);
        }
        if end != data_bytes {
            return Err(bad(format!(
                "the header describes {end} bytes of tensors, the file holds {data_bytes}"
            )));
        }
        Ok(Header {
            tensors,
            metadata: parsed.metadata,
        })
    }
}

fn check(name: String, entry: Entry, bytes: Option<u64>) -> Result<Info, WeightsError> {
    let shown = printable(&name);
    let Some(dtype) = DType::from_safetensors(&entry.dtype) else {
        return Err(unsupported(
            format!("tensor `{shown}` is stored as {}", printable(&entry.dtype)),
            "convert it to F32, F16, BF16 or F64 first",
        ));
    };
    if entry.shape.len() > MAX_RANK {
        return Err(bad(format!(
            "tensor `{shown}` has {} axes",
            entry.shape.len()
        )));
    }
    let overflow = || bad(format!("the shape of tensor `{shown}` overflows"));
    let shape = entry
        .shape
        .iter()
        .map(|&size| usize::try_from(size))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| overflow())?;
    let count = element_count(&shape).ok_or_else(overflow)?;
    let needed = count.checked_mul(dtype.size_bytes()).ok_or_else(overflow)?;
    if count == 0 {
        return Err(bad(format!(
            "tensor `{shown}` of shape {shape:?} has no elements"
        )));
    }
    if bytes != Some(needed as u64) {
        return Err(bad(format!(
            "tensor `{shown}` of shape {shape:?} and type {} needs {needed} bytes, its offsets {:?} give another number",
            dtype.name(),
            entry.data_offsets
        )));
    }
    Ok(Info {
        name,
        dtype,
        shape,
        count,
    })
}

fn bad(what: impl Into<String>) -> WeightsError {
    malformed(Format::Safetensors, what)
}

/// One tensor as the header spells it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Default)]
struct Parsed {
    entries: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

/// Reads the header's object, refusing a name that comes twice and counting as it goes.
struct Entries<'a> {
    too_many: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut parsed = Parsed::default();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format_args!(
                    "the name `{name}` appears twice"
                )));
            }
            if name == "__metadata__" {
                parsed.metadata = map.next_value::<Texts>()?.0;
                continue;
            }
            if parsed.entries.len() == MAX_TENSORS {
                self.too_many.set(true);
                return Err(de::Error::custom("too many tensors"));
            }
            let entry = map.next_value()?;
            parsed.entries.push((name, entry));
        }
        Ok(parsed)
    }
}

/// An object of texts with unique names.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, text)) = map.next_entry::<String, String>()? {
                    if texts.contains_key(&name) {
                        return Err(de::Error::custom(format_args!(
                            "the name `{name}` appears twice in __metadata__"
                        )));
                    }
                    texts.insert(name, text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}
