//! The elements of a DICOM data set, found by walking its bytes.
//!
//! Only where an element lies is noted, and only of those that are asked for. Every length is compared with the bytes that
//! are there before it is believed, and sequences may be nested at most 32 deep, so nothing a file says makes the walk
//! allocate or go astray.
//!
//! # Source
//! DICOM PS3.5, sections 7 (data sets) and A (transfer syntaxes); PS3.10, section 7 (file meta information).

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use crate::error::DataError;

/// Group and element number.
pub(super) type Tag = (u16, u16);

const MAX_DEPTH: usize = 32;
/// The most bytes a deflated data set may unpack to.
const MAX_INFLATED: u64 = 1 << 30;
const UNDEFINED: u32 = u32::MAX;
const PIXEL_DATA: Tag = (0x7FE0, 0x0010);
const PER_FRAME: Tag = (0x5200, 0x9230);
const SHARED: Tag = (0x5200, 0x9229);

/// Where the pixels are.
pub(super) enum Pixels {
    /// One run of bytes, uncompressed.
    Native(Range<usize>),
    /// Compressed pieces; the first may say where frames begin.
    Pieces(Vec<Range<usize>>),
}

/// What was found in a file.
pub(super) struct Elements {
    bytes: Vec<u8>,
    /// Whose compression or byte order: the transfer syntax's identifier.
    pub syntax: String,
    pub big_endian: bool,
    main: BTreeMap<Tag, Range<usize>>,
    /// Elements common to all frames of a file with many.
    shared: BTreeMap<Tag, Range<usize>>,
    /// Elements of each frame.
    frames: Vec<BTreeMap<Tag, Range<usize>>>,
    pub pixels: Option<Pixels>,
    /// Whether the pixels are written as 16-bit words: of two 8-bit samples, big endian has the second first.
    pub words: bool,
}

/// Whether the bytes begin like a DICOM file.
pub(in crate::volume) fn recognises(head: &[u8]) -> bool {
    head.get(128..132) == Some(b"DICM")
}

impl Elements {
    /// Walk a whole file, or, with `until`, the part before that element.
    pub(super) fn parse(
        place: &str,
        mut bytes: Vec<u8>,
        until: Option<Tag>,
    ) -> Result<Elements, DataError> {
        if !recognises(&bytes) {
            return Err(DataError::data(
                place,
                "not a DICOM file: the mark DICM is missing",
                "write it anew with its preamble, or remove it",
            ));
        }
        let mut found = Elements {
            bytes: Vec::new(),
            syntax: String::new(),
            big_endian: false,
            main: BTreeMap::new(),
            shared: BTreeMap::new(),
            frames: Vec::new(),
            pixels: None,
            words: false,
        };
        let mut meta = Walk::new(place, &bytes, false, false, Some((0x0003, 0)));
        let begin = meta.elements(132, bytes.len(), 0, Room::Main, &mut found)?;
        let syntax = found.main.get(&(0x0002, 0x0010)).cloned();
        let Some(syntax) = syntax.and_then(|range| bytes.get(range)) else {
            return Err(DataError::data(
                place,
                "the file does not say how it is encoded (no transfer syntax)",
                "write it anew with its file meta information",
            ));
        };
        found.syntax = text(syntax);
        let (implicit, big_endian) = match found.syntax.as_str() {
            "1.2.840.10008.1.2" => (true, false),
            "1.2.840.10008.1.2.2" => (false, true),
            "1.2.840.10008.1.2.1.99" => {
                bytes = inflated(place, bytes.get(begin..).unwrap_or(&[]))?;
                (false, false)
            }
            _ => (false, false),
        };
        let begin = if found.syntax == "1.2.840.10008.1.2.1.99" {
            0
        } else {
            begin
        };
        found.big_endian = big_endian;
        let mut walk = Walk::new(place, &bytes, implicit, big_endian, until);
        walk.elements(begin, bytes.len(), 0, Room::Main, &mut found)?;
        found.bytes = bytes;
        Ok(found)
    }

