//! Every format as the programs that define it write it: pynrrd, SimpleITK, nibabel.
//!
//! The golden files are made by `tools/volumes/formats.py`.

use std::path::{Path, PathBuf};

use densenet_data::{DecodedImage, decode_volume, npy, volume::decode_volume_bytes};
use serde_json::Value;
use tempfile::TempDir;

use super::values;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/formats")
        .join(name)
}

fn assert_read(name: &str, affine: &Value) {
    let volume = decode_volume(&golden(name)).unwrap_or_else(|error| panic!("{error}"));
    let expected = npy::read(&golden(&format!("{name}.npy"))).unwrap();
    let mut shape = volume.spatial().to_vec();
    shape.push(volume.channels());
    assert_eq!(shape, expected.shape, "{name}");
    assert_eq!(values(&volume), expected.data, "{name}");
    let rows = volume.space().unwrap().affine;
    for (row, expected) in rows.iter().zip(affine.as_array().unwrap()) {
        for (found, expected) in row.iter().zip(expected.as_array().unwrap()) {
            let expected = expected.as_f64().unwrap();
            // NIfTI-1 stores f32, and quaternions are turned into directions in f64.
            assert!((found - expected).abs() < 2e-5, "{name}: {rows:?}");
        }
    }
}

#[test]
fn every_format_has_the_numbers_and_the_place_it_was_written_with() {
    let text = std::fs::read_to_string(golden("affines.json")).unwrap();
    let affines: Value = serde_json::from_str(&text).unwrap();
    let files = affines.as_object().unwrap();
    assert_eq!(files.len(), 35);
    for (name, affine) in files {
        assert_read(name, affine);
    }
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let error = decode_volume_bytes(name, bytes).expect_err(name);
    assert!(matches!(error.exit_code(), 3 | 7), "{error}");
    error.to_string()
}

/// A file with one part of its header replaced.
fn with(name: &str, from: &str, to: &str) -> Vec<u8> {
    let bytes = std::fs::read(golden(name)).unwrap();
    let at = bytes
        .windows(from.len())
        .position(|part| part == from.as_bytes())
        .unwrap_or_else(|| panic!("{from} is not in {name}"));
    let mut out = bytes[..at].to_vec();
    out.extend(to.bytes());
    out.extend(&bytes[at + from.len()..]);
    out
}

