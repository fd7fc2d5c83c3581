//! Opening data sets of every kind, and what is said about those that cannot be used.

mod checking;
mod folders;
mod manifest;
mod npz;
mod packed;

use std::fs;
use std::path::{Path, PathBuf};

use densenet_data::{DataError, Dataset, OpenOptions};
use tempfile::TempDir;

fn open(path: &Path) -> Result<Dataset, DataError> {
    Dataset::open(path, &OpenOptions::default())
}

/// The message, with the folder's path taken out, and the exit code.
fn refusal(root: &TempDir, path: &Path) -> (String, u8) {
    let error = open(path).expect_err("must be refused");
    (
        error
            .to_string()
            .replace(&root.path().display().to_string(), "DIR"),
        error.exit_code(),
    )
}

fn png(path: &Path, grey: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(4, 3, image::Luma([grey]))
        .save(path)
        .unwrap();
}

/// `classes` with `n` different pictures each below `root/prefix`.
fn tree(root: &Path, prefix: &str, classes: &[&str], n: usize) {
    for (c, class) in classes.iter().enumerate() {
        for i in 0..n {
            png(
                &root.join(prefix).join(class).join(format!("{i}.png")),
                (c * 40 + i) as u8,
            );
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    path.to_path_buf()
}
