//! The header of a `.npy` file: a Python dictionary in text, read without Python.

use crate::error::DataError;

/// The longest header that is read; NumPy's own limit.
const MAX_HEADER_BYTES: usize = 10_000;
/// NumPy's limit on dimensions, once.
const MAX_DIMENSIONS: usize = 32;

/// The type of an array's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

impl Kind {
    pub(crate) fn size(self) -> usize {
        match self {
            Kind::Bool | Kind::I8 | Kind::U8 => 1,
            Kind::I16 | Kind::U16 | Kind::F16 => 2,
            Kind::I32 | Kind::U32 | Kind::F32 => 4,
            Kind::I64 | Kind::U64 | Kind::F64 => 8,
        }
    }

    fn from_descr(descr: &str) -> Option<Kind> {
        Some(match descr {
            "b1" => Kind::Bool,
            "i1" => Kind::I8,
            "u1" => Kind::U8,
            "i2" => Kind::I16,
            "u2" => Kind::U16,
            "i4" => Kind::I32,
            "u4" => Kind::U32,
            "i8" => Kind::I64,
            "u8" => Kind::U64,
            "f2" => Kind::F16,
            "f4" => Kind::F32,
            "f8" => Kind::F64,
            _ => return None,
        })
    }
}

/// What the header says.
#[derive(Debug)]
pub(super) struct Header {
    pub kind: Kind,
    pub big_endian: bool,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
    /// Bytes before the numbers.
    pub length: usize,
}

impl Header {
    pub(super) fn parse(place: &str, bytes: &[u8]) -> Result<Header, DataError> {
        let broken = |what: &str| {
            DataError::data(
                place,
                what,
                "write the file anew with numpy.save: it is damaged or of another kind",
            )
        };
        let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else {
            return Err(broken(
                "not a NumPy array: it does not begin with \\x93NUMPY",
            ));
        };
        let (before, text_length) = match *rest {
            [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
            [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            [version, _, _, _, ..] => {
                return Err(broken(&format!(
                    "NumPy format version {version}; 1 to 3 are read"
                )));
            }
            _ => return Err(broken("cut off within the header")),
        };
        if text_length > MAX_HEADER_BYTES {
            return Err(DataError::limit(
                place,
                format!("a header of {text_length} bytes; at most {MAX_HEADER_BYTES} are read"),
                "save a plain array of numbers",
            ));
        }
        let length = before + text_length;
        let text = bytes
            .get(before..length)
            .ok_or_else(|| broken("cut off within the header"))?;
        let text = std::str::from_utf8(text).map_err(|_| broken("the header is not text"))?;
        let mut fields = Fields::default();
        let mut parser = Parser { rest: text };
        if parser.dictionary(&mut fields).is_none() {
            return Err(broken("the header cannot be understood"));
        }
        let (Some(descr), Some(fortran_order), Some(shape)) =
            (fields.descr, fields.fortran_order, fields.shape)
        else {
            return Err(broken("the header lacks descr, fortran_order or shape"));
        };
        let (kind, big_endian) = number_type(place, &descr)?;
        Ok(Header {
            kind,
            big_endian,
            fortran_order,
            shape,
            length,
        })
    }
}

fn number_type(place: &str, descr: &str) -> Result<(Kind, bool), DataError> {
    let (order, name) = match descr.as_bytes().first() {
        Some(b'<' | b'>' | b'|' | b'=') => descr.split_at(1),
        _ => ("<", descr),
    };
    if name.starts_with('O') {
        return Err(DataError::data(
            place,
            "an array of Python objects, a pickle, which can run code when it is read",
            "save it as numbers",
        ));
    }
    match Kind::from_descr(name) {
        Some(kind) => Ok((kind, order == ">")),
        None => Err(DataError::data(
            place,
            format!("numbers of type `{descr}`, which is not read"),
            "save it as f2, f4, f8, or whole numbers of 1 to 8 bytes",
        )),
    }
}

#[derive(Default)]
struct Fields {
    descr: Option<String>,
    fortran_order: Option<bool>,
    shape: Option<Vec<usize>>,
}

/// As much of Python's literal syntax as NumPy writes.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn dictionary(&mut self, fields: &mut Fields) -> Option<()> {
        self.expect('{')?;
        loop {
            if self.expect('}').is_some() {
                return self.rest.trim().is_empty().then_some(());
            }
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" if fields.descr.is_none() => fields.descr = Some(self.descr()?),
                "fortran_order" if fields.fortran_order.is_none() => {
                    fields.fortran_order = Some(self.boolean()?)
                }
                "shape" if fields.shape.is_none() => fields.shape = Some(self.tuple()?),
                _ => return None,
            }
            if self.expect(',').is_none() {
                self.expect('}')?;
                return self.rest.trim().is_empty().then_some(());
            }
        }
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(c)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (content, rest) = text.get(1..)?.split_once(quote)?;
        self.rest = rest;
        Some(content)
    }

    /// A type's name, or the list of a record type, whose text then stands for it in messages.
    fn descr(&mut self) -> Option<String> {
        if let Some(name) = self.string() {
            return Some(name.to_string());
        }
        let text = self.rest.trim_start();
        let end = text.starts_with('[').then(|| text.rfind(']'))??;
        let (list, rest) = text.split_at_checked(end + 1)?;
        self.rest = rest;
        Some(list.to_string())
    }

    fn boolean(&mut self) -> Option<bool> {
        let text = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                self.rest = rest;
                return Some(value);
            }
        }
        None
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.expect('(')?;
        let mut out = Vec::new();
        loop {
            if self.expect(')').is_some() {
                return Some(out);
            }
            let text = self.rest.trim_start();
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            let (digits, rest) = text.split_at_checked(end)?;
            out.push(digits.parse().ok()?);
            if out.len() > MAX_DIMENSIONS {
                return None;
            }
            // Python 2 wrote `3L`.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if self.expect(',').is_none() {
                self.expect(')')?;
                return Some(out);
            }
        }
    }
}
