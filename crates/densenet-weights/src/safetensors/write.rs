//! Writing: counters first (they need 8-byte alignment), then the f32 tensors in the given order.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::raw::Item;

/// Writes `items` and `metadata` as one `.safetensors` document.
///
/// Integers come before f32 tensors so that every tensor's bytes are aligned to its element, as readers that map the
/// file expect; the header is padded with spaces to a multiple of eight.
pub(crate) fn write(
    out: &mut dyn Write,
    items: &[(String, Item<'_>)],
    metadata: &[(&str, String)],
) -> io::Result<()> {
    let mut ordered: Vec<_> = items.iter().collect();
    ordered.sort_by_key(|(_, item)| std::cmp::Reverse(item.dtype().size_bytes()));

    let mut header = Map::new();
    if !metadata.is_empty() {
        let texts: Map<_, _> = metadata
            .iter()
            .map(|(name, text)| (name.to_string(), Value::from(text.as_str())))
            .collect();
        header.insert("__metadata__".to_string(), Value::Object(texts));
    }
    let mut offset = 0;
    for (name, item) in &ordered {
        let end = offset + item.len_bytes();
        header.insert(
            name.clone(),
            json!({"dtype": item.dtype().name(), "shape": item.shape(), "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    out.write_all(&(json.len() as u64).to_le_bytes())?;
    out.write_all(&json)?;
    for (_, item) in ordered {
        item.for_each_piece(|piece| out.write_all(piece))?;
    }
    Ok(())
}
