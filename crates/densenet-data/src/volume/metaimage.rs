//! MetaImage: a header of lines `Key = value`, then the numbers (`.mha`), or their file beside it (`.mhd`).
//!
//! Read are whole and floating-point types, both byte orders, plain or packed by zlib. The channels of a voxel lie together;
//! a fourth dimension is channels, too. The world is DICOM's, as ITK has it: to the left, the back and upwards.
//!
//! # Source
//! The MetaIO library's description of its tags, <https://docs.itk.org/en/latest/learn/metaio.html>.

use std::collections::BTreeMap;

use super::raster::{MAX_DIMENSIONS, MAX_HEADER_BYTES, Raster, damaged, numbers, sizes, space};
use super::stored::{Packing, Stored};
use crate::decoded::DecodedImage;
use crate::error::DataError;
use crate::npy::Kind;

/// Whether the file begins like a MetaImage header.
pub(super) fn recognises(head: &[u8]) -> bool {
    ["ObjectType", "NDims", "Comment"].iter().any(|key| {
        head.strip_prefix(key.as_bytes())
            .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    })
}

/// The name of the file that has the numbers, where they are not in this one.
pub(super) fn apart(mut stored: Stored<'_>) -> Result<Option<String>, DataError> {
    let fields = Fields::read(&mut stored)?;
    let file = fields.text("elementdatafile").map(str::to_string);
    Ok(file.filter(|name| !name.eq_ignore_ascii_case("LOCAL")))
}

pub(super) fn read(mut stored: Stored<'_>) -> Result<DecodedImage, DataError> {
    let place = stored.place();
    let fields = Fields::read(&mut stored)?;
    let raster = fields.raster(place)?;
    let packed = fields.truth("compresseddata")?;
    let file = fields.text("elementdatafile").unwrap_or("LOCAL");
    let mut stored = match file {
        "LOCAL" | "Local" | "local" => stored,
        _ if file.starts_with("LIST") || file.contains('%') => {
            return Err(DataError::data(
                place,
                "its slices lie in files of their own",
                "write it as one file (.mha)",
            ));
        }
        name => stored.beside(name)?,
    };
    if packed {
        stored = stored.unpacked(Packing::Zlib)?;
    }
    match fields.text("headersize").map(str::parse::<i64>) {
        None | Some(Ok(0)) => {}
        Some(Ok(-1)) => {
            let bytes = raster.bytes(place)?;
            let Some(before) = stored.left().and_then(|left| left.checked_sub(bytes)) else {
                return Err(damaged(
                    place,
                    "its numbers are said to end the file, which is too short for them".into(),
                ));
            };
            stored.skip(before)?;
        }
        Some(Ok(bytes @ 1..)) => stored.skip(bytes as u64)?,
        Some(_) => return Err(fields.wrong("headersize")),
    }
    raster.read(stored)
}

/// The lines of a header, keys in lower case.
struct Fields<'a> {
    place: &'a str,
    lines: BTreeMap<String, String>,
}

impl<'a> Fields<'a> {
    /// All lines up to the one that says where the numbers are.
    fn read(stored: &mut Stored<'a>) -> Result<Fields<'a>, DataError> {
        let place = stored.place();
        let mut lines = BTreeMap::new();
        while stored.position() < MAX_HEADER_BYTES {
            let Some(line) = stored.line(1 << 16)? else {
                break;
            };
            if line.trim().is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(damaged(place, "a line of its header has no `=`".into()));
            };
            let key = key.trim().to_ascii_lowercase();
            let last = key == "elementdatafile";
            lines.insert(key, value.trim().to_string());
            if last {
                return Ok(Fields { place, lines });
            }
        }
        Err(damaged(
            place,
            "its header does not say where the numbers are".into(),
        ))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.lines.get(key).map(String::as_str)
    }

    fn wrong(&self, key: &str) -> DataError {
        let value = self.text(key).unwrap_or("");
        damaged(self.place, format!("`{key}` is `{value}`"))
    }

    fn truth(&self, key: &str) -> Result<bool, DataError> {
        match self.text(key).map(|v| v.as_bytes().first().copied()) {
            None | Some(Some(b'F' | b'f' | b'0')) => Ok(false),
            Some(Some(b'T' | b't' | b'1')) => Ok(true),
            _ => Err(self.wrong(key)),
        }
    }

