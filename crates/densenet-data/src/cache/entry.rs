//! One prepared sample as a file.
//!
//! | bytes | |
//! |---|---|
//! | 16 | the mark, with the version of this layout |
//! | 32 | the key |
//! | 8 | hash of the sample as decoded |
//! | 24, 4 | depth, height, width; channels |
//! | 1 | type of the samples: 0 u8, 1 u16, 2 f32 |
//! | 1, 96 | whether it lies in space, and the rows of that map as f64 |
//! | 1, n | the kind's name |
//! | m | the samples |
//! | 32 | SHA-256 of all before |
//!
//! All numbers are little-endian.

use std::io::{self, BufReader, BufWriter, Read, Write};

use sha2::{Digest, Sha256};

use super::Key;
use crate::decoded::{DecodedImage, Samples};
use crate::volume::Space;

/// The first bytes of an entry.
pub(super) const MAGIC: &[u8; 16] = b"densenet sample1";
const FIXED_BYTES: usize = 16 + 32 + 8 + 24 + 4 + 1 + 1 + 96 + 1;
const DIGEST_BYTES: usize = 32;
/// Numbers converted at a time.
const PIECE: usize = 1 << 14;

/// The part of preparing a sample that is the same each time, and what is known of the sample as it was decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Steady {
    pub image: DecodedImage,
    /// Such as `8-bit RGB`.
    pub kind: String,
    /// [`DecodedImage::content_hash`] before any step.
    pub hash: u64,
}

/// Reading and writing.
pub(super) struct Entry;

impl Entry {
    /// The bytes an entry takes.
    pub(super) fn size(sample: &Steady) -> u64 {
        let samples = sample.image.samples().size_bytes();
        (FIXED_BYTES + kind(sample).len() + samples + DIGEST_BYTES) as u64
    }

    pub(super) fn write(to: &mut impl Write, key: &Key, sample: &Steady) -> io::Result<()> {
        let mut out = Hashing {
            to: BufWriter::with_capacity(1 << 16, to),
            hash: Sha256::new(),
        };
        let image = &sample.image;
        out.put(MAGIC)?;
        out.put(key)?;
        out.put(&sample.hash.to_le_bytes())?;
        for n in image.spatial() {
            out.put(&(n as u64).to_le_bytes())?;
        }
        out.put(&(image.channels() as u32).to_le_bytes())?;
        let number = match image.samples() {
            Samples::U8(_) => 0,
            Samples::U16(_) => 1,
            Samples::F32(_) => 2,
        };
        out.put(&[number, u8::from(image.space().is_some())])?;
        let affine = image.space().unwrap_or(Space::UNKNOWN).affine;
        for v in affine.iter().flatten() {
            out.put(&v.to_le_bytes())?;
        }
        out.put(&[kind(sample).len() as u8])?;
        out.put(kind(sample))?;
        match image.samples() {
            Samples::U8(v) => out.put(v)?,
            Samples::U16(v) => {
                for piece in v.chunks(PIECE) {
                    let bytes: Vec<u8> = piece.iter().flat_map(|s| s.to_le_bytes()).collect();
                    out.put(&bytes)?;
                }
            }
            Samples::F32(v) => {
                for piece in v.chunks(PIECE) {
                    let bytes: Vec<u8> = piece.iter().flat_map(|s| s.to_le_bytes()).collect();
                    out.put(&bytes)?;
                }
            }
        }
        let digest = out.hash.finalize();
        out.to.write_all(&digest)?;
        out.to.flush()
    }

    /// The sample, if these `length` bytes are an entry of that key and whole.
    pub(super) fn read(from: &mut impl Read, length: u64, key: &Key) -> Option<Steady> {
        let mut from = Checked {
            from: BufReader::with_capacity(1 << 16, from),
            hash: Sha256::new(),
        };
        if from.take::<16>()? != *MAGIC || from.take::<32>()? != *key {
            return None;
        }
        let hash = u64::from_le_bytes(from.take()?);
        let mut spatial = [0; 3];
        for n in &mut spatial {
            *n = usize::try_from(u64::from_le_bytes(from.take()?)).ok()?;
        }
        let channels = usize::try_from(u32::from_le_bytes(from.take()?)).ok()?;
        let [number, placed] = from.take()?;
        let mut affine = [[0.0; 4]; 3];
        for v in affine.iter_mut().flatten() {
            *v = f64::from_le_bytes(from.take()?);
        }
        let [letters] = from.take()?;
        let kind = String::from_utf8(from.bytes(usize::from(letters))?).ok()?;
        let count = crate::decoded::volume(&spatial)?.checked_mul(channels)?;
        let width = match number {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return None,
        };
        let bytes = count.checked_mul(width)?;
        // Nothing is allocated that the file does not hold.
        let whole = bytes.checked_add(FIXED_BYTES + kind.len() + DIGEST_BYTES)?;
        if count == 0 || u64::try_from(whole) != Ok(length) {
            return None;
        }
        let samples = match number {
            0 => Samples::U8(from.bytes(bytes)?),
            1 => Samples::U16(from.numbers(count, u16::from_le_bytes)?),
            _ => Samples::F32(from.numbers(count, f32::from_le_bytes)?),
        };
        let found: [u8; DIGEST_BYTES] = from.hash.finalize().into();
        let mut expected = [0; DIGEST_BYTES];
        from.from.read_exact(&mut expected).ok()?;
        if found != expected {
            return None;
        }
        let image = if placed == 1 {
            DecodedImage::of_volume(spatial, channels, samples, Space { affine })
        } else {
            DecodedImage::assembled(spatial, channels, samples)
        };
        Some(Steady { image, kind, hash })
    }
}

/// The kind's name, which one byte counts.
fn kind(sample: &Steady) -> &[u8] {
    let bytes = sample.kind.as_bytes();
    bytes.get(..255).unwrap_or(bytes)
}

struct Hashing<W: Write> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.to.write_all(bytes)
    }
}

struct Checked<R: Read> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Checked<R> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).ok()?;
        self.hash.update(bytes);
        Some(bytes)
    }

    fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.from.read_exact(&mut bytes).ok()?;
        self.hash.update(&bytes);
        Some(bytes)
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: usize,
        number: impl Fn([u8; N]) -> T,
    ) -> Option<Vec<T>> {
        let mut out = Vec::with_capacity(count);
        let mut piece = vec![0; PIECE.min(count) * N];
        while out.len() < count {
            let bytes = piece.get_mut(..PIECE.min(count - out.len()) * N)?;
            self.from.read_exact(bytes).ok()?;
            self.hash.update(&*bytes);
            let (numbers, _) = bytes.as_chunks::<N>();
            out.extend(numbers.iter().map(|&b| number(b)));
        }
        Some(out)
    }
}
