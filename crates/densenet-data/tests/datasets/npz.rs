//! NumPy archives.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use densenet_data::{Format, Preprocessing, Samples, Split, npy};
use tempfile::TempDir;

use super::{open, refusal};

fn raw_npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(body);
    out
}

fn npz(path: &Path, entries: &[(&str, Vec<u8>)]) -> PathBuf {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path.to_path_buf()
}

#[test]
fn npz_of_pictures_and_volumes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("set.npz");
    let bytes = |n: usize| (0..n).map(|i| i as u8).collect::<Vec<u8>>();
    let labels = |list: &[u8]| raw_npy("|u1", &format!("({}, 1)", list.len()), list);
    npz(
        &path,
        &[
            ("train_images.npy", raw_npy("|u1", "(4, 2, 3)", &bytes(24))),
            ("train_labels.npy", labels(&[0, 1, 0, 1])),
            ("val_images.npy", raw_npy("|u1", "(1, 2, 3)", &bytes(6))),
            (
                "val_labels.npy",
                raw_npy("<i8", "(1,)", &1i64.to_le_bytes()),
            ),
            ("test_images.npy", raw_npy("|u1", "(2, 2, 3)", &bytes(12))),
            ("test_labels.npy", labels(&[1, 0])),
            ("unrelated.npy", raw_npy("|O", "(1,)", &[])),
        ],
    );
    let set = open(&path).unwrap();
    assert_eq!(
        (set.format(), set.len(), set.uniform_shape()),
        (Format::Npz, 7, Some(([1, 2, 3], 1)))
    );
    assert_eq!(
        [Split::Train, Split::Val, Split::Test].map(|s| set.indices(s).len()),
        [4, 1, 2]
    );
    assert_eq!(
        set.decode(1).unwrap().samples(),
        &Samples::U8((6..12).collect())
    );

    npz(
        &path,
        &[
            (
                "x_train.npy",
                raw_npy(
                    "<u2",
                    "(2, 1, 2, 3)",
                    &[
                        1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                    ],
                ),
            ),
            ("y_train.npy", raw_npy("|u1", "(2,)", &[0, 1])),
        ],
    );
    let set = open(&path).unwrap();
    assert_eq!(set.uniform_shape(), Some(([1, 1, 2], 3)));
    assert_eq!(
        set.decode(0).unwrap().samples(),
        &Samples::U16(vec![257, 514, 771, 1028, 1285, 1542])
    );

    npz(
        &path,
        &[
            (
                "train_images.npy",
                npy::to_bytes(&[2, 4, 2, 2], &[0.5; 32]).unwrap(),
            ),
            ("train_labels.npy", labels(&[0, 1])),
        ],
    );
    let set = open(&path).unwrap();
    assert_eq!(set.uniform_shape(), Some(([4, 2, 2], 1)));
    let volume = set.decode(0).unwrap();
    let prepared = Preprocessing::of_volumes(1).apply(&volume).unwrap();
    assert_eq!(
        (prepared.spatial, prepared.data),
        ([4, 2, 2], vec![0.5; 16])
    );
    // What prepares images says so instead of guessing.
    let error = Preprocessing::plain(1).apply(&volume).unwrap_err();
    assert!(error.to_string().contains("a volume"), "{error}");
}

#[test]
fn npz_that_cannot_be_used() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("set.npz");
    let images = || raw_npy("|u1", "(2, 2, 2)", &[0; 8]);
    let labels = || raw_npy("|u1", "(2,)", &[0, 1]);
    let case = |train_images: Vec<u8>, train_labels: Vec<u8>| {
        npz(
            &path,
            &[
                ("train_images.npy", train_images),
                ("train_labels.npy", train_labels),
            ],
        );
        let (message, code) = refusal(&dir, &path);
        assert_eq!(code, 3, "{message}");
        message
    };
    assert!(
        case(raw_npy("|O", "(2,)", b"pickle"), labels())
            .contains("train_images.npy: an array of Python objects")
    );
    assert!(
        case(raw_npy("<i4", "(2, 1, 1)", &[0; 8]), labels()).contains("whose white is unknown")
    );
    assert!(
        case(raw_npy("|u1", "(2, 2, 2, 2, 2)", &[0; 32]), labels())
            .contains("images of shape [2, 2, 2, 2, 2]")
    );
    assert!(case(raw_npy("|u1", "(0, 2, 2)", &[]), labels()).contains("no images"));
    assert!(
        case(
            raw_npy("|u1", "(99999999, 99999, 99999)", &[0; 8]),
            labels()
        )
        .contains("the header announces")
    );
    assert!(
        case(images(), raw_npy("|u1", "(3,)", &[0; 3]))
            .contains("labels of shape [3] for 2 images")
    );
    assert!(case(images(), raw_npy("|u1", "(2, 14)", &[0; 28])).contains("14 labels an image"));
    assert!(case(images(), raw_npy("<f4", "(2,)", &[0; 8])).contains("not whole numbers"));
    assert!(
        case(images(), raw_npy("|i1", "(2,)", &[0, 255])).contains("train_labels.npy[1]: label -1")
    );
    let nan = npy::to_bytes(&[2, 1, 1], &[f32::NAN, 0.0]).unwrap();
    assert!(case(nan, labels()).contains("infinite or not numbers"));

    npz(&path, &[("train_images.npy", images())]);
    assert!(
        refusal(&dir, &path)
            .0
            .contains("`train_images.npy` without `train_labels.npy`")
    );
    npz(&path, &[("arr_0.npy", images())]);
    assert!(
        refusal(&dir, &path)
            .0
            .contains("no train_images or x_train in it; it has arr_0.npy")
    );
    fs::write(&path, b"PK not a zip").unwrap();
    assert!(refusal(&dir, &path).0.contains("broken NumPy archive"));

    // A damaged byte of pixels is caught by the archive's checksum.
    npz(
        &path,
        &[
            ("train_images.npy", raw_npy("|u1", "(2, 20, 20)", &[9; 800])),
            ("train_labels.npy", labels()),
        ],
    );
    let sound = fs::read(&path).unwrap();
    for at in (0..sound.len()).step_by(3) {
        for bit in [0, 5] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << bit;
            fs::write(&path, &damaged).unwrap();
            // Many bytes do not matter (time stamps); what is accepted must be what was stored.
            if let Ok(set) = open(&path)
                && set.uniform_shape() == Some(([1, 20, 20], 1))
            {
                assert_eq!(
                    set.decode(0).unwrap().samples(),
                    &Samples::U8(vec![9; 400]),
                    "byte {at} bit {bit}"
                );
            }
        }
        fs::write(&path, &sound[..at]).unwrap();
        assert!(open(&path).is_err(), "cut at {at}");
    }
}
