//! A file as a stream of known bounds, unpacked on the way if it is gzipped.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::DataError;

/// The most bytes a volume's file may have.
const MAX_FILE_BYTES: u64 = 8 << 30;
/// Deflate packs at most 1032 to one.
const MOST_INFLATION: u64 = 1032;
/// Bytes at the start by which formats are told apart: NIfTI's mark ends here, behind DICOM's.
pub(super) const HEAD_BYTES: usize = 348;
/// What may follow the numbers in a gzipped file and is read only for its checksum.
const MAX_TAIL_BYTES: u64 = 64 << 20;

/// A file's bytes, to be taken in order.
pub(super) struct Stored<'a> {
    place: &'a str,
    head: Vec<u8>,
    /// Bytes of the head that were taken.
    taken: usize,
    rest: Box<dyn Read + 'a>,
    file_bytes: u64,
    gzip: bool,
}

impl<'a> Stored<'a> {
    /// A regular file. A pipe or device is refused rather than waited for.
    pub(super) fn open(path: &Path, place: &'a str) -> Result<Stored<'a>, DataError> {
        let io = |e: std::io::Error| DataError::io(path, &e);
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(DataError::data(place, "not a regular file", "leave it out"));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(DataError::limit(
                place,
                format!(
                    "{} bytes, more than the {MAX_FILE_BYTES} a volume may have",
                    metadata.len()
                ),
                "make it smaller or leave it out",
            ));
        }
        Stored::of(
            place,
            BufReader::with_capacity(1 << 16, file),
            metadata.len(),
        )
    }

    /// Bytes in memory.
    pub(super) fn of_bytes(place: &'a str, bytes: &'a [u8]) -> Result<Stored<'a>, DataError> {
        Stored::of(place, BufReader::new(bytes), bytes.len() as u64)
    }

    fn of<R: Read + 'a>(
        place: &'a str,
        mut reader: BufReader<R>,
        file_bytes: u64,
    ) -> Result<Stored<'a>, DataError> {
        use std::io::BufRead;
        let start = reader.fill_buf().map_err(|e| unreadable(place, &e))?;
        if start.is_empty() {
            return Err(DataError::data(
                place,
                "the file is empty (0 bytes)",
                "replace it or remove it",
            ));
        }
        let gzip = start.starts_with(&[0x1F, 0x8B]);
        let mut rest: Box<dyn Read + 'a> = if gzip {
            Box::new(MultiGzDecoder::new(reader))
        } else {
            Box::new(reader)
        };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        (&mut rest)
            .take(HEAD_BYTES as u64)
            .read_to_end(&mut head)
            .map_err(|e| unreadable(place, &e))?;
        Ok(Stored {
            place,
            head,
            taken: 0,
            rest,
            file_bytes,
            gzip,
        })
    }

    /// The file, for messages.
    pub(super) fn place(&self) -> &'a str {
        self.place
    }

    /// The first bytes, unpacked; they are still to be taken.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Checks that the file can hold `bytes` from its start on, before anything is allocated for them.
    pub(super) fn require(&self, bytes: u64, what: &str) -> Result<(), DataError> {
        let most = if self.gzip {
            self.file_bytes.saturating_mul(MOST_INFLATION)
        } else {
            self.file_bytes
        };
        if bytes <= most {
            return Ok(());
        }
        let has = if self.gzip {
            format!("{} packed bytes cannot hold that", self.file_bytes)
        } else {
            format!("the file has {}", self.file_bytes)
        };
        Err(DataError::data(
            self.place,
            format!("{what}, which takes {bytes} bytes; {has}"),
            "write the file anew: it is cut off or damaged",
        ))
    }

    /// Fills `buffer` with the next bytes.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DataError> {
        let left = self.head.get(self.taken..).unwrap_or(&[]);
        let from_head = left.len().min(buffer.len());
        let (start, end) = buffer.split_at_mut(from_head);
        start.copy_from_slice(&left[..from_head]);
        self.taken += from_head;
        self.rest
            .read_exact(end)
            .map_err(|e| unreadable(self.place, &e))
    }

    /// Passes over the next bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), DataError> {
        let in_head =
            (self.head.len() - self.taken).min(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.taken += in_head;
        let left = bytes - in_head as u64;
        let passed = std::io::copy(&mut (&mut self.rest).take(left), &mut std::io::sink())
            .map_err(|e| unreadable(self.place, &e))?;
        if passed < left {
            return Err(cut_off(self.place));
        }
        Ok(())
    }

    /// All that is left, of at most `max_bytes`.
    pub(super) fn read_all(mut self, max_bytes: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = self.head.split_off(self.taken.min(self.head.len()));
        self.rest
            .by_ref()
            .take(max_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| unreadable(self.place, &e))?;
        if bytes.len() as u64 > max_bytes {
            return Err(DataError::limit(
                self.place,
                format!("more than the {max_bytes} bytes that this kind of file may have"),
                "make it smaller or leave it out",
            ));
        }
        Ok(bytes)
    }

    /// The numbers are read: a packed file's checksums remain to be compared.
    pub(super) fn finish(mut self) -> Result<(), DataError> {
        if !self.gzip {
            return Ok(());
        }
        let tail = std::io::copy(
            &mut self.rest.by_ref().take(MAX_TAIL_BYTES + 1),
            &mut std::io::sink(),
        )
        .map_err(|e| unreadable(self.place, &e))?;
        if tail > MAX_TAIL_BYTES {
            return Err(DataError::limit(
                self.place,
                format!("more than {MAX_TAIL_BYTES} bytes follow the voxels"),
                "write the file anew",
            ));
        }
        Ok(())
    }
}

fn cut_off(place: &str) -> DataError {
    DataError::data(
        place,
        "the file is cut off: it ends before its voxels do",
        "replace it or remove it",
    )
}

fn unreadable(place: &str, error: &std::io::Error) -> DataError {
    match error.kind() {
        ErrorKind::UnexpectedEof => cut_off(place),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => DataError::data(
            place,
            format!("broken gzip file ({error})"),
            "replace it or remove it",
        ),
        _ => DataError::io(Path::new(place), error),
    }
}
