//! NRRD: a header of lines `field: value` and an empty one, then the numbers (`.nrrd`), or their file beside it (`.nhdr`).
//!
//! Read are whole and floating-point types, both byte orders, `raw` and `gzip` encoding. Axes that do not run through space
//! (`none` among the directions, or a kind such as `vector`) are channels, and so is a fourth axis of which nothing is said.
//! Of the named spaces those with patient's directions count; others are taken as rightwards, forwards and upwards.
//!
//! # Source
//! Definition of NRRD file format, <https://teem.sourceforge.net/nrrd/format.html>.

use std::collections::BTreeMap;

use super::raster::{MAX_HEADER_BYTES, Raster, damaged, numbers, sizes, space};
use super::space::Space;
use super::stored::{Packing, Stored};
use crate::decoded::DecodedImage;
use crate::error::DataError;
use crate::npy::Kind;

pub(super) fn recognises(head: &[u8]) -> bool {
    head.starts_with(b"NRRD000")
}

/// The name of the file that has the numbers, where they are not in this one.
pub(super) fn apart(mut stored: Stored<'_>) -> Result<Option<String>, DataError> {
    let fields = Fields::read(&mut stored)?;
    Ok(fields.data_file().map(str::to_string))
}

pub(super) fn read(mut stored: Stored<'_>) -> Result<DecodedImage, DataError> {
    let place = stored.place();
    let fields = Fields::read(&mut stored)?;
    let raster = fields.raster(place)?;
    let mut stored = match fields.data_file() {
        None => stored,
        Some(list) if list.starts_with("LIST") || list.contains('%') => {
            return Err(DataError::data(
                place,
                "its slices lie in files of their own",
                "write it as one file (.nrrd)",
            ));
        }
        Some(name) => stored.beside(name)?,
    };
    let skip = fields.whole("byte skip", "byteskip")?;
    if fields.whole("line skip", "lineskip")? != 0 {
        return Err(DataError::data(
            place,
            "lines are to be passed over before its numbers",
            "write it without `line skip`",
        ));
    }
    match fields.text("encoding").unwrap_or("") {
        "raw" => {}
        "gzip" | "gz" => stored = stored.unpacked(Packing::Gzip)?,
        other => {
            return Err(DataError::data(
                place,
                format!("numbers in `{other}` encoding"),
                "write it with `raw` or `gzip` encoding",
            ));
        }
    }
    match (skip, stored.left()) {
        (0, _) => {}
        (-1, Some(left)) => match left.checked_sub(raster.bytes(place)?) {
            Some(before) => stored.skip(before)?,
            None => {
                return Err(damaged(
                    place,
                    "its numbers are said to end the file, which is too short for them".into(),
                ));
            }
        },
        (bytes @ 1.., _) => stored.skip(bytes as u64)?,
        _ => return Err(fields.wrong("byte skip")),
    }
    raster.read(stored)
}

/// The lines of a header, names in lower case.
struct Fields<'a> {
    place: &'a str,
    lines: BTreeMap<String, String>,
}

