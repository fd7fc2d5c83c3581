//! Any bytes as each packed data set; the first byte chooses which.
#![no_main]

use std::fs;

use densenet_data::{Dataset, OpenOptions};
use libfuzzer_sys::fuzz_target;

const LABELS: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let root = dir.path();
    let (name, open) = match kind % 5 {
        0 => ("set.csv", root.join("set.csv")),
        1 => ("set.npz", root.join("set.npz")),
        2 => ("test_batch.bin", root.to_path_buf()),
        3 => ("train-images-idx3-ubyte", root.to_path_buf()),
        _ => ("test.bin", root.to_path_buf()),
    };
    fs::write(root.join(name), rest).expect("room for a small file");
    fs::write(root.join("train-labels-idx1-ubyte"), LABELS).expect("room for a small file");
    match Dataset::open(&open, &OpenOptions::default()) {
        Ok(set) => {
            assert!(!set.is_empty());
            for index in 0..set.len().min(16) {
                let _ = set.decode(index);
                assert!((set.label(index) as usize) < set.classes().len());
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
