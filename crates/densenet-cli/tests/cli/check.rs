//! `densenet check`: every finding with its cure, and what training refuses.

use crate::{
    support::Place,
    volumes::{
        TINY,
        files::{Slice, cube, dicom, gzip, header, nifti, npz, scans},
    },
};

/// The findings of a data set, and whether training would be refused.
#[track_caller]
fn findings(place: &Place, line: &str) -> (Vec<String>, bool) {
    let run = place.run(&format!("check {line} --json"));
    assert!(run.code == 0 || run.code == 3, "{}", run.err);
    let document: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let all = document["findings"].as_array().unwrap();
    let text = |f: &serde_json::Value| {
        format!(
            "{}: {}",
            f["kind"].as_str().unwrap(),
            f["text"].as_str().unwrap()
        )
    };
    let refused = all.iter().any(|f| f["kind"] == "refused");
    assert_eq!(refused, run.code == 3);
    (all.iter().map(text).collect(), refused)
}

/// Asserts that one finding has all parts, of which the last is its cure.
#[track_caller]
fn found(findings: &[String], parts: &[&str]) {
    let fits = |f: &&String| parts.iter().all(|part| f.contains(part));
    assert!(
        findings.iter().any(|f| fits(&f)),
        "{parts:?} is not in {findings:#?}"
    );
}

#[test]
fn a_single_volume_is_described_and_written() {
    let place = Place::new();
    place.write("x.nii.gz", gzip(&nifti([4, 3, 2], &cube(4, 0, 1)[..24])));
    let text = place.run("check x.nii.gz").done();
    assert!(
        text.contains("2×3×4") && text.contains("[1.0,1.0,1.0] mm"),
        "{text}"
    );
    place.run("check x.nii.gz --dump x.npy").done();
    let text = place.run("check x.npy --json").json();
    assert_eq!(text["spatial"], serde_json::json!([2, 3, 4]));
    place
        .run("check . --dump y.npy")
        .fails(2, &["--dump y.npy", "a data set"]);
    place
        .run("check absent.nii")
        .fails(5, &["absent.nii", "check the spelling"]);
}

#[test]
fn damaged_volumes_get_one_line_and_their_code() {
    let place = Place::new();
    let whole = nifti([8; 3], &cube(8, 0, 1));
    place.write("cut.nii", &whole[..1000]);
    let packed = gzip(&whole);
    place.write("cut.nii.gz", &packed[..packed.len() / 2]);
    // A few kilobytes that claim to unpack to half a gigabyte, and some that do unpack to far too much.
    place.write("claims.nii.gz", gzip(&header([512, 512, 500])));
    let bomb = [nifti([8; 3], &cube(8, 0, 1)), vec![0; 80 << 20]].concat();
    place.write("bomb.nii.gz", gzip(&bomb));
    place.write("absurd.nii", header([32767; 3]));
    let mut complex = whole.clone();
    complex[70] = 32;
    place.write("complex.nii", complex);
    for (file, code, parts) in [
        (
            "cut.nii",
            3,
            ["which takes 2400 bytes; the file has 1000", "it is cut off"],
        ),
        ("cut.nii.gz", 3, ["the file is cut off", "replace it"]),
        (
            "claims.nii.gz",
            3,
            ["packed bytes cannot hold that", "write the file anew"],
        ),
        (
            "bomb.nii.gz",
            7,
            ["bytes follow the voxels", "write the file anew"],
        ),
        (
            "absurd.nii",
            7,
            ["more than the 2^28 numbers", "scale it down"],
        ),
        (
            "complex.nii",
            3,
            ["voxels of complex numbers", "convert it"],
        ),
    ] {
        place
            .run(&format!("check {file}"))
            .fails(code, &[file, parts[0], parts[1]]);
    }
    // NaN voxels are counted in a single volume, and refused in a data set.
    let mut values = cube(8, 0, 1);
    values[3] = f32::NAN;
    values[9] = f32::INFINITY;
    place.write("nan.nii", nifti([8; 3], &values));
    assert_eq!(place.run("check nan.nii --json").json()["non_finite"], 2);
}

#[test]
fn faulty_series_get_one_line() {
    let place = Place::new();
    let slice = |height: f64, series| {
        let slice = Slice {
            patient: "p",
            series,
            height,
            side: 4,
        };
        dicom(slice, &[0.5; 16])
    };
    for (name, slices, parts) in [
        (
            "mixed",
            [(0.0, "1.2"), (1.0, "1.2"), (2.0, "1.3")],
            ["two series in one folder", "a folder of its own"],
        ),
        (
            "gap",
            [(0.0, "1.2"), (1.0, "1.2"), (3.0, "1.2")],
            ["slices are missing", "fetch the series again"],
        ),
        (
            "twice",
            [(0.0, "1.2"), (1.0, "1.2"), (1.0, "1.2")],
            ["lie in the same place", "keep one of them"],
        ),
    ] {
        for (i, (height, series)) in slices.into_iter().enumerate() {
            place.write(&format!("{name}/{i}.dcm"), slice(height, series));
        }
        place
            .run(&format!("check {name}"))
            .fails(3, &[name, parts[0], parts[1]]);
    }
}