impl<'a> Fields<'a> {
    fn read(stored: &mut Stored<'a>) -> Result<Fields<'a>, DataError> {
        let place = stored.place();
        let mut lines = BTreeMap::new();
        // The mark with the version, of which 1 to 5 are alike for what is read here.
        stored.line(64)?;
        while stored.position() < MAX_HEADER_BYTES {
            match stored.line(1 << 16)? {
                // A header without numbers of its own may simply end.
                None => return Ok(Fields { place, lines }),
                Some(line) if line.is_empty() => return Ok(Fields { place, lines }),
                Some(line) if line.starts_with('#') => {}
                Some(line) => {
                    let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                    // `key:=value` is somebody's note.
                    if !value.starts_with('=') {
                        let name = name.trim().to_ascii_lowercase();
                        lines.insert(name, value.trim().to_string());
                    }
                }
            }
        }
        Err(damaged(
            place,
            format!("a header of more than {MAX_HEADER_BYTES} bytes"),
        ))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.lines.get(name).map(String::as_str)
    }

    fn data_file(&self) -> Option<&str> {
        self.text("data file").or(self.text("datafile"))
    }

    fn wrong(&self, name: &str) -> DataError {
        let value = self.text(name).unwrap_or("");
        damaged(self.place, format!("`{name}` is `{value}`"))
    }

    /// A whole number under either name; zero where there is none.
    fn whole(&self, name: &str, other: &str) -> Result<i64, DataError> {
        match self.text(name).or(self.text(other)).map(str::parse) {
            None => Ok(0),
            Some(Ok(n)) => Ok(n),
            Some(Err(_)) => Err(self.wrong(name)),
        }
    }

    fn raster(&self, place: &str) -> Result<Raster, DataError> {
        let sizes = sizes(place, self.text("sizes").unwrap_or(""))?;
        let dims = sizes.len();
        if self.text("dimension").and_then(|n| n.parse().ok()) != Some(dims) {
            return Err(self.wrong("dimension"));
        }
        let kind = self.kind(place)?;
        let big_endian = match self.text("endian") {
            Some("big") => true,
            Some("little") => false,
            None if kind.size() == 1 => false,
            _ => return Err(self.wrong("endian")),
        };
        let directions = self.directions(dims)?;
        let spatial = self.spatial(dims, directions.as_deref());
        if spatial.is_empty() || spatial.len() > 3 {
            let what = format!("{} axes through space", spatial.len());
            return Err(DataError::data(
                place,
                what,
                "give volumes of two or three such axes",
            ));
        }
        let space = self.space(&spatial, directions.as_deref())?;
        Ok(Raster {
            kind,
            big_endian,
            sizes,
            spatial,
            space,
        })
    }

    /// For each axis its step through space, or `none`.
    fn directions(&self, dims: usize) -> Result<Option<Vec<Option<Vec<f64>>>>, DataError> {
        let Some(text) = self.text("space directions") else {
            return Ok(None);
        };
        let steps = vectors(text).filter(|v| v.len() == dims);
        let steps = steps.ok_or_else(|| self.wrong("space directions"))?;
        let wrong = |step: &Option<Vec<f64>>| step.as_ref().is_some_and(|s| s.len() != 3);
        // A plane in a world of two directions lies nowhere in a patient.
        if steps.iter().flatten().all(|s| s.len() == 2) {
            return Ok(None);
        }
        if steps.iter().any(wrong) {
            return Err(self.wrong("space directions"));
        }
        Ok(Some(steps))
    }

    /// The axes that run through space.
    fn spatial(&self, dims: usize, directions: Option<&[Option<Vec<f64>>]>) -> Vec<usize> {
        if let Some(directions) = directions {
            return (0..dims)
                .filter(|&axis| directions.get(axis).is_some_and(Option::is_some))
                .collect();
        }
        let kinds: Vec<&str> = self
            .text("kinds")
            .map(|kinds| kinds.split_whitespace().collect())
            .unwrap_or_default();
        let through = |axis: &usize| {
            let kind = kinds.get(*axis).map(|k| k.to_ascii_lowercase());
            matches!(
                kind.as_deref(),
                None | Some("domain" | "space" | "none" | "???")
            )
        };
        // Of more than three, the last are several volumes behind each other.
        (0..dims).filter(through).take(3).collect()
    }

    fn space(
        &self,
        spatial: &[usize],
        directions: Option<&[Option<Vec<f64>>]>,
    ) -> Result<Space, DataError> {
        let name = self.text("space").unwrap_or("").to_ascii_lowercase();
        let signs = match name.trim_end_matches("-time") {
            "left-posterior-superior" | "lps" | "lpst" => [-1.0, -1.0, 1.0],
            "left-anterior-superior" | "las" | "last" => [-1.0, 1.0, 1.0],
            _ => [1.0; 3],
        };
        let mut steps = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let mut origin = [0.0; 3];
        if let Some(directions) = directions {
            for (step, &axis) in steps.iter_mut().zip(spatial) {
                let own = directions.get(axis).and_then(|d| d.as_deref());
                if let Some(&[x, y, z]) = own {
                    *step = [x, y, z];
                }
            }
            if let Some(text) = self.text("space origin") {
                match vectors(text).as_deref() {
                    Some([Some(at)]) => match *at.as_slice() {
                        [x, y, z] => origin = [x, y, z],
                        _ => return Err(self.wrong("space origin")),
                    },
                    _ => return Err(self.wrong("space origin")),
                }
            }
        } else if let Some(text) = self.text("spacings") {
            let spacings = numbers(text).ok_or_else(|| self.wrong("spacings"))?;
            for (i, (step, &axis)) in steps.iter_mut().zip(spatial).enumerate() {
                let own = spacings.get(axis).copied().filter(|s| !s.is_nan());
                if let (Some(step), Some(own)) = (step.get_mut(i), own) {
                    *step = own;
                }
            }
        }
        let unit = self.unit();
        steps.iter_mut().flatten().for_each(|v| *v *= unit);
        origin.iter_mut().for_each(|v| *v *= unit);
        Ok(space(steps, origin, signs))
    }

    /// Millimetres in the unit that `space units` names first; files that name none are in millimetres.
    fn unit(&self) -> f64 {
        let units = self
            .text("space units")
            .or(self.text("units"))
            .unwrap_or("");
        let first = units.split('"').map(str::trim).find(|u| !u.is_empty());
        match first.unwrap_or("") {
            "m" | "meter" | "meters" => 1e3,
            "cm" => 10.0,
            "um" | "µm" | "micron" | "microns" => 1e-3,
            _ => 1.0,
        }
    }

    fn kind(&self, place: &str) -> Result<Kind, DataError> {
        let name = self.text("type").unwrap_or("").to_ascii_lowercase();
        Ok(match name.as_str() {
            "signed char" | "int8" | "int8_t" => Kind::I8,
            "uchar" | "unsigned char" | "uint8" | "uint8_t" => Kind::U8,
            "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => {
                Kind::I16
            }
            "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Kind::U16,
            "int" | "signed int" | "int32" | "int32_t" => Kind::I32,
            "uint" | "unsigned int" | "uint32" | "uint32_t" => Kind::U32,
            "longlong"
            | "long long"
            | "long long int"
            | "signed long long"
            | "signed long long int"
            | "int64"
            | "int64_t" => Kind::I64,
            "ulonglong"
            | "unsigned long long"
            | "unsigned long long int"
            | "uint64"
            | "uint64_t" => Kind::U64,
            "float" => Kind::F32,
            "double" => Kind::F64,
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

/// Vectors such as `(1,0,0) none (0,0.5,0)`.
fn vectors(text: &str) -> Option<Vec<Option<Vec<f64>>>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("none") {
            out.push(None);
            rest = after.trim_start();
            continue;
        }
        let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
        let vector: Option<Vec<f64>> = inside.split(',').map(|v| v.trim().parse().ok()).collect();
        out.push(Some(vector?));
        rest = after.trim_start();
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_told_from_none() {
        assert_eq!(
            vectors("none (1, 0,-0.5)(0,1e-1,0)"),
            Some(vec![
                None,
                Some(vec![1.0, 0.0, -0.5]),
                Some(vec![0.0, 0.1, 0.0])
            ])
        );
        for wrong in ["(1,2", "1,2)", "nothing", "(a,b)"] {
            assert_eq!(vectors(wrong), None, "{wrong}");
        }
    }
}
