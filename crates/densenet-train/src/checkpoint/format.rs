//! The bytes of a state file: safetensors with its own digest inside.
//!
//! # Layout
//! `u64` length of the header, the header (JSON, padded with spaces to a multiple of 8), the arenas in order, all
//! little-endian. The header begins with [`PREFIX`] and 64 hexadecimal digits: the SHA-256 of the file with these digits
//! as zeros. So the digest covers every byte that is not the digest, and a change to the digest itself is a mismatch too.

use std::io::{self, Read, Write};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::progress::Progress;
use crate::error::TrainError;

const PREFIX: &str = r#"{"__metadata__":{"sha256":""#;
const DIGEST_LEN: usize = 64;
const DIGEST_AT: usize = 8 + PREFIX.len();

/// A named flat arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arena<'a> {
    pub(crate) name: &'a str,
    pub(crate) values: &'a [f32],
}

/// A state read back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SavedState {
    pub(crate) progress: Progress,
    arenas: Vec<(String, Vec<f32>)>,
}

/// A state about to be written: the header is complete, the arenas are still borrowed.
pub(super) struct Encoded<'a> {
    header: Vec<u8>,
    arenas: &'a [Arena<'a>],
    digest: String,
}

impl<'a> Encoded<'a> {
    pub(super) fn new(progress: &Progress, arenas: &'a [Arena<'a>]) -> Result<Self, TrainError> {
        let bug = |e: serde_json::Error| {
            TrainError::Bug(format!("the state cannot be written as JSON: {e}"))
        };
        let progress = serde_json::to_string(progress).map_err(bug)?;
        let progress = serde_json::to_string(&progress).map_err(bug)?;
        let mut table = String::new();
        let mut offset = 0;
        for arena in arenas {
            let end = offset + 4 * arena.values.len();
            let entry = json!({ "dtype": "F32", "shape": [arena.values.len()], "data_offsets": [offset, end] });
            let name = serde_json::to_string(arena.name).map_err(bug)?;
            table.push_str(&format!(",{name}:{entry}"));
            offset = end;
        }
        let zeros = "0".repeat(DIGEST_LEN);
        let mut text = format!("{PREFIX}{zeros}\",\"progress\":{progress}}}{table}}}");
        while text.len() % 8 != 0 {
            text.push(' ');
        }
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend_from_slice(text.as_bytes());
        let mut hasher = Sha256::new();
        hasher.update(&header);
        each_chunk(arenas, |bytes| {
            hasher.update(bytes);
            Ok(())
        })
        .map_err(|e| TrainError::Bug(e.to_string()))?;
        let digest = hex(&hasher.finalize());
        if let Some(place) = header.get_mut(DIGEST_AT..DIGEST_AT + DIGEST_LEN) {
            place.copy_from_slice(digest.as_bytes());
        }
        Ok(Encoded {
            header,
            arenas,
            digest,
        })
    }

    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn write_arenas(&self, writer: &mut dyn Write) -> io::Result<()> {
        each_chunk(self.arenas, |bytes| writer.write_all(bytes))
    }
}

/// The arenas' bytes, a piece at a time.
fn each_chunk(
    arenas: &[Arena<'_>],
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for arena in arenas {
        for chunk in arena.values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
            take(&bytes)?;
        }
    }
    Ok(())
}

/// The digest that a state file's bytes ask for.
pub(super) fn digest(mut file: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let n = file.read(&mut piece)?;
        let Some(read) = piece.get_mut(..n).filter(|r| !r.is_empty()) else {
            break;
        };
        blank(read, at);
        hasher.update(&*read);
        at += n;
    }
    Ok(hex(&hasher.finalize()))
}

/// Turns the digest's digits within `piece`, which starts at byte `at` of the file, into zeros.
fn blank(piece: &mut [u8], at: usize) {
    let start = DIGEST_AT.saturating_sub(at).min(piece.len());
    let end = (DIGEST_AT + DIGEST_LEN).saturating_sub(at).min(piece.len());
    if let Some(digits) = piece.get_mut(start..end) {
        digits.fill(b'0');
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl SavedState {
    /// Reads a state file's bytes; the error says what is wrong with them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SavedState, String> {
        const DAMAGED: &str = "damaged: its SHA-256 does not match its content";
        let stated = bytes
            .get(DIGEST_AT..DIGEST_AT + DIGEST_LEN)
            .ok_or("damaged: it is cut short")?;
        if bytes.get(8..DIGEST_AT) != Some(PREFIX.as_bytes()) {
            return Err("damaged, or not a state file".into());
        }
        let found = digest(bytes).map_err(|e| e.to_string())?;
        if found.as_bytes() != stated {
            return Err(DAMAGED.into());
        }
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or(DAMAGED)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| DAMAGED)?;
        let (header, data) = rest.split_at_checked(length).ok_or(DAMAGED)?;
        // From here on the bytes are those that some version of this program wrote.
        let other = |what: &str| format!("written by another version of this program ({what})");
        let header: Map<String, Value> =
            serde_json::from_slice(header).map_err(|e| other(&e.to_string()))?;
        let mut state = SavedState {
            progress: Progress::default(),
            arenas: Vec::new(),
        };
        for (name, entry) in header {
            if name == "__metadata__" {
                let text = entry
                    .get("progress")
                    .and_then(Value::as_str)
                    .ok_or_else(|| other("no progress"))?;
                state.progress = serde_json::from_str(text).map_err(|e| other(&e.to_string()))?;
                continue;
            }
            let offsets = entry
                .get("data_offsets")
                .and_then(Value::as_array)
                .map(Vec::as_slice);
            let Some([Value::Number(start), Value::Number(end)]) = offsets else {
                return Err(other("no offsets"));
            };
            let place = |n: &serde_json::Number| n.as_u64().and_then(|n| usize::try_from(n).ok());
            let values = place(start)
                .zip(place(end))
                .and_then(|(start, end)| data.get(start..end));
            let (values, []) = values
                .ok_or_else(|| other("offsets out of range"))?
                .as_chunks::<4>()
            else {
                return Err(other("not whole numbers"));
            };
            state.arenas.push((
                name,
                values.iter().map(|v| f32::from_le_bytes(*v)).collect(),
            ));
        }
        if state.progress.format != Progress::FORMAT {
            return Err(other(&format!(
                "format {} instead of {}",
                state.progress.format,
                Progress::FORMAT
            )));
        }
        Ok(state)
    }

    /// Takes the arena called `name` out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Vec<f32>> {
        let at = self.arenas.iter().position(|(n, _)| n == name)?;
        Some(self.arenas.swap_remove(at).1)
    }

    /// Names of the arenas that were not taken.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<&str> {
        self.arenas.iter().map(|(n, _)| n.as_str()).collect()
    }
}
