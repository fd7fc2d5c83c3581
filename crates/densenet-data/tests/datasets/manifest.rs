//! CSV manifests.

use std::fs;

use densenet_data::{Format, Samples, Split};
use tempfile::TempDir;

use super::{open, png};

#[test]
fn a_manifest_names_files_labels_splits_and_groups() {
    let dir = TempDir::new().unwrap();
    for i in 0..8 {
        png(&dir.path().join(format!("p/{i}.png")), i * 10);
    }
    let manifest = dir.path().join("set.csv");
    let open_text = |text: &str| {
        fs::write(&manifest, text).unwrap();
        open(&manifest)
    };
    let set = open_text(
        "\u{feff}label,path,split,age\nx, p/0.png ,train,3\ny,p/1.png,train,4\nx,\"p/2.png\",valid,5\ny,p/3.png,test,6\n",
    )
    .unwrap();
    assert_eq!(set.format(), Format::Manifest);
    assert_eq!(set.classes(), ["x", "y"]);
    assert_eq!(
        [Split::Train, Split::Val, Split::Test].map(|s| set.indices(s).len()),
        [2, 1, 1]
    );
    assert!(set.notes()[0].contains("columns left out: age"));
    assert_eq!(set.decode(2).unwrap().samples(), &Samples::U8(vec![20; 12]));

    let mut grouped = String::from("path,label,group\n");
    for i in 0..60 {
        grouped += &format!("p/{i}.png,{},patient{}\n", i / 3 % 2, i / 3);
    }
    let set = open_text(&grouped).unwrap();
    for index in 0..60 {
        assert_eq!(set.split_of(index), set.split_of(index / 3 * 3));
    }
    assert!(
        Split::ALL
            .iter()
            .all(|&s| set.class_counts(s).iter().all(|&n| n > 0))
    );

    let message = |text: &str| {
        let error = open_text(text).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        error
            .to_string()
            .replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(
        message("file,label\na,b\n"),
        "DIR/set.csv:1: no column `path` among `file,label` — begin with the line `path,label` (and `split`, `group` \
         if you have them)"
    );
    assert!(message("paths,label\na,b\n").contains("did you mean `path`?"));
    assert_eq!(
        message("path,label\n"),
        "DIR/set.csv: no images are listed — add a line per image below the first"
    );
    assert!(message("path,label\na,x\nb\n").starts_with("DIR/set.csv:3: not proper CSV"));
    assert_eq!(
        message("path,label\na,x\nb,\n"),
        "DIR/set.csv:3: empty label — fill in the label"
    );
    assert_eq!(
        message("path,label\na,x\na,y\n"),
        "DIR/set.csv:3: `a` was listed before, on line 2 — list every image once"
    );
    assert_eq!(
        message("path,label,split\na,x,trian\n"),
        "DIR/set.csv:2: unknown split `trian` — did you mean `train`? use train, val or test"
    );
    assert!(
        message("path,label,split\na,x,train\nb,y,\n")
            .contains("some lines name a split and some do not")
    );
    assert_eq!(
        message("path,label,split,group\na,x,train,g\nb,y,test,g\n"),
        "DIR/set.csv:3: group `g` is in `test` here and in `train` on line 2 — keep every group within one split"
    );
    fs::write(&manifest, b"path,label\n\xff,x\n").unwrap();
    assert!(
        open(&manifest)
            .unwrap_err()
            .what()
            .starts_with("not UTF-8 text")
    );
}
