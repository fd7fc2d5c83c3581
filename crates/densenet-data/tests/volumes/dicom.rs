//! DICOM series: slices written here, in every order and with every fault.

use std::fs;

use densenet_data::decode_volume;
use tempfile::TempDir;

use super::values;

fn element(out: &mut Vec<u8>, tag: (u16, u16), vr: &[u8; 2], value: &[u8]) {
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
    out.extend(vr);
    let padding = value.len() % 2;
    let length = value.len() + padding;
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN") {
        out.extend([0, 0]);
        out.extend((length as u32).to_le_bytes());
    } else {
        out.extend((length as u16).to_le_bytes());
    }
    out.extend(value);
    out.extend(std::iter::repeat_n(b' ', padding));
}

/// A slice of 2×3 pixels holding `first`, `first + 1`, …, in Hounsfield units of `slope`.
pub(super) fn file(first: u16, position: [f64; 3], slope: f64) -> Vec<u8> {
    series_file(first, position, slope, "1.2.3", "MONOCHROME2")
}

fn series_file(first: u16, position: [f64; 3], slope: f64, series: &str, kind: &str) -> Vec<u8> {
    let mut out = vec![0; 128];
    out.extend(b"DICM");
    element(&mut out, (2, 0x10), b"UI", b"1.2.840.10008.1.2.1");
    element(&mut out, (0x10, 0x20), b"LO", b"patient 7");
    element(&mut out, (0x20, 0xE), b"UI", series.as_bytes());
    let [x, y, z] = position;
    element(
        &mut out,
        (0x20, 0x32),
        b"DS",
        format!("{x}\\{y}\\{z}").as_bytes(),
    );
    element(&mut out, (0x20, 0x37), b"DS", b"1\\0\\0\\0\\1\\0");
    element(&mut out, (0x28, 0x2), b"US", &1u16.to_le_bytes());
    element(&mut out, (0x28, 0x4), b"CS", kind.as_bytes());
    element(&mut out, (0x28, 0x10), b"US", &2u16.to_le_bytes());
    element(&mut out, (0x28, 0x11), b"US", &3u16.to_le_bytes());
    element(&mut out, (0x28, 0x30), b"DS", b"0.5\\0.25");
    for (tag, bits) in [(0x100, 16u16), (0x101, 12), (0x102, 11), (0x103, 0)] {
        element(&mut out, (0x28, tag), b"US", &bits.to_le_bytes());
    }
    element(&mut out, (0x28, 0x1052), b"DS", b"-100");
    element(
        &mut out,
        (0x28, 0x1053),
        b"DS",
        slope.to_string().as_bytes(),
    );
    let pixels: Vec<u8> = (first..first + 6).flat_map(u16::to_le_bytes).collect();
    element(&mut out, (0x7FE0, 0x10), b"OW", &pixels);
    out
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn refusal(files: &[(&str, Vec<u8>)]) -> String {
    let dir = folder(files);
    let error = decode_volume(dir.path()).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    error
        .to_string()
        .replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn slices_are_ordered_by_their_positions() {
    let dir = folder(&[
        ("a.dcm", file(20, [10.0, 20.0, 34.0], 1.0)),
        ("b.dcm", file(0, [10.0, 20.0, 30.0], 2.0)),
        ("c", file(10, [10.0, 20.0, 32.0], 1.0)),
        ("notes.txt", b"not a slice".to_vec()),
        ("DICOMDIR", b"not a slice".to_vec()),
    ]);
    let volume = decode_volume(dir.path()).unwrap();
    assert_eq!(volume.spatial(), [3, 2, 3]);
    let expected: Vec<f32> = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        .into_iter()
        .chain((10..16).map(|v| v as f32))
        .chain((20..26).map(|v| v as f32))
        .map(|v| v - 100.0)
        .collect();
    assert_eq!(values(&volume), expected);
    let space = volume.space().unwrap();
    assert_eq!(space.spacing(), [2.0, 0.5, 0.25]);
    // To the left and to the back in DICOM, to the right and to the front here.
    assert_eq!(space.place([0.0; 3]), [-10.0, -20.0, 30.0]);
    assert_eq!(space.place([1.0, 1.0, 1.0]), [-10.25, -20.5, 32.0]);
}

#[test]
fn a_preamble_may_look_like_another_format() {
    let mut bytes = file(0, [0.0; 3], 1.0);
    bytes[..4].copy_from_slice(&348i32.to_le_bytes());
    let volume = densenet_data::volume::decode_volume_bytes("x.dcm", &bytes).unwrap();
    assert_eq!(volume.spatial(), [1, 2, 3]);
}

#[test]
fn bright_is_more_in_monochrome1_too() {
    let dir = folder(&[("a.dcm", series_file(0, [0.0; 3], 1.0, "1.2", "MONOCHROME1"))]);
    let volume = decode_volume(&dir.path().join("a.dcm")).unwrap();
    assert_eq!(values(&volume)[..2], [3995.0, 3994.0]);
}

#[test]
fn faulty_series_are_refused() {
    let at = |z: f64| file(0, [0.0, 0.0, z], 1.0);
    let gap = refusal(&[
        ("a.dcm", at(0.0)),
        ("b.dcm", at(1.0)),
        ("c.dcm", at(3.0)),
        ("d.dcm", at(4.0)),
    ]);
    assert!(
        gap.contains(
            "2.000 mm between `DIR/b.dcm` and `DIR/c.dcm`, elsewhere 1.000 mm: slices are missing"
        ),
        "{gap}"
    );
    let twice = refusal(&[("a.dcm", at(0.0)), ("b.dcm", at(1.0)), ("c.dcm", at(1.0))]);
    assert!(
        twice.contains("`DIR/b.dcm` and `DIR/c.dcm` lie in the same place"),
        "{twice}"
    );
    let other = series_file(0, [0.0, 0.0, 1.0], 1.0, "9.9", "MONOCHROME2");
    let mixed = refusal(&[("a.dcm", at(0.0)), ("b.dcm", other)]);
    assert!(mixed.contains("two series in one folder"), "{mixed}");
    let tilted = refusal(&[
        ("a.dcm", file(0, [0.0, 0.0, 0.0], 1.0)),
        ("b.dcm", file(0, [0.0, 0.5, 1.0], 1.0)),
        ("c.dcm", file(0, [0.0, 1.0, 2.0], 1.0)),
    ]);
    assert!(tilted.contains("tilted gantry"), "{tilted}");
    assert!(refusal(&[("x.txt", vec![1])]).contains("no DICOM files"));
    let mut jpeg2000 = at(0.0);
    let syntax = jpeg2000
        .windows(19)
        .position(|w| w == b"1.2.840.10008.1.2.1")
        .unwrap();
    jpeg2000[syntax..syntax + 19].copy_from_slice(b"1.2.840.10008.1.2.5");
    assert!(
        decode_volume(folder(&[("a.dcm", jpeg2000)]).path()).is_ok(),
        "native pixels need no decoder"
    );
}
