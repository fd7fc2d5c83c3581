//! An assembler for pickles, good and bad, and the files they come in.
#![allow(dead_code)]

use std::io::{Cursor, Write};

use densenet_weights::WeightsError;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A pickle under construction.
#[derive(Clone)]
pub struct P(pub Vec<u8>);

impl P {
    pub fn new() -> Self {
        P(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        let length = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    pub fn int(self, value: i32) -> Self {
        self.raw(b"J").raw(&value.to_le_bytes())
    }

    pub fn long(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// `('storage', torch.KIND, key, 'cpu', count)` as a persistent id.
    pub fn storage(self, kind: &str, key: &str, count: i64) -> Self {
        self.raw(b"(")
            .text("storage")
            .global("torch", kind)
            .text(key)
            .text("cpu")
            .long(count)
            .raw(b"tQ")
    }

    pub fn ints(self, values: &[i64]) -> Self {
        let open = self.raw(b"(");
        values
            .iter()
            .fold(open, |p, &value| p.long(value))
            .raw(b"t")
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, stride, False, OrderedDict())`.
    pub fn tensor(
        self,
        storage: impl FnOnce(P) -> P,
        offset: i64,
        shape: &[i64],
        stride: &[i64],
    ) -> Self {
        let p = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(");
        storage(p)
            .long(offset)
            .ints(shape)
            .ints(stride)
            .raw(&[0x89])
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    /// A dict with the one entry `name`.
    pub fn dict_of(name: &str, value: impl FnOnce(P) -> P) -> Self {
        value(P::new().raw(b"}").text(name)).raw(b"s.")
    }
}

/// A state dict of one f32 tensor `w` in storage 0 of `count` elements.
pub fn one_tensor(count: i64, offset: i64, shape: &[i64], stride: &[i64]) -> P {
    P::dict_of("w", |p| {
        p.tensor(
            |p| p.storage("FloatStorage", "0", count),
            offset,
            shape,
            stride,
        )
    })
}

/// A zip archive of these records.
pub fn zip_of(records: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, content) in records {
        zip.start_file(*name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A zip-form file with this pickle and storages `0`, `1`, ….
pub fn pth(pickle: &P, storages: &[&[u8]]) -> Vec<u8> {
    let names: Vec<_> = (0..storages.len())
        .map(|i| format!("archive/data/{i}"))
        .collect();
    let mut records = vec![("archive/data.pkl", pickle.0.as_slice())];
    records.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(storages.iter().copied()),
    );
    records.push(("archive/version", b"3\n"));
    zip_of(&records, CompressionMethod::Stored)
}

pub const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// An old-form file: magic, version, machine, this pickle, the keys, then (count, bytes) of each storage.
pub fn legacy(pickle: &P, keys: &[&str], storages: &[(u64, &[u8])]) -> Vec<u8> {
    let version = P::new().int(1001).raw(b".");
    let machine = P::new()
        .raw(b"}")
        .text("little_endian")
        .raw(&[0x88])
        .raw(b"s.");
    let keys = keys
        .iter()
        .fold(P::new().raw(b"]("), |p, key| p.text(key))
        .raw(b"e.");
    let mut bytes = [MAGIC, &version.0, &machine.0, &pickle.0, &keys.0].concat();
    for (count, content) in storages {
        bytes.extend(count.to_le_bytes());
        bytes.extend(*content);
    }
    bytes
}

/// What a reader says about a bad file.
pub fn error_of(bytes: &[u8]) -> WeightsError {
    match densenet_weights::pth::read_from(&mut Cursor::new(bytes), bytes.len() as u64) {
        Err(error) => error,
        Ok(found) => panic!("read as {found:?}"),
    }
}

/// Expects an error that says `expected`, exit code 4.
pub fn refuse(bytes: &[u8], expected: &str) {
    refuse_with(bytes, expected, 4);
}

/// Expects a one-line error that says `expected`.
pub fn refuse_with(bytes: &[u8], expected: &str, exit_code: u8) {
    let error = error_of(bytes);
    let message = error.to_string();
    assert!(
        message.contains(expected),
        "expected `{expected}`, found `{message}`"
    );
    assert_eq!(error.exit_code(), exit_code, "{message}");
    assert!(!message.contains('\n') && message.len() < 600, "{message}");
}

/// A pickle in both forms of file.
pub fn refuse_pickle(pickle: &P, expected: &str) {
    refuse(&pth(pickle, &[&[0; 16]]), expected);
    refuse(&legacy(pickle, &["0"], &[(4, &[0; 16])]), expected);
}
