//! CIFAR, IDX and the embedded digits.

use std::fs;
use std::io::Write;
use std::path::Path;

use densenet_data::{Dataset, Format, OpenOptions, Samples, Split};
use tempfile::TempDir;

use super::{open, refusal, write};

fn cifar_file(path: &Path, label_bytes: usize, labels: &[u8]) {
    let mut bytes = Vec::new();
    for (i, &label) in labels.iter().enumerate() {
        bytes.extend(vec![3; label_bytes - 1]);
        bytes.push(label);
        for plane in 0..3u8 {
            bytes
                .extend((0..1024).map(|p| (p as u8).wrapping_mul(plane + 1).wrapping_add(i as u8)));
        }
    }
    write(path, &bytes);
}

#[test]
fn cifar_in_both_sizes() {
    let dir = TempDir::new().unwrap();
    let ten = dir.path().join("ten");
    let all: Vec<u8> = (0..10).chain(0..10).collect();
    cifar_file(&ten.join("data_batch_1.bin"), 1, &all);
    cifar_file(&ten.join("data_batch_2.bin"), 1, &all);
    cifar_file(&ten.join("test_batch.bin"), 1, &[7, 0]);
    let set = open(&ten).unwrap();
    assert_eq!((set.format(), set.len()), (Format::Cifar10, 42));
    assert_eq!(set.uniform_shape(), Some(([1, 32, 32], 3)));
    assert_eq!(set.indices(Split::Test).len(), 2);
    assert_eq!(set.label(40), 7);
    assert!(set.describe(40).ends_with("test_batch.bin[0]"));
    let Samples::U8(pixels) = set.decode(41).unwrap().samples().clone() else {
        panic!("bytes")
    };
    // Planes have become channels: pixel 5 is (5, 10, 15) plus the record's number.
    assert_eq!(pixels[15..18], [6, 11, 16]);
    let names: Vec<String> = (0..10).map(|i| format!("name{i}")).collect();
    fs::write(ten.join("batches.meta.txt"), names.join("\n") + "\n\n").unwrap();
    assert_eq!(open(&ten).unwrap().classes()[7], "name7");
    fs::write(ten.join("batches.meta.txt"), "one\ntwo\n").unwrap();
    assert!(
        refusal(&dir, &ten)
            .0
            .contains("2 different names for 10 classes")
    );
    fs::remove_file(ten.join("batches.meta.txt")).unwrap();

    write(&ten.join("data_batch_3.bin"), &[0; 3072]);
    assert_eq!(
        refusal(&dir, &ten),
        (
            "DIR/ten/data_batch_3.bin: 3072 bytes, not a positive multiple of CIFAR's 3073 a record — fetch the file \
             again: it is cut off or of another kind"
                .to_string(),
            3
        )
    );
    cifar_file(&ten.join("data_batch_3.bin"), 1, &[1, 10]);
    assert!(
        refusal(&dir, &ten)
            .0
            .contains("data_batch_3.bin[1]: label 10 where there are 10 classes")
    );

    let hundred = dir.path().join("hundred");
    cifar_file(
        &hundred.join("train.bin"),
        2,
        &(0..100).collect::<Vec<u8>>(),
    );
    cifar_file(&hundred.join("test.bin"), 2, &[99]);
    let set = open(&hundred).unwrap();
    assert_eq!(
        (set.format(), set.classes().len(), set.label(100)),
        (Format::Cifar100, 100, 99)
    );
}