    /// The bytes of a range that the walk noted.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or(&[])
    }

    /// An element's value, of a frame where it has its own, else of the file.
    fn value(&self, tag: Tag, frame: usize) -> Option<&[u8]> {
        let own = self.frames.get(frame).and_then(|f| f.get(&tag));
        own.or_else(|| self.shared.get(&tag))
            .or_else(|| self.main.get(&tag))
            .map(|range| self.bytes(range))
    }

    /// A 16-bit number.
    pub(super) fn number(&self, tag: Tag) -> Option<u16> {
        match *self.value(tag, usize::MAX)? {
            [a, b, ..] if self.big_endian => Some(u16::from_be_bytes([a, b])),
            [a, b, ..] => Some(u16::from_le_bytes([a, b])),
            _ => None,
        }
    }

    /// Text without its padding; nothing where it is absent or empty.
    pub(super) fn text(&self, tag: Tag) -> Option<String> {
        let text = text(self.value(tag, usize::MAX)?);
        (!text.is_empty()).then_some(text)
    }

    /// `N` decimal numbers of a frame, if that is what the element has.
    pub(super) fn decimals<const N: usize>(&self, tag: Tag, frame: usize) -> Option<[f64; N]> {
        let text = text(self.value(tag, frame)?);
        let numbers: Option<Vec<f64>> = text
            .split('\\')
            .map(|part| part.trim().parse::<f64>().ok().filter(|v| v.is_finite()))
            .collect();
        numbers?.try_into().ok()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_matches(|c: char| c == '\0' || c.is_whitespace())
        .to_string()
}

fn inflated(place: &str, packed: &[u8]) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    flate2::read::DeflateDecoder::new(packed)
        .take(MAX_INFLATED + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| {
            broken(
                place,
                &format!("its packed data set cannot be unpacked: {e}"),
            )
        })?;
    if bytes.len() as u64 > MAX_INFLATED {
        return Err(DataError::limit(
            place,
            format!("unpacks to more than {MAX_INFLATED} bytes"),
            "leave it out",
        ));
    }
    Ok(bytes)
}

pub(super) fn broken(place: &str, why: &str) -> DataError {
    DataError::data(
        place,
        format!("broken DICOM file ({why})"),
        "replace it or remove it",
    )
}

/// Which elements are noted, and where.
#[derive(Clone, Copy, PartialEq)]
enum Room {
    Main,
    Shared,
    Frames,
    Frame(usize),
    Nowhere,
}

struct Walk<'a> {
    place: &'a str,
    bytes: &'a [u8],
    implicit: bool,
    big_endian: bool,
    until: Option<Tag>,
    stopped: bool,
}

struct Element {
    tag: Tag,
    sequence: bool,
    length: u32,
    begin: usize,
}

