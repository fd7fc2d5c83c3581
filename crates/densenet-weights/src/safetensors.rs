//! The `.safetensors` format: eight bytes of header length, a JSON header, the tensors' bytes.
//!
//! The reader is strict where the format leaves room for tricks: the header is at most [`MAX_HEADER_BYTES`] and names at
//! most [`MAX_TENSORS`] tensors; names are unique; the tensors cover the rest of the file exactly, without gap or
//! overlap; no tensor is empty. Nothing is allocated that the file's own length does not justify. The header is read by
//! this crate's own visitor because a map-based one keeps the last of two equal names without a word.

mod header;
mod read;
mod write;

pub(crate) use header::Info;
pub use header::{MAX_HEADER_BYTES, MAX_TENSORS};
pub(crate) use read::{counter, floats, header, reading};
pub use read::{read, read_from};
pub(crate) use write::write;