#[test]
fn headers_of_text_are_held_against_what_follows() {
    let huge = refused(
        "x.nrrd",
        &with("nrrd_u1.nrrd", "sizes: 4 3 2", "sizes: 90000 90000 9"),
    );
    assert!(huge.contains("more than the 2^28 numbers"), "{huge}");
    for (name, from, to, what) in [
        (
            "nrrd_i1.nrrd",
            "sizes: 4 3 2",
            "sizes: 512 512 512",
            "the file has",
        ),
        (
            "nrrd_u1.nrrd",
            "sizes: 4 3 2",
            "sizes: 512 512 512",
            "packed bytes cannot hold that",
        ),
        (
            "nrrd_i1.nrrd",
            "sizes: 4 3 2",
            "sizes: 4 -3 2",
            "announces sizes",
        ),
        (
            "nrrd_i1.nrrd",
            "sizes: 4 3 2",
            "sizes: 4 3",
            "`dimension` is `3`",
        ),
        (
            "nrrd_i1.nrrd",
            "type: int8",
            "type: block",
            "numbers of the type `block`",
        ),
        (
            "nrrd_i1.nrrd",
            "encoding: raw",
            "encoding: bzip2",
            "`bzip2` encoding",
        ),
        (
            "nrrd_i1.nrrd",
            "encoding: raw",
            "encoding: raw\nline skip: 1",
            "line skip",
        ),
        (
            "nrrd_i1.nrrd",
            "encoding: raw",
            "encoding: raw\nbyte skip: -2",
            "`byte skip` is `-2`",
        ),
        (
            "nrrd_i1.nrrd",
            "space directions: (",
            "space directions: (x",
            "space directions",
        ),
        (
            "nrrd_i2.nrrd",
            "endian: big",
            "endian: odd",
            "`endian` is `odd`",
        ),
        (
            "nrrd_i1.nrrd",
            "encoding: raw",
            "encoding: raw\ndata file: ../x",
            "not beside it",
        ),
        (
            "nrrd_i1.nrrd",
            "encoding: raw",
            "encoding: raw\ndata file: LIST",
            "files of their own",
        ),
        (
            "meta_i1.mha",
            "DimSize = 4 3 2",
            "DimSize = 4 3 900",
            "the file has",
        ),
        (
            "meta_u1.mha",
            "DimSize = 4 3 2",
            "DimSize = 512 512 512",
            "packed bytes cannot hold that",
        ),
        ("meta_i1.mha", "NDims = 3", "NDims = 4", "`ndims` is `4`"),
        (
            "meta_i1.mha",
            "MET_CHAR",
            "MET_STRING",
            "numbers of the type `MET_STRING`",
        ),
        ("meta_i1.mha", "= Image", "= Tube", "of a Tube"),
        (
            "meta_i1.mha",
            "BinaryData = True",
            "BinaryData = False",
            "written as text",
        ),
        (
            "meta_i1.mha",
            "ElementDataFile = LOCAL",
            "ElementDataFile = x.raw",
            "not beside it",
        ),
        (
            "meta_i1.mha",
            "ElementDataFile = LOCAL",
            "ElementDataFile = LIST",
            "files of their own",
        ),
        (
            "meta_i1.mha",
            "ElementDataFile = LOCAL",
            "Comment = x",
            "has no `=`",
        ),
        (
            "meta_i1.mha",
            "ElementSpacing = 0.50000000000000011",
            "ElementSpacing = 0",
            "makes no sense",
        ),
    ] {
        let text = refused("x", &with(name, from, to));
        assert!(text.contains(what), "{to}: {text}");
    }
    let line = [b"NRRD0004\ncontent: ".to_vec(), vec![b'x'; 1 << 17]].concat();
    assert!(refused("x.nrrd", &line).contains("a line of its header"));
    let lines = b"NRRD0004\n"
        .iter()
        .copied()
        .chain(b"# x\n".repeat(1 << 19))
        .collect::<Vec<_>>();
    assert!(refused("x.nrrd", &lines).contains("a header of more than"));
}

#[test]
fn the_rarer_fields_are_followed() {
    let read = |bytes: &[u8]| decode_volume_bytes("x", bytes).unwrap();
    let plain = read(&std::fs::read(golden("nrrd_i1.nrrd")).unwrap());
    // The last bytes are the numbers, whatever lies before them.
    let mut skipped = with(
        "nrrd_i1.nrrd",
        "encoding: raw",
        "encoding: raw\nbyte skip: -1\nnote:=x",
    );
    let at = skipped.len() - 24;
    skipped.splice(at..at, [1, 2, 3]);
    assert_eq!(values(&read(&skipped)), values(&plain));
    let counted = with(
        "nrrd_i1.nrrd",
        "encoding: raw",
        "encoding: raw\nbyteskip: 3",
    );
    let mut counted = counted;
    let at = counted.len() - 24;
    counted.splice(at..at, [1, 2, 3]);
    assert_eq!(values(&read(&counted)), values(&plain));
    let metres = with(
        "nrrd_i1.nrrd",
        "encoding: raw",
        "encoding: raw\nspace units: \"m\" \"m\" \"m\"",
    );
    let spacing = |volume: &DecodedImage| volume.space().unwrap().spacing();
    let (near, far) = (spacing(&plain), spacing(&read(&metres)));
    assert!(
        near.iter()
            .zip(far)
            .all(|(a, b)| (a * 1e3 - b).abs() < 1e-9)
    );
    let plain = read(&std::fs::read(golden("meta_i1.mha")).unwrap());
    let mut behind = with("meta_i1.mha", "NDims = 3", "NDims = 3\nHeaderSize = -1");
    let at = behind.len() - 24;
    behind.splice(at..at, [9; 40]);
    assert_eq!(values(&read(&behind)), values(&plain));
}

#[test]
fn a_header_without_its_file_says_which_is_missing() {
    let dir = TempDir::new().unwrap();
    for name in ["meta_u2.mhd", "nrrd_apart.nhdr"] {
        let path = dir.path().join(name);
        std::fs::copy(golden(name), &path).unwrap();
        let error = decode_volume(&path).unwrap_err();
        assert_eq!(error.exit_code(), 5, "{error}");
        assert!(error.to_string().contains("no such file"), "{error}");
    }
}
