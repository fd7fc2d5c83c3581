//! The look at every sample before training.

use std::fs;

use densenet_data::{OnError, Preprocessing, check};
use tempfile::TempDir;

use super::{open, tree, write};

#[test]
fn the_check_lists_every_bad_file_and_measures() {
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "train", &["a", "b"], 50);
    tree(dir.path(), "val", &["a", "b"], 2);
    tree(dir.path(), "test", &["a"], 1);
    let root = dir.path();
    let bad = [
        (
            write(&root.join("train/a/zero.png"), b""),
            "the file is empty (0 bytes)",
        ),
        (
            write(&root.join("train/a/text.png"), b"hello"),
            "not an image: its first bytes",
        ),
        (
            write(&root.join("train/b/anim.png"), b"GIF89a\0\0\0\0"),
            "a GIF file, which is not read here",
        ),
        (
            write(
                &root.join("val/b/half.png"),
                &fs::read(root.join("train/a/0.png")).unwrap()[..40],
            ),
            "broken PNG file",
        ),
    ];
    // A sound picture under a wrong ending is used.
    fs::copy(
        root.join("train/a/1.png"),
        root.join("train/a/really_png.jpg"),
    )
    .unwrap();
    let before: Vec<_> = bad
        .iter()
        .map(|(path, _)| fs::read(path).unwrap())
        .collect();
    let set = open(root).unwrap();
    let preprocessing = Preprocessing::plain(1);
    let one = check(&set, &preprocessing, 1, &|_, _| true)
        .unwrap()
        .unwrap();
    for threads in [2, 3, 8] {
        assert_eq!(
            check(&set, &preprocessing, threads, &|_, _| true)
                .unwrap()
                .unwrap(),
            one
        );
    }
    assert_eq!(check(&set, &preprocessing, 2, &|_, _| false).unwrap(), None);
    assert_eq!(one.bad.len(), bad.len());
    for (path, part) in &bad {
        let place = path.display().to_string();
        let found = one.bad.iter().find(|b| b.error.place() == place).unwrap();
        assert!(found.error.what().contains(part), "{}", found.error);
        assert_eq!(found.error.exit_code(), 3);
    }
    // Pixels are 0..49 and 40..89, and 1 once more, over 255.
    let all: Vec<f64> = (0..50)
        .chain(40..90)
        .chain([1])
        .map(|v| f64::from(v) / 255.0)
        .collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let std = (all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / all.len() as f64).sqrt();
    assert!(
        (f64::from(one.mean[0]) - mean).abs() < 1e-6 && (f64::from(one.std[0]) - std).abs() < 1e-6
    );
    assert_eq!(one.kinds.get("8-bit grey"), Some(&106));
    assert!(
        one.notes(&set, &preprocessing)
            .iter()
            .any(|n| n.contains("occur in more than one split"))
    );

    let error = one.accept(&set, OnError::Fail).unwrap_err();
    assert!(
        error
            .what()
            .starts_with("4 of 110 images cannot be used, the first: "),
        "{error}"
    );
    let error = one.accept(&set, OnError::SKIP).unwrap_err();
    assert!(
        error
            .cure()
            .contains("more than the 1 % that may be skipped"),
        "{error}"
    );
    let accepted = one.accept(&set, OnError::Skip { cap: 0.04 }).unwrap();
    assert_eq!(accepted.len(), 106);
    assert!((0..106).all(|i| accepted.decode(i).is_ok()));
    assert!(
        bad.iter()
            .zip(before)
            .all(|((path, _), bytes)| fs::read(path).unwrap() == bytes)
    );
}

#[test]
fn different_sizes_need_a_size() {
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "", &["a", "b"], 3);
    image::RgbImage::new(9, 9)
        .save(dir.path().join("b/big.png"))
        .unwrap();
    let set = open(dir.path()).unwrap();
    let suggested = Preprocessing::suggest(&set, None, None);
    assert_eq!(
        (suggested.channels, suggested.fixed_size()),
        (3, Some([224, 224]))
    );
    let found = check(&set, &Preprocessing::plain(3), 2, &|_, _| true)
        .unwrap()
        .unwrap();
    let error = found.accept(&set, OnError::Fail).unwrap_err();
    assert!(
        error.what().contains("3 × 4 pixels, while") && error.cure().contains("give a size"),
        "{error}"
    );
    assert!(found.notes(&set, &suggested)[0].contains("1 8-bit RGB, 6 8-bit grey"));
    let found = check(&set, &Preprocessing::exact(3, [5, 5]), 2, &|_, _| true)
        .unwrap()
        .unwrap();
    assert!(found.accept(&set, OnError::Fail).is_ok());
    fs::remove_file(dir.path().join("b/big.png")).unwrap();
    let suggested = Preprocessing::suggest(&open(dir.path()).unwrap(), None, None);
    assert_eq!(
        (suggested.channels, suggested.fixed_size()),
        (1, Some([3, 4]))
    );
}

#[cfg(unix)]
#[test]
fn unreadable_files_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "", &["a", "b"], 3);
    let path = dir.path().join("a/0.png");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    let found = check(
        &open(dir.path()).unwrap(),
        &Preprocessing::plain(1),
        1,
        &|_, _| true,
    )
    .unwrap()
    .unwrap();
    if fs::File::open(&path).is_ok() {
        assert!(
            found.bad.is_empty(),
            "whoever runs this may read everything"
        );
    } else {
        assert_eq!(found.bad.len(), 1);
        assert_eq!(found.bad[0].error.exit_code(), 5);
        assert!(found.bad[0].error.what().contains("permission denied"));
    }
}
