//! A file as a stream of known bounds, unpacked on the way if it is gzipped.

use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

use crate::error::DataError;

/// The most bytes a volume's file may have.
const MAX_FILE_BYTES: u64 = 8 << 30;
/// Deflate packs at most 1032 to one.
const MOST_INFLATION: u64 = 1032;
/// Bytes at the start by which formats are told apart: NIfTI's mark ends here, behind DICOM's.
pub(super) const HEAD_BYTES: usize = 348;
/// What may follow the numbers in a gzipped file and is read only for its checksum.
const MAX_TAIL_BYTES: u64 = 64 << 20;

/// How the numbers behind a header are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zlib,
}

/// A file's bytes, to be taken in order.
pub(super) struct Stored<'a> {
    place: &'a str,
    /// The folder the file lies in; nothing for bytes in memory.
    folder: Option<PathBuf>,
    head: Vec<u8>,
    /// Bytes of the head that were taken.
    taken: usize,
    /// All bytes that were taken.
    position: u64,
    rest: Box<dyn Read + 'a>,
    file_bytes: u64,
    gzip: bool,
}

impl<'a> Stored<'a> {
    /// A regular file. A pipe or device is refused rather than waited for.
    pub(super) fn open(path: &Path, place: &'a str) -> Result<Stored<'a>, DataError> {
        Stored::open_as(path, place, true)
    }

    /// The same, gzipped or not as it says itself (`any`), or taken as it is.
    fn open_as(path: &Path, place: &'a str, any: bool) -> Result<Stored<'a>, DataError> {
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
        let reader = BufReader::with_capacity(1 << 16, file);
        Ok(Stored {
            folder: path.parent().map(Path::to_path_buf),
            ..Stored::of(place, reader, metadata.len(), any)?
        })
    }

    /// Bytes in memory.
    pub(super) fn of_bytes(place: &'a str, bytes: &'a [u8]) -> Result<Stored<'a>, DataError> {
        Stored::of(place, BufReader::new(bytes), bytes.len() as u64, true)
    }

    fn of<R: Read + 'a>(
        place: &'a str,
        mut reader: BufReader<R>,
        file_bytes: u64,
        any: bool,
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
        let gzip = any && start.starts_with(&[0x1F, 0x8B]);
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
            folder: None,
            head,
            taken: 0,
            position: 0,
            rest,
            file_bytes,
            gzip,
        })
    }

    /// The file of numbers that a header names: `name`, beside it.
    pub(super) fn beside(&self, name: &str) -> Result<Stored<'a>, DataError> {
        let plain = Path::new(name).file_name() == Some(name.as_ref());
        let Some(folder) = self.folder.as_ref().filter(|_| plain) else {
            return Err(DataError::data(
                self.place,
                format!("its numbers lie in another file, `{name}`, which is not beside it"),
                "put both into one folder, or write them as one file",
            ));
        };
        Stored::open_as(&folder.join(name), self.place, false)
    }

    /// What is left of the file, unpacked.
    pub(super) fn unpacked(mut self, packing: Packing) -> Result<Stored<'a>, DataError> {
        if self.gzip {
            return Err(DataError::data(
                self.place,
                "packed twice",
                "unpack it once, or write it anew",
            ));
        }
        let head = Cursor::new(self.head.split_off(self.taken.min(self.head.len())));
        let packed = BufReader::with_capacity(1 << 16, head.chain(self.rest));
        let rest: Box<dyn Read + 'a> = match packing {
            Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Packing::Zlib => Box::new(ZlibDecoder::new(packed)),
        };
        Ok(Stored {
            head: Vec::new(),
            taken: 0,
            position: 0,
            rest,
            file_bytes: self.file_bytes.saturating_sub(self.position),
            gzip: true,
            ..self
        })
    }

    /// How many bytes were taken.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that are left of a file that is not packed.
    pub(super) fn left(&self) -> Option<u64> {
        (!self.gzip).then(|| self.file_bytes.saturating_sub(self.position))
    }

    /// The next line without its end, of at most `max_bytes`; nothing where the file ends.
    pub(super) fn line(&mut self, max_bytes: usize) -> Result<Option<String>, DataError> {
        let mut line = Vec::new();
        let mut any = false;
        loop {
            let mut byte = [0];
            match self.fill(&mut byte) {
                Err(_) if self.left() == Some(0) => break,
                other => other?,
            }
            any = true;
            match byte {
                [b'\n'] => break,
                _ if line.len() == max_bytes => {
                    return Err(DataError::data(
                        self.place,
                        format!("a line of its header has more than {max_bytes} bytes"),
                        "write the file anew: it is damaged",
                    ));
                }
                [byte] => line.push(byte),
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(any.then(|| String::from_utf8_lossy(&line).into_owned()))
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
            .map_err(|e| unreadable(self.place, &e))?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    /// Passes over the next bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), DataError> {
        let in_head =
            (self.head.len() - self.taken).min(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.taken += in_head;
        self.position = self.position.saturating_add(bytes);
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
