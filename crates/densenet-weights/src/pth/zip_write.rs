//! A zip writer for stored records on a plain `Write`: sizes and checksums are known before the bytes go out, so
//! nothing is ever patched and the same input gives the same file.
//!
//! Records start at multiples of 64 bytes, as PyTorch's own do, so that their file can be mapped.

use std::io::{self, Write};

use crc32fast::Hasher;

use crate::raw::Item;

const ALIGNMENT: u64 = 64;
/// Flag bit 11: names are UTF-8.
const UTF8: u16 = 1 << 11;
/// Version needed to extract: 1.0, plain stored records.
const VERSION: u16 = 10;
/// 1980-01-01, the oldest date the format knows: files do not depend on the clock.
const DATE: u16 = 1 << 5 | 1;

pub(super) struct ZipWriter<'a> {
    out: &'a mut dyn Write,
    position: u64,
    directory: Vec<u8>,
    records: u16,
}

impl<'a> ZipWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        ZipWriter {
            out,
            position: 0,
            directory: Vec::new(),
            records: 0,
        }
    }

    pub(super) fn record(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.header(name, content.len() as u64, crc32fast::hash(content))?;
        self.put(content)
    }

    pub(super) fn item(&mut self, name: &str, item: &Item<'_>) -> io::Result<()> {
        let mut crc = Hasher::new();
        item.for_each_piece(|piece| {
            crc.update(piece);
            Ok::<_, io::Error>(())
        })?;
        self.header(name, item.len_bytes() as u64, crc.finalize())?;
        item.for_each_piece(|piece| self.put(piece))
    }

    /// Writes a local header padded so that the content is aligned, and notes the record in the directory.
    fn header(&mut self, name: &str, bytes: u64, crc: u32) -> io::Result<()> {
        let start = small(self.position)?;
        let size = small(bytes)?;
        let name_length = u16::try_from(name.len()).map_err(io::Error::other)?;
        self.records = self.records.checked_add(1).ok_or_else(too_large)?;

        // An extra field of four bytes of header and any number of zeros does the padding.
        let unpadded = self.position + 30 + name.len() as u64 + 4;
        let padding = (unpadded.next_multiple_of(ALIGNMENT) - unpadded) as u16;
        let mut common = Vec::new();
        for field in [VERSION, UTF8, 0, 0, DATE] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc, size, size] {
            common.extend(field.to_le_bytes());
        }
        common.extend(name_length.to_le_bytes());

        let mut local = b"PK\x03\x04".to_vec();
        local.extend(&common);
        local.extend((padding + 4).to_le_bytes());
        local.extend(name.bytes());
        local.extend(b"FB");
        local.extend(padding.to_le_bytes());
        local.resize(local.len() + usize::from(padding), b'Z');

        self.directory.extend(b"PK\x01\x02");
        self.directory.extend(VERSION.to_le_bytes());
        self.directory.extend(&common);
        // No extra field, no comment, disk 0, no attributes.
        self.directory.extend([0; 12]);
        self.directory.extend(start.to_le_bytes());
        self.directory.extend(name.bytes());
        self.put(&local)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        let start = small(self.position)?;
        let directory = std::mem::take(&mut self.directory);
        let size = small(directory.len() as u64)?;
        self.put(&directory)?;
        let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
        end.extend(self.records.to_le_bytes());
        end.extend(self.records.to_le_bytes());
        end.extend(size.to_le_bytes());
        end.extend(start.to_le_bytes());
        end.extend([0, 0]);
        self.put(&end)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// Sizes and offsets beyond 4 GiB would need the zip64 extension; the largest preset's weights take 0.3 GB.
fn small(value: u64) -> io::Result<u32> {
    match u32::try_from(value) {
        Ok(small) if small != u32::MAX => Ok(small),
        _ => Err(too_large()),
    }
}

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "a .pth file is limited to 4 GiB here; write .safetensors instead",
    )
}
