//! Image folders.

use std::fs;

use densenet_data::{Dataset, Format, OpenOptions, Preprocessing, Split, SplitOptions, check};
use tempfile::TempDir;

use super::{open, png, refusal, tree, write};

#[test]
fn a_folder_of_classes_is_divided_by_class() {
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "", &["c10", "c9", "b"], 10);
    write(&dir.path().join(".hidden/x.png"), b"");
    write(&dir.path().join("__MACOSX/x.png"), b"");
    write(&dir.path().join("b/notes.txt"), b"no image");
    tree(dir.path(), "b/inner", &["deep"], 1);
    let set = open(dir.path()).unwrap();
    assert_eq!(set.format(), Format::ImageFolder);
    assert_eq!(set.classes(), ["b", "c9", "c10"]);
    assert_eq!(set.len(), 31);
    assert_eq!(set.class_counts(Split::Val), [1, 1, 1]);
    assert_eq!(set.class_counts(Split::Test), [1, 1, 1]);
    assert_eq!(set.class_counts(Split::Train), [9, 8, 8]);
    assert!(
        set.notes()
            .iter()
            .any(|n| n.contains("1 files do not end like images") && n.contains("notes.txt"))
    );
    assert!(
        set.notes()
            .iter()
            .any(|n| n.contains("divided by class into 25 train, 3 val, 3 test (split seed 0)"))
    );
    let again = open(dir.path()).unwrap();
    assert_eq!(set.indices(Split::Test), again.indices(Split::Test));
    assert_eq!(set.fingerprint(), again.fingerprint());
    // The same data set seen under another path is the same.
    let elsewhere = dir.path().join(".").join("b").join("..");
    assert_eq!(open(&elsewhere).unwrap().fingerprint(), set.fingerprint());
    let options = OpenOptions {
        split: SplitOptions {
            seed: 1,
            ..Default::default()
        },
        ..Default::default()
    };
    let other = Dataset::open(dir.path(), &options).unwrap();
    assert_ne!(set.indices(Split::Test), other.indices(Split::Test));
    assert_ne!(set.fingerprint(), other.fingerprint());
    assert_eq!(set.decode(0).unwrap().spatial(), [1, 3, 4]);
    assert!(set.decode(99).is_err());
}

#[test]
fn splits_by_folder_match_classes_by_name() {
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "train", &["cat", "dog", "owl"], 10);
    tree(dir.path(), "Validation", &["dog", "owl"], 2);
    tree(dir.path(), "test", &["owl"], 2);
    let set = open(dir.path()).unwrap();
    assert_eq!(set.class_counts(Split::Train), [10, 10, 10]);
    assert_eq!(set.class_counts(Split::Val), [0, 2, 2]);
    assert_eq!(set.class_counts(Split::Test), [0, 0, 2]);
    assert!(set.notes().is_empty(), "{:?}", set.notes());

    fs::rename(
        dir.path().join("Validation"),
        dir.path().join(".Validation"),
    )
    .unwrap();
    let set = open(dir.path()).unwrap();
    assert_eq!(set.class_counts(Split::Val), [1, 1, 1]);
    assert_eq!(set.class_counts(Split::Test), [0, 0, 2]);
    assert!(set.notes()[0].contains("3 of 30 training samples taken"));

    tree(dir.path(), "test", &["dgo"], 1);
    assert_eq!(
        refusal(&dir, dir.path()),
        (
            "DIR: class `dgo` of split `test` does not occur in the training split — did you mean `dog`? rename it \
             as in the training split, or leave it out"
                .to_string(),
            3
        )
    );
}

#[test]
fn a_models_classes_decide_the_labels() {
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "test", &["owl", "cat"], 2);
    let classes = |names: &[&str]| OpenOptions {
        classes: Some(names.iter().map(|n| n.to_string()).collect()),
        ..Default::default()
    };
    let set = Dataset::open(dir.path(), &classes(&["owl", "dog", "cat"])).unwrap();
    assert_eq!(set.classes(), ["owl", "dog", "cat"]);
    assert_eq!(set.class_counts(Split::Test), [2, 0, 2]);
    assert!(set.indices(Split::Train).is_empty());
    let error = Dataset::open(dir.path(), &classes(&["owls", "cat"])).unwrap_err();
    assert!(
        error
            .what()
            .contains("class `owl`, which the model does not know"),
        "{error}"
    );
    assert!(error.cure().starts_with("did you mean `owls`?"), "{error}");
}

