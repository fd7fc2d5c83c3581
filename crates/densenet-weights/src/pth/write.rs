//! Writing a state dict so that `torch.load(weights_only=True)` and `load_state_dict(strict=True)` take it.

use std::io::{self, Write};

use super::zip_write::ZipWriter;
use crate::{dtype::DType, raw::Item};

/// Writes `items` as a zip archive of stored records with a protocol-2 pickle; inside `{wrapper: …}` if asked for.
pub(crate) fn write(
    out: &mut dyn Write,
    items: &[(String, Item<'_>)],
    wrapper: Option<&str>,
) -> io::Result<()> {
    let mut zip = ZipWriter::new(out);
    zip.record("archive/data.pkl", &pickle(items, wrapper)?)?;
    zip.record("archive/byteorder", b"little")?;
    for (index, (_, item)) in items.iter().enumerate() {
        zip.item(&format!("archive/data/{index}"), item)?;
    }
    zip.record("archive/version", b"3\n")?;
    zip.finish()
}

/// The pickle: an ordered dict of `torch._utils._rebuild_tensor_v2` calls, one storage for each tensor.
fn pickle(items: &[(String, Item<'_>)], wrapper: Option<&str>) -> io::Result<Vec<u8>> {
    let mut p = Pickler(vec![0x80, 2]);
    if let Some(wrapper) = wrapper {
        p.op(b'}');
        p.text(wrapper)?;
    }
    p.ordered_dict();
    p.op(b'(');
    for (index, (name, item)) in items.iter().enumerate() {
        p.text(name)?;
        p.global("torch._utils", "_rebuild_tensor_v2");
        p.op(b'(');
        p.op(b'(');
        p.text("storage")?;
        let storage = if item.dtype() == DType::I64 {
            "LongStorage"
        } else {
            "FloatStorage"
        };
        p.global("torch", storage);
        p.text(&index.to_string())?;
        p.text("cpu")?;
        p.integer(item.len())?;
        p.op(b't');
        p.op(b'Q');
        p.integer(0)?;
        p.sizes(item.shape())?;
        p.sizes(&row_major(item.shape()))?;
        p.op(0x89); // requires_grad: False
        p.ordered_dict(); // no hooks
        p.op(b't');
        p.op(b'R');
    }
    p.op(b'u');
    if wrapper.is_some() {
        p.op(b's');
    }
    p.op(b'.');
    Ok(p.0)
}

/// Steps between neighbours along each axis.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut stride = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        stride[axis - 1] = stride[axis] * shape[axis];
    }
    stride
}

struct Pickler(Vec<u8>);

impl Pickler {
    fn op(&mut self, opcode: u8) {
        self.0.push(opcode);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.0.extend(b")R");
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.op(b'X');
        self.0.extend(length.to_le_bytes());
        self.0.extend(text.bytes());
        Ok(())
    }

    fn integer(&mut self, value: usize) -> io::Result<()> {
        match (u8::try_from(value), i32::try_from(value)) {
            (Ok(byte), _) => self.0.extend([b'K', byte]),
            (_, Ok(word)) => {
                self.op(b'J');
                self.0.extend(word.to_le_bytes());
            }
            _ => {
                let long = i64::try_from(value).map_err(io::Error::other)?;
                self.0.extend([0x8a, 8]);
                self.0.extend(long.to_le_bytes());
            }
        }
        Ok(())
    }

    fn sizes(&mut self, sizes: &[usize]) -> io::Result<()> {
        self.op(b'(');
        for &size in sizes {
            self.integer(size)?;
        }
        self.op(b't');
        Ok(())
    }
}
