//! The older form: five pickles (magic number, version, machine, object, storage keys), then each storage's bytes.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Seek, SeekFrom},
};

use super::{
    bad,
    extract::Plan,
    reading,
    unpickle::{MAX_PICKLE_BYTES, Pickle, unpickle},
    value::Value,
};
use crate::{
    RawWeights,
    error::{Problem, WeightsError, unsupported, within},
};

/// The first pickle's number, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// Reads a file of `length` bytes that starts with a pickle.
pub(super) fn read<R: Read + Seek>(
    reader: &mut R,
    length: u64,
) -> Result<RawWeights, WeightsError> {
    let mut head = Vec::new();
    reader
        .by_ref()
        .take(MAX_PICKLE_BYTES)
        .read_to_end(&mut head)
        .map_err(reading)?;
    let mut position = 0;
    let mut next = || -> Result<Pickle<'_>, WeightsError> {
        let pickle = unpickle(head.get(position..).unwrap_or_default()).map_err(|error| {
            // A pickle that runs into the end of what was read of a longer file is too long, not cut off.
            let cut = matches!(&error.problem, Problem::Malformed { what, .. } if what.contains("ends early"));
            if cut && length > MAX_PICKLE_BYTES {
                return WeightsError::from(Problem::Limit {
                    what: "bytes of pickle",
                    found: MAX_PICKLE_BYTES + 1,
                    limit: MAX_PICKLE_BYTES,
                });
            }
            error
        })?;
        position += pickle.length;
        Ok(pickle)
    };

    let magic = next()?;
    match magic.arena.get(magic.root) {
        Value::BigInt(range) if magic.arena.slice(range) == MAGIC => {}
        _ => {
            return Err(unsupported(
                "it is a pickle that torch.save did not write",
                "in Python, write it with torch.save(model.state_dict(), …)",
            ));
        }
    }
    let version = next()?;
    if !matches!(version.arena.get(version.root), Value::Int(VERSION)) {
        return Err(bad("the version of its format is unknown"));
    }
    let machine = next()?;
    let Value::Dict(entries) = machine.arena.get(machine.root) else {
        return Err(bad("the description of its machine is no dict"));
    };
    let little = machine.arena.entry(entries, "little_endian");
    if little.is_some_and(|id| matches!(machine.arena.get(id), Value::Bool(false))) {
        return Err(unsupported(
            "it was written on a big-endian machine",
            "in Python, save it again with torch.save on an ordinary machine",
        ));
    }
    let object = next()?;
    let keys = next()?;
    let data_start = position as u64;

    let mut plan = Plan::new(&object, length)?;
    let sizes = storage_sizes(&object)?;
    let Value::List(keys_in_order) = keys.arena.get(keys.root) else {
        return Err(bad("its list of storages is no list"));
    };
    let wanted: HashMap<&[u8], u64> = plan.needed()?.into_iter().collect();
    reader.seek(SeekFrom::Start(data_start)).map_err(reading)?;
    let mut left = length.saturating_sub(data_start);
    let mut seen = HashSet::new();
    for &key in keys_in_order {
        let Value::Text(range) = keys.arena.get(key) else {
            return Err(bad("a storage's key is no text"));
        };
        let key = keys.arena.slice(range);
        let Some(&(count, bytes)) = sizes.get(key) else {
            return Err(bad("it lists a storage that no tensor uses"));
        };
        if !seen.insert(key) {
            return Err(bad("it lists a storage twice"));
        }
        let mut stored_count = [0; 8];
        reader.read_exact(&mut stored_count).map_err(reading)?;
        let stored_count = u64::from_le_bytes(stored_count);
        if stored_count != count {
            return Err(bad(format!(
                "a storage has {stored_count} elements where its tensor says {count}"
            )));
        }
        left = left.saturating_sub(8);
        if bytes > left {
            return Err(bad("it ends early"));
        }
        left -= bytes;
        if wanted.contains_key(key) {
            // `bytes` is at most what the file still holds.
            let mut content = vec![0; bytes as usize];
            reader.read_exact(&mut content).map_err(reading)?;
            plan.supply(key, &content);
        } else {
            reader.seek_relative(bytes as i64).map_err(reading)?;
        }
    }
    if left != 0 {
        return Err(bad(format!("{left} bytes follow its last storage")));
    }
    plan.finish()
}

/// Every storage the object mentions: elements and bytes by key.
fn storage_sizes<'a>(pickle: &Pickle<'a>) -> Result<HashMap<&'a [u8], (u64, u64)>, WeightsError> {
    let mut sizes = HashMap::new();
    for value in &pickle.arena.values {
        let Value::Storage(storage) = value else {
            continue;
        };
        let Some(bytes) = storage.count.checked_mul(storage.dtype.size_bytes() as u64) else {
            return Err(bad("the size of a storage overflows"));
        };
        within("bytes in a storage", bytes, i64::MAX as u64)?;
        let size = (storage.count, bytes);
        if *sizes
            .entry(pickle.arena.slice(&storage.key))
            .or_insert(size)
            != size
        {
            return Err(bad("a storage is described in two ways"));
        }
    }
    Ok(sizes)
}