fn idx(shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, shape.len() as u8];
    out.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    out.extend(data);
    out
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn idx_plain_and_gzipped() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let pixels: Vec<u8> = (0..6 * 6).collect();
    write(
        &root.join("train-images-idx3-ubyte.gz"),
        &gz(&idx(&[6, 2, 3], &pixels)),
    );
    write(
        &root.join("train-labels-idx1-ubyte.gz"),
        &gz(&idx(&[6], &[1, 2, 1, 2, 1, 2])),
    );
    write(
        &root.join("t10k-images.idx3-ubyte"),
        &idx(&[1, 2, 3], &pixels[..6]),
    );
    write(&root.join("t10k-labels.idx1-ubyte"), &idx(&[1], &[2]));
    let set = open(root).unwrap();
    assert_eq!(set.format(), Format::Idx);
    // Letters are labelled from 1: a class that never occurs is none.
    assert_eq!(set.classes(), ["1", "2"]);
    assert_eq!(
        [Split::Train, Split::Val, Split::Test].map(|s| set.indices(s).len()),
        [4, 2, 1]
    );
    let test = set.indices(Split::Test)[0];
    assert_eq!(
        (set.label(test), set.decode(test).unwrap().spatial()),
        (1, [1, 2, 3])
    );

    let labels = root.join("t10k-labels.idx1-ubyte");
    for (bytes, part) in [
        (idx(&[2], &[1, 1]), "labels of shape [2] for 1 images"),
        (idx(&[1, 1], &[1]), "labels of shape [1, 1] for 1 images"),
        (
            idx(&[50], &[1]),
            "the header announces [50] samples, more than the file can hold",
        ),
        (
            idx(&[1], &[1, 2, 3]),
            "the header announces 1 bytes of samples, the file has more",
        ),
        (
            vec![0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            "IDX samples of type 0x0d",
        ),
        (vec![0, 0, 8, 9, 0, 0, 0, 1], "9 dimensions"),
        (vec![1, 2, 3, 4, 5], "not an IDX file"),
        (vec![0, 0], "cut off or damaged"),
        (gz(&idx(&[1], &[1]))[..20].to_vec(), "cut off or damaged"),
        (gz(&idx(&[u32::MAX; 4], &[])), "more than the file can hold"),
    ] {
        fs::write(&labels, bytes).unwrap();
        let (message, code) = refusal(&dir, root);
        assert!(
            message.starts_with("DIR/t10k-labels.idx1-ubyte: ") && message.contains(part),
            "{message}"
        );
        assert_eq!(code, 3);
    }
    fs::remove_file(&labels).unwrap();
    assert_eq!(
        refusal(&dir, root).0,
        "DIR/t10k-images.idx3-ubyte: no labels file beside it — put `t10k-labels.idx1-ubyte` there"
    );
    fs::rename(
        root.join("t10k-images.idx3-ubyte"),
        root.join("other-images.idx3-ubyte"),
    )
    .unwrap();
    assert!(
        refusal(&dir, root)
            .0
            .contains("the name does not tell the split")
    );
}

#[test]
fn the_digits_are_what_they_say() {
    let digits = Dataset::digits(&OpenOptions::default()).unwrap();
    assert_eq!(digits.len(), 1797);
    assert_eq!(
        digits.classes(),
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
    assert_eq!(digits.indices(Split::Test).len(), 500);
    assert_eq!(
        digits.indices(Split::Train).len() + digits.indices(Split::Val).len(),
        1297
    );
    for split in Split::ALL {
        let counts = digits.class_counts(split);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least * 10 >= *most * 8, "{split}: {counts:?}");
    }
    // scikit-learn's numbers: 1797 labels per class, and the sum of all pixels, 561718.
    let mut per_class = [0; 10];
    let mut sum = 0u64;
    for index in 0..digits.len() {
        per_class[digits.label(index) as usize] += 1;
        let Samples::U8(pixels) = digits.decode(index).unwrap().samples().clone() else {
            panic!("bytes")
        };
        assert_eq!(pixels.len(), 64);
        sum += pixels
            .iter()
            .map(|&v| u64::from(v) * 16 / 255 + u64::from(u64::from(v) * 16 % 255 > 127))
            .sum::<u64>();
    }
    assert_eq!(
        per_class,
        [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    );
    assert_eq!(sum, 561_718);
    let by_name = open(Path::new("digits")).unwrap();
    assert_eq!(by_name.fingerprint(), digits.fingerprint());
}

#[test]
fn damaged_files_never_panic() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let images = idx(&[4, 2, 3], &[7; 24]);
    let plain = idx(&[4], &[0, 1, 0, 1]);
    fs::write(root.join("train-labels-idx1-ubyte"), &plain).unwrap();
    for sound in [images.clone(), gz(&images)] {
        for at in 0..sound.len() {
            write(&root.join("train-images-idx3-ubyte"), &sound[..at]);
            assert!(open(root).is_err(), "cut at {at} of {}", sound.len());
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[at] ^= 1 << bit;
                write(&root.join("train-images-idx3-ubyte"), &damaged);
                if let Ok(set) = open(root) {
                    assert_eq!(set.len(), 4);
                    assert!((0..4).all(|i| set.decode(i).is_ok()));
                }
            }
        }
    }
}