    /// As many numbers as asked for, under the first of `keys` that is there.
    fn list(&self, keys: &[&str], count: usize) -> Result<Option<Vec<f64>>, DataError> {
        let Some(key) = keys.iter().find(|key| self.lines.contains_key(**key)) else {
            return Ok(None);
        };
        match self.text(key).and_then(numbers) {
            Some(list) if list.len() == count => Ok(Some(list)),
            _ => Err(self.wrong(key)),
        }
    }

    fn raster(&self, place: &str) -> Result<Raster, DataError> {
        if let Some(kind) = self.text("objecttype")
            && !kind.eq_ignore_ascii_case("image")
        {
            return Err(DataError::data(
                place,
                format!("a MetaIO file of a {kind}, not of an image"),
                "leave it out",
            ));
        }
        if self.lines.contains_key("binarydata") && !self.truth("binarydata")? {
            return Err(DataError::data(
                place,
                "its numbers are written as text",
                "write it with BinaryData = True",
            ));
        }
        for (key, plain) in [
            ("elementtointensityfunctionslope", 1.0),
            ("elementtointensityfunctionoffset", 0.0),
        ] {
            if self.list(&[key], 1)?.is_some_and(|v| v != [plain]) {
                return Err(DataError::data(
                    place,
                    format!(
                        "its values are to be changed by `{key}`, which programs read differently"
                    ),
                    "write the changed values",
                ));
            }
        }
        let shape = sizes(place, self.text("dimsize").unwrap_or(""))?;
        let dims = shape.len();
        if self.text("ndims").and_then(|n| n.parse().ok()) != Some(dims) || dims > MAX_DIMENSIONS {
            return Err(self.wrong("ndims"));
        }
        let channels = match self.text("elementnumberofchannels").map(str::parse) {
            None => 1,
            Some(Ok(n)) if n > 0 => n,
            Some(_) => return Err(self.wrong("elementnumberofchannels")),
        };
        let spacing = self
            .list(&["elementspacing", "elementsize"], dims)?
            .unwrap_or_else(|| vec![1.0; dims]);
        let turn = self
            .list(&["transformmatrix", "rotation", "orientation"], dims * dims)?
            .unwrap_or_else(|| {
                let unit = |i| f64::from(u8::from(i % (dims + 1) == 0));
                (0..dims * dims).map(unit).collect()
            });
        let origin = self
            .list(&["offset", "origin", "position"], dims)?
            .unwrap_or_else(|| vec![0.0; dims]);
        let at = |list: &[f64], i: usize| list.get(i).copied().unwrap_or(0.0);
        let spatial = dims.min(3);
        let mut steps = [[0.0; 3]; 3];
        for (axis, step) in steps.iter_mut().enumerate() {
            for (world, step) in step.iter_mut().enumerate() {
                *step = if axis < spatial && world < spatial {
                    at(&turn, axis * dims + world) * at(&spacing, axis)
                } else {
                    f64::from(u8::from(axis == world))
                };
            }
        }
        let origin = [0, 1, 2].map(|i| at(&origin, i));
        let sizes = std::iter::once(channels).chain(shape).collect();
        Ok(Raster {
            kind: self.kind(place)?,
            big_endian: self.truth("binarydatabyteordermsb")?
                || self.truth("elementbyteordermsb")?,
            sizes,
            spatial: (1..=spatial).collect(),
            space: space(steps, origin, [-1.0, -1.0, 1.0]),
        })
    }

    /// The type of the numbers. A `LONG` has four bytes here, whatever machine wrote it.
    fn kind(&self, place: &str) -> Result<Kind, DataError> {
        let name = self.text("elementtype").unwrap_or("");
        Ok(match name.to_ascii_uppercase().as_str() {
            "MET_CHAR" => Kind::I8,
            "MET_UCHAR" => Kind::U8,
            "MET_SHORT" => Kind::I16,
            "MET_USHORT" => Kind::U16,
            "MET_INT" | "MET_LONG" => Kind::I32,
            "MET_UINT" | "MET_ULONG" => Kind::U32,
            "MET_LONG_LONG" => Kind::I64,
            "MET_ULONG_LONG" => Kind::U64,
            "MET_FLOAT" => Kind::F32,
            "MET_DOUBLE" => Kind::F64,
            _ => {
                return Err(DataError::data(
                    place,
                    format!("numbers of the type `{name}`"),
                    "convert it to whole or floating-point numbers of at most 64 bits",
                ));
            }
        })
    }
}