impl<'a> Walk<'a> {
    fn new(
        place: &'a str,
        bytes: &'a [u8],
        implicit: bool,
        big_endian: bool,
        until: Option<Tag>,
    ) -> Walk<'a> {
        Walk {
            place,
            bytes,
            implicit,
            big_endian,
            until,
            stopped: false,
        }
    }

    fn cut_off(&self, tag: Tag) -> DataError {
        broken(
            self.place,
            &format!("element ({:04X},{:04X}) reaches past the end", tag.0, tag.1),
        )
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// The head of the element at `at`.
    fn element(&self, at: usize) -> Option<Element> {
        let tag = (self.u16(at)?, self.u16(at + 2)?);
        let plain = |sequence| {
            Some(Element {
                tag,
                sequence,
                length: self.u32(at + 4)?,
                begin: at + 8,
            })
        };
        if tag.0 == 0xFFFE || self.implicit {
            return plain(false);
        }
        let vr = self.bytes.get(at + 4..at + 6)?;
        let long = [
            b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT",
            b"UV",
        ];
        if long.iter().any(|known| vr == known.as_slice()) {
            Some(Element {
                tag,
                sequence: vr == b"SQ",
                length: self.u32(at + 8)?,
                begin: at + 12,
            })
        } else {
            Some(Element {
                tag,
                sequence: false,
                length: u32::from(self.u16(at + 6)?),
                begin: at + 8,
            })
        }
    }

    /// Elements from `at` to `end`, or to a delimiter; where they end.
    fn elements(
        &mut self,
        mut at: usize,
        end: usize,
        depth: usize,
        room: Room,
        found: &mut Elements,
    ) -> Result<usize, DataError> {
        if depth > MAX_DEPTH {
            return Err(broken(self.place, "sequences nested too deep"));
        }
        while at < end {
            // A few bytes of padding at the end of a file are no element.
            let Some(element) = self.element(at) else {
                if depth == 0
                    && self
                        .bytes
                        .get(at..)
                        .is_some_and(|b| b.iter().all(|&b| b == 0))
                {
                    return Ok(end);
                }
                return Err(broken(self.place, "it ends within an element"));
            };
            let Element {
                tag, length, begin, ..
            } = element;
            if self.until.is_some_and(|until| tag >= until) && depth == 0 {
                self.stopped = true;
                return Ok(at);
            }
            if tag == (0xFFFE, 0xE00D) {
                return Ok(begin);
            }
            if tag.0 == 0xFFFE {
                return Err(broken(self.place, "a delimiter that closes nothing"));
            }
            if tag == PIXEL_DATA && depth == 0 {
                found.words = self.bytes.get(at + 4..at + 6) == Some(b"OW");
                at = self.pixels(begin, length, end, found)?;
                continue;
            }
            let inner = match tag {
                SHARED if depth == 0 => Room::Shared,
                PER_FRAME if depth == 0 => Room::Frames,
                _ if matches!(room, Room::Shared | Room::Frame(_)) => room,
                _ => Room::Nowhere,
            };
            let close = if length == UNDEFINED {
                end
            } else {
                begin
                    .checked_add(length as usize)
                    .filter(|&close| close <= end)
                    .ok_or_else(|| self.cut_off(tag))?
            };
            let holds_items = element.sequence
                || (length != 0
                    && self.u16(begin) == Some(0xFFFE)
                    && (self.implicit || length == UNDEFINED));
            at = if holds_items && (length == UNDEFINED || inner != Room::Nowhere) {
                // A sequence of unknown type is written without types.
                let implicit = self.implicit;
                self.implicit |= !element.sequence;
                let after = self.items(begin, close, length == UNDEFINED, depth, inner, found);
                self.implicit = implicit;
                after?
            } else if length == UNDEFINED {
                return Err(broken(
                    self.place,
                    "an element of undefined length that is no sequence",
                ));
            } else {
                self.note(tag, begin..close, room, found);
                close
            };
        }
        Ok(at)
    }

    fn note(&self, tag: Tag, range: Range<usize>, room: Room, found: &mut Elements) {
        match room {
            Room::Main => found.main.insert(tag, range),
            Room::Shared => found.shared.insert(tag, range),
            Room::Frame(i) => match found.frames.get_mut(i) {
                Some(frame) => frame.insert(tag, range),
                None => None,
            },
            Room::Frames | Room::Nowhere => None,
        };
    }

    /// The items of a sequence; where it ends.
    fn items(
        &mut self,
        mut at: usize,
        end: usize,
        undefined: bool,
        depth: usize,
        room: Room,
        found: &mut Elements,
    ) -> Result<usize, DataError> {
        while at < end {
            let item = self
                .element(at)
                .ok_or_else(|| broken(self.place, "it ends within a sequence"))?;
            match item.tag {
                (0xFFFE, 0xE000) => {}
                (0xFFFE, 0xE0DD) if undefined => return Ok(item.begin),
                _ => {
                    return Err(broken(
                        self.place,
                        "a sequence holds something that is no item",
                    ));
                }
            }
            let inner = if room == Room::Frames {
                found.frames.push(BTreeMap::new());
                Room::Frame(found.frames.len() - 1)
            } else {
                room
            };
            at = if item.length == UNDEFINED {
                self.elements(item.begin, end, depth + 1, inner, found)?
            } else {
                let close = item
                    .begin
                    .checked_add(item.length as usize)
                    .filter(|&close| close <= end)
                    .ok_or_else(|| self.cut_off(item.tag))?;
                if inner != Room::Nowhere {
                    self.elements(item.begin, close, depth + 1, inner, found)?;
                }
                close
            };
        }
        if undefined {
            return Err(broken(self.place, "a sequence without its end"));
        }
        Ok(at)
    }

    /// Pixel data: noted, and where it ends.
    fn pixels(
        &mut self,
        begin: usize,
        length: u32,
        end: usize,
        found: &mut Elements,
    ) -> Result<usize, DataError> {
        let ends = |walk: &Self, begin: usize, length: u32| {
            begin
                .checked_add(length as usize)
                .filter(|&close| close <= end)
                .ok_or_else(|| walk.cut_off(PIXEL_DATA))
        };
        if length != UNDEFINED {
            let close = ends(self, begin, length)?;
            found.pixels = Some(Pixels::Native(begin..close));
            return Ok(close);
        }
        let mut pieces = Vec::new();
        let mut at = begin;
        loop {
            let piece = self.element(at).ok_or_else(|| self.cut_off(PIXEL_DATA))?;
            match piece.tag {
                (0xFFFE, 0xE000) => {
                    at = ends(self, piece.begin, piece.length)?;
                    pieces.push(piece.begin..at);
                }
                (0xFFFE, 0xE0DD) => {
                    found.pixels = Some(Pixels::Pieces(pieces));
                    return Ok(piece.begin);
                }
                _ => {
                    return Err(broken(
                        self.place,
                        "compressed pixels hold something that is no piece",
                    ));
                }
            }
        }
    }
}