#[test]
fn folders_that_cannot_be_used() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let data = |message: &str| (message.to_string(), 3);

    assert_eq!(
        refusal(&dir, root),
        data(
            "DIR: the folder is empty: no class folders, no images, no volumes — put images or volumes into it, one folder \
             per class"
        )
    );
    assert_eq!(
        refusal(&dir, &root.join("nowhere")),
        (
            "DIR/nowhere: no such file or folder — check the spelling of the path".to_string(),
            5
        )
    );
    tree(root, "one", &["only"], 3);
    assert_eq!(
        refusal(&dir, &root.join("one")),
        data(
            "DIR/one: only one class, `only`: there is nothing to tell apart — give at least two classes, one folder \
             each"
        )
    );
    tree(root, "gap", &["full"], 3);
    fs::create_dir_all(root.join("gap/bare")).unwrap();
    assert_eq!(
        refusal(&dir, &root.join("gap")),
        data(
            "DIR/gap/bare: the class folder has no images or volumes — put images (PNG, JPEG, WebP, BMP, TIFF) or \
             volumes (NIfTI, NRRD, MetaImage, .npy, folders of DICOM slices) into it, or remove it"
        )
    );
    png(&root.join("flat/a.png"), 0);
    assert_eq!(
        refusal(&dir, &root.join("flat")),
        data(
            "DIR/flat: images lie directly in it, without classes — put each class's images into a folder of its own, \
             or list them with their labels in a .csv file"
        )
    );
    fs::create_dir_all(root.join("scans")).unwrap();
    fs::write(root.join("scans/7.nii.gz"), b"").unwrap();
    assert_eq!(
        refusal(&dir, &root.join("scans")),
        data(
            "DIR/scans: volumes lie directly in it, without classes — put each class's volumes into a folder of its \
             own, or list them with their labels in a .csv file"
        )
    );
    fs::create_dir_all(root.join("series")).unwrap();
    fs::write(root.join("series/1.dcm"), b"").unwrap();
    assert_eq!(
        refusal(&dir, &root.join("series")),
        data(
            "DIR/series: DICOM files lie directly in it, without classes — make a folder for each class, and in it a \
             folder for each scan's slices"
        )
    );
    fs::create_dir_all(root.join("texts")).unwrap();
    fs::write(root.join("texts/a.txt"), b"").unwrap();
    assert_eq!(
        refusal(&dir, &root.join("texts")),
        data(
            "DIR/texts: no class folders, and its 1 files, like `a.txt`, do not end like images or volumes — put \
             images or volumes into it, one folder per class"
        )
    );
    tree(root, "odd", &["cats", "test"], 3);
    assert_eq!(
        refusal(&dir, &root.join("odd")),
        data(
            "DIR/odd: `test` looks like a split, but there are class folders beside it and no `train` — rename it if \
             it is a class, or move the other folders into `train`"
        )
    );
    assert!(
        refusal(&dir, &root.join("flat/a.png"))
            .0
            .contains("a single image, not a data set")
    );
    for (name, part) in [
        ("x.zip", "a packed archive — unpack it"),
        ("x.pkl", "a Python pickle"),
        ("x.bin", "give the folder it lies in"),
        ("x.docx", "not a kind of data set that is known here"),
    ] {
        let (message, code) = refusal(&dir, &write(&root.join(name), b"?"));
        assert!(message.contains(part) && code == 3, "{message}");
    }
    write(&root.join("pickles/data_batch_1"), b"?");
    assert!(
        refusal(&dir, &root.join("pickles"))
            .0
            .contains("CIFAR's Python version")
    );
    tree(root, "nested/set", &["a", "b"], 3);
    let (message, _) = refusal(&dir, &root.join("nested"));
    assert!(message.contains("only one class, `set`"), "{message}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_are_left() {
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "real", &["a", "b"], 4);
    let set = dir.path().join("set");
    fs::create_dir(&set).unwrap();
    std::os::unix::fs::symlink(dir.path().join("real/a"), set.join("a")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("real/b"), set.join("b")).unwrap();
    std::os::unix::fs::symlink(&set, dir.path().join("real/a/loop")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("real/a"), dir.path().join("real/a/self")).unwrap();
    let opened = open(&set).unwrap();
    assert!(
        opened
            .notes()
            .iter()
            .any(|n| n.contains("a link back to a folder above it")),
        "{:?}",
        opened.notes()
    );
    // A link to nothing is a bad file, found by the check.
    std::os::unix::fs::symlink("nowhere.png", dir.path().join("real/b/gone.png")).unwrap();
    fs::remove_file(dir.path().join("real/a/loop")).unwrap();
    fs::remove_file(dir.path().join("real/a/self")).unwrap();
    let opened = open(&set).unwrap();
    let found = check(&opened, &Preprocessing::plain(1), 2, &|_, _| true)
        .unwrap()
        .unwrap();
    assert_eq!(found.bad.len(), 1);
    assert!(
        found.bad[0]
            .error
            .to_string()
            .contains("gone.png: no such file")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let odd = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_os_string();
    let dir = TempDir::new().unwrap();
    tree(dir.path(), "", &["a", "b"], 4);
    // A file of such a name is as good as any other; a class must have a name that can be written down.
    png(&dir.path().join("a").join(odd(b"\xff.png")), 9);
    let set = open(dir.path()).unwrap();
    assert_eq!(set.len(), 9);
    assert!((0..9).all(|i| set.decode(i).is_ok()));
    png(&dir.path().join(odd(b"c\xfe")).join("1.png"), 9);
    let (message, code) = refusal(&dir, dir.path());
    assert!(
        message.contains("the class folder's name is not UTF-8 — rename it"),
        "{message}"
    );
    assert_eq!(code, 3);
}
