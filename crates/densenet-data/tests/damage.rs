//! Truncated and bit-flipped picture files: an error or a picture, never a panic, never much memory.

use std::path::Path;

use densenet_data::{decode_bytes, decode_file};

/// All golden picture files.
fn files() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/files");
    let mut out: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e != "npy"))
        .map(|p| {
            (
                p.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(p).unwrap(),
            )
        })
        .collect();
    out.sort();
    out
}

#[test]
fn cut_off_files_are_refused() {
    for (name, bytes) in files() {
        for cut in 0..bytes.len() {
            let result = decode_bytes(&name, &bytes[..cut]);
            // Behind the pixels come bytes a file can do without (a PNG's end chunk, EXIF, a TIFF's own tables), or
            // a decoder's padding: only there may a cut file still be read, and then it is whole.
            if let Ok(image) = result {
                let whole = decode_bytes(&name, &bytes).unwrap();
                let last = match name.rsplit('.').next() {
                    Some("png") => 16,
                    Some("bmp" | "tiff") => 4,
                    Some("webp") => 80,
                    _ => 0,
                };
                assert!(
                    bytes.len() - cut <= last,
                    "{name} cut at {cut} of {}",
                    bytes.len()
                );
                assert_eq!(
                    image.samples().len(),
                    whole.samples().len(),
                    "{name} cut at {cut}"
                );
            }
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    for (name, bytes) in files() {
        // Every bit of the headers, every seventh of the rest.
        for at in (0..bytes.len() * 8).filter(|&b| b < 64 * 8 || b % 7 == 0) {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            match decode_bytes(&name, &damaged) {
                Ok(image) => assert!(image.samples().size_bytes() <= 512 << 20),
                Err(error) => {
                    assert!(matches!(error.exit_code(), 3 | 7), "{error}");
                    assert!(
                        !error.what().contains("gave up"),
                        "{name} bit {at}: a decoder panicked"
                    );
                    assert!(
                        error.to_string().starts_with(&name) && !error.to_string().contains('\n'),
                        "{error}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_header_that_announces_too_much_is_a_limit() {
    // A PNG of 60000 × 60000 pixels with no data to speak of; its header chunk's checksum made right.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png.extend(crc.sum().to_be_bytes());
    png.extend(b"\0\0\0\x01IDAT\0");
    let mut crc = flate2::Crc::new();
    crc.update(b"IDAT\0");
    png.extend(crc.sum().to_be_bytes());
    let error = decode_bytes("bomb.png", &png).unwrap_err();
    assert_eq!(error.exit_code(), 7, "{error}");
    assert!(error.what().contains("60000 × 60000 pixels"), "{error}");
    assert_eq!(error.cure(), "scale it down before training");
}

#[test]
fn what_is_no_picture_file_is_named() {
    let dir = tempfile::TempDir::new().unwrap();
    let error = decode_file(dir.path()).unwrap_err();
    assert_eq!((error.what(), error.exit_code()), ("not a regular file", 3));
    assert_eq!(
        decode_file(&dir.path().join("no.png"))
            .unwrap_err()
            .exit_code(),
        5
    );
    assert_eq!(
        decode_bytes("x", b"").unwrap_err().to_string(),
        "x: the file is empty (0 bytes) — replace it or remove it"
    );
}

/// Files that fuzzing found: each once took a decoder down, or far too much memory.
#[test]
fn what_fuzzing_found_stays_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let error = decode_file(&path).unwrap_err();
        assert!(!error.what().contains("gave up"), "{error}");
        seen += 1;
    }
    assert!(seen > 0);
}