#[test]
fn every_bad_file_of_a_data_set_is_named_with_its_cure() {
    let place = Place::new();
    scans(&place, 8, 10);
    let whole = nifti([8; 3], &cube(8, 0, 1));
    let mut values = cube(8, 0, 77);
    values[3] = f32::NAN;
    place.write("scans/core/cut.nii", &whole[..900]);
    place.write("scans/rim/nan.nii", nifti([8; 3], &values));
    place.write("scans/rim/claims.nii.gz", gzip(&header([512, 512, 500])));
    let (all, refused) = findings(&place, &format!("scans {}", short()));
    assert!(refused);
    found(&all, &["core/cut.nii", "the file has 900", "it is cut off"]);
    found(
        &all,
        &[
            "rim/nan.nii",
            "1 of 512 voxels are not numbers",
            "--non-finite zero",
        ],
    );
    found(
        &all,
        &[
            "rim/claims.nii.gz",
            "cannot hold that",
            "write the file anew",
        ],
    );
    found(
        &all,
        &[
            "refused",
            "3 of 23 volumes cannot be used",
            "--on-error skip",
        ],
    );
    // `train` says the same.
    let run = place.run(&format!("train scans {TINY} --epochs 1"));
    assert_eq!(run.code, 3);
    assert!(run.err.contains("core/cut.nii"), "{}", run.err);
    run.says(&["3 of 23 volumes cannot be used", "--on-error skip"]);
    // The cures help.
    let cured = "--non-finite zero --on-error skip --max-bad 0.1";
    let (all, refused) = findings(&place, &format!("scans {} {cured}", short()));
    assert!(!refused, "{all:#?}");
}

/// [`TINY`]'s network for `check`, which does not learn.
fn short() -> String {
    TINY.replace("--lr 0.05 --seed 1", "")
}

#[test]
fn what_the_network_needs_is_checked() {
    let place = Place::new();
    scans(&place, 8, 10);
    // A network that halves five times.
    let line =
        "scans --model densenet121 --growth-rate 4 --num-init-features 8 --block-config 1,1,1,1";
    let (all, refused) = findings(&place, line);
    assert!(refused);
    found(
        &all,
        &["8 × 8 × 8 (and 19 more)", "smaller than", "--image-size"],
    );
    let run = place.run(&format!("train {line} --epochs 1"));
    run.fails(
        2,
        &["8 × 8 × 8 (and 19 more)", "smaller than", "--image-size"],
    );
    // The cure helps, and leaves little for batch norm.
    let larger = format!("{line} --image-size 32 --batch-size 1");
    let (all, refused) = findings(&place, &larger);
    assert!(refused);
    found(
        &all,
        &["single value per channel", "batch size of at least 2"],
    );
    let larger = format!("{line} --image-size 32 --batch-size 4");
    let (all, refused) = findings(&place, &larger);
    assert!(!refused, "{all:#?}");
    found(
        &all,
        &[
            "warning",
            "sees only 4 values per channel",
            "larger --batch-size",
        ],
    );
    for (option, what) in [
        ("--percentiles 5,1", "percentiles 5 to 1"),
        ("--window 5,1", "a window from 5 to 1"),
        ("--spacing 0", "spacing"),
    ] {
        let run = place.run(&format!("check scans {option}"));
        run.fails(2, &[what, "give "]);
    }
    // Options that contradict the data are an error of the command line.
    place
        .run("check scans --dims 2")
        .fails(2, &["--dims", "the data are volumes"]);
}

#[test]
fn rare_classes_and_copies_are_pointed_out() {
    let place = Place::new();
    for i in 0..24u32 {
        let class = usize::from(i >= 21);
        let name = ["common", "rare"][class];
        place.write(
            &format!("set/train/{name}/{i}.nii"),
            nifti([8; 3], &cube(8, class, i)),
        );
    }
    for (class, name) in ["common", "rare"].iter().enumerate() {
        // Seed 0 is the first training sample, under another name and packed.
        let bytes = gzip(&nifti([8; 3], &cube(8, class, 40 * class as u32)));
        place.write(&format!("set/test/{name}/t.nii.gz"), bytes);
    }
    let (all, refused) = findings(&place, &format!("set {}", short()));
    assert!(!refused, "{all:#?}");
    found(
        &all,
        &["`common` has", "`rare` has", "--class-weights balanced"],
    );
    found(
        &all,
        &[
            "occur in more than one split",
            "t.nii.gz` (test)",
            "keep each in one split",
        ],
    );
    found(&all, &["note", "no validation split"]);
}

#[test]
fn a_model_file_is_held_against_the_data() {
    let place = Place::new();
    place.write("set.npz", npz(8, [("train", 12), ("val", 4), ("test", 4)]));
    place
        .run(&format!("train set.npz {TINY} --epochs 1 --name m"))
        .done();
    let model = "--model runs/m-1/best.safetensors";
    let (all, refused) = findings(&place, &format!("set.npz {model}"));
    assert!(!refused, "{all:#?}");
    scans(&place, 8, 10);
    let run = place.run(&format!("check scans {model}"));
    run.fails(3, &["class `core`", "the model does not know"]);
    let (all, refused) = findings(&place, &format!("scans {model} --replace-head"));
    assert!(!refused, "{all:#?}");
    found(&all, &["the classifier is drawn anew"]);
}

/// Of so many samples of this size a step of the largest preset takes more than half a terabyte.
#[cfg(target_os = "linux")]
#[test]
fn a_step_that_no_memory_holds_is_warned_of() {
    let place = Place::new();
    let line = "check digits --model densenet264 --image-size 224 --batch-size 2000";
    let run = place.run(line);
    assert_eq!(run.code, 0, "{}", run.err);
    let text = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "warning: training needs about",
        "for a step",
        "are free — give a smaller --batch-size",
        "a training step takes",
        "given to `densenet train`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Without the option the same data fits.
    let run = place.run("check digits");
    assert!(!run.done().contains("training needs"));
    let step = |line: &str| place.run(line).json()["train_step_bytes"].as_u64();
    let kept = step(&format!("{line} --json"));
    assert!(step(&format!("{line} --memory-efficient --json")) < kept);
}
