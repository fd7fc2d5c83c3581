//! Truncated, bit-flipped and lying files: an error or a volume, never a panic, never much memory.

use std::{io::Write, path::Path};

use densenet_data::{decode_volume, volume::decode_volume_bytes};

use super::{dicom::file, golden};

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let nifti = |name: &str| std::fs::read(golden(name)).unwrap();
    vec![
        ("one.nii", nifti("kind_i2.nii")),
        ("two.nii", nifti("kind_u2.nii")),
        ("one.nii.gz", packed(&nifti("kind_i2.nii"))),
        ("slice.dcm", file(0, [0.0; 3], 1.0)),
        ("raw.nrrd", nifti("../formats/nrrd_i2.nrrd")),
        ("gzip.nrrd", nifti("../formats/nrrd_u1.nrrd")),
        ("raw.mha", nifti("../formats/meta_i2.mha")),
        ("zlib.mha", nifti("../formats/meta_u1.mha")),
    ]
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn seeds_of_the_fuzz_target_are_volumes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/data_volume");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert!(files.len() >= 50, "{files:?}");
    for path in files {
        decode_volume(&path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn cut_off_files_are_refused() {
    for (name, bytes) in samples() {
        decode_volume_bytes(name, &bytes).unwrap();
        for cut in 0..bytes.len() {
            let error = decode_volume_bytes(name, &bytes[..cut]).expect_err(name);
            assert_eq!(error.exit_code(), 3, "{name} cut at {cut}: {error}");
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    for (name, bytes) in samples() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Err(error) = decode_volume_bytes(name, &damaged) {
                assert!(
                    matches!(error.exit_code(), 3 | 7),
                    "{name} bit {bit}: {error}"
                );
                assert!(!error.to_string().contains('\n'));
            }
        }
    }
}

#[test]
fn what_a_header_announces_must_be_there() {
    let plain = std::fs::read(golden("kind_u1.nii")).unwrap();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = plain.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let message = |bytes: &[u8]| {
        let error = decode_volume_bytes("x.nii", bytes).unwrap_err();
        (error.to_string(), error.exit_code())
    };
    let dims = |sizes: [i16; 8]| with(40, &sizes.map(i16::to_le_bytes).concat());
    let huge = message(&dims([3, 32767, 32767, 32767, 1, 1, 1, 1]));
    assert_eq!(huge.1, 7, "{}", huge.0);
    assert_eq!(
        message(&dims([3, 512, 512, 512, 1, 1, 1, 1])).0,
        "x.nii: the header announces [512, 512, 512] voxels of 1 bytes, which takes 134218080 bytes; the file has 376 — \
         write the file anew: it is cut off or damaged"
    );
    // The same in a small packed file: deflate cannot hold so much.
    let bomb = message(&packed(&dims([3, 512, 512, 512, 1, 1, 1, 1])));
    assert!(
        bomb.0.contains("packed bytes cannot hold that"),
        "{}",
        bomb.0
    );
    for (bytes, what) in [
        (dims([0, 2, 3, 4, 1, 1, 1, 1]), "0 dimensions"),
        (dims([8, 2, 3, 4, 1, 1, 1, 1]), "8 dimensions"),
        (dims([3, 2, -3, 4, 1, 1, 1, 1]), "[2, -3, 4] voxels"),
        (dims([4, 2, 3, 4, 100, 1, 1, 1]), "more than 64 volumes"),
        (with(70, &32i16.to_le_bytes()), "complex numbers"),
        (with(70, &77i16.to_le_bytes()), "number type 77"),
        (with(108, &f32::NAN.to_le_bytes()), "begin at byte NaN"),
        (with(108, &4f32.to_le_bytes()), "within the header"),
        (with(344, b"ni1\0"), "pair of files"),
        (with(344, b"xxxx"), "an Analyze file"),
        (b"NRRD0004\n".to_vec(), "announces sizes"),
        (vec![7; 500], "not a volume"),
        (Vec::new(), "empty (0 bytes)"),
    ] {
        let (text, _) = message(&bytes);
        assert!(text.contains(what), "{what}: {text}");
    }
}

#[test]
fn a_packed_files_checksum_counts() {
    let mut bytes = packed(&std::fs::read(golden("kind_u1.nii")).unwrap());
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    let error = decode_volume_bytes("x.nii.gz", &bytes).unwrap_err();
    assert!(error.what().contains("broken gzip"), "{error}");
}
