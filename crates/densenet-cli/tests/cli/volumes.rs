//! Networks for volumes, from files of every kind to answers.

pub mod files;

use std::fs;

use crate::support::Place;
use files::{cube, gzip, nifti, npz, scans, series};

/// A network so small that an epoch takes a blink.
pub const TINY: &str = "--model densenet121 --growth-rate 4 --block-config 2,2 --num-init-features 8 --stem small \
                        --no-augment --batch-size 4 --lr 0.05 --seed 1";

/// Trains, and gives the accuracy on the test split.
fn trained(place: &Place, data: &str, more: &str) -> f64 {
    place
        .run(&format!("train {data} {TINY} {more} --name x"))
        .done();
    let eval = format!("eval runs/x-1/best.safetensors {data} --json");
    let document = place.run(&eval).json();
    document["accuracy"].as_f64().unwrap()
}

#[test]
fn folders_of_nifti_files() {
    let place = Place::new();
    scans(&place, 8, 12);
    let accuracy = trained(
        &place,
        "scans",
        "--epochs 6 --val-split 0.2 --test-split 0.2",
    );
    assert_eq!(accuracy, 1.0);
    let model = "runs/x-1/best.safetensors";
    let document = place
        .run(&format!("predict {model} scans/rim --json"))
        .json();
    let predictions = document["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 12);
    assert!(predictions.iter().all(|p| p["top"][0]["class"] == "rim"));
    // Another size and spacing is brought to the model's.
    place.write("large.nii", nifti([16; 3], &cube(16, 0, 7)));
    let document = place
        .run(&format!("predict {model} large.nii --json"))
        .json();
    assert_eq!(document["predictions"][0]["top"][0]["class"], "core");
    // Pictures are not for this model.
    place.write("x.png", "x");
    let run = place.run(&format!("predict {model} x.png"));
    run.fails(3, &["x.png", "not a volume"]);
}

#[test]
fn folders_of_dicom_series_keep_a_patient_together() {
    let place = Place::new();
    for (class, name) in ["core", "rim"].iter().enumerate() {
        for i in 0..12 {
            // Two scans of each patient.
            let patient = format!("{name}-{}", i / 2);
            let values = cube(8, class, 50 * class as u32 + i);
            series(
                &place,
                &format!("scans/{name}/scan{i}"),
                &patient,
                8,
                &values,
            );
        }
    }
    let accuracy = trained(
        &place,
        "scans",
        "--epochs 6 --val-split 0.2 --test-split 0.2",
    );
    assert_eq!(accuracy, 1.0);
    let document = place
        .run("check scans --stem small --block-config 2,2 --json")
        .json();
    let samples = &document["splits"];
    for split in ["train", "val", "test"] {
        assert_eq!(samples[split].as_u64().unwrap() % 2, 0, "{samples}");
    }
    let model = "runs/x-1/best.safetensors";
    let run = place.run(&format!("predict {model} scans/core/scan3 --json"));
    assert_eq!(run.json()["predictions"][0]["top"][0]["class"], "core");
}

#[test]
fn lists_of_channels_with_patients() {
    let place = Place::new();
    let mut list = String::from("path,label,group\n");
    for i in 0..24 {
        let class = i as usize % 2;
        // The first channel says nothing.
        place.write(&format!("t1/{i}.nii"), nifti([8; 3], &cube(8, 0, 900 + i)));
        place.write(
            &format!("t2/{i}.nii.gz"),
            gzip(&nifti([8; 3], &cube(8, class, i))),
        );
        list += &format!(
            "t1/{i}.nii;t2/{i}.nii.gz,{},p{}\n",
            ["a", "b"][class],
            i / 2
        );
    }
    place.write("list.csv", list);
    let accuracy = trained(
        &place,
        "list.csv",
        "--epochs 6 --val-split 0.2 --test-split 0.2",
    );
    assert_eq!(accuracy, 1.0);
    let summary = place.run("summary runs/x-1/best.safetensors --json").json();
    assert_eq!(summary["config"]["in_channels"], 2, "{summary}");
    let model = "runs/x-1/best.safetensors";
    let run = place.run(&format!(
        "predict {model} t1/1.nii;t2/1.nii.gz t1/4.nii;t2/4.nii.gz --json"
    ));
    let document = run.json();
    assert_eq!(document["predictions"][0]["top"][0]["class"], "b");
    assert_eq!(document["predictions"][1]["top"][0]["class"], "a");
    let run = place.run(&format!("predict {model} t1/1.nii"));
    run.fails(3, &["t1/1.nii", "1 channels, where 2 are needed"]);
}

#[test]
fn archives_as_medmnist_has_them() {
    let place = Place::new();
    place.write("set.npz", npz(8, [("train", 20), ("val", 6), ("test", 6)]));
    assert_eq!(trained(&place, "set.npz", "--epochs 6"), 1.0);
}

#[test]
fn the_generated_volumes() {
    let place = Place::new();
    // Most of the volumes only validate, which is cheaper.
    let run = place.run(
        "train shapes3d --block-config 1,1 --growth-rate 4 --num-init-features 4 --epochs 1 --batch-size 64 --seed 0 \
         --val-split 0.8",
    );
    assert!(run.err.contains("8 classes, 28×28×28"), "{}", run.err);
    let out = run.done();
    assert!(out.contains("320 images"), "{out}");
}

#[test]
fn prepared_samples_are_kept_on_disk() {
    let place = Place::new();
    scans(&place, 8, 8);
    let train = |out: &str| {
        // Nothing fits into memory, so every epoch asks the disk.
        let more = format!("--epochs 2 --cache-mb 0 --cache-dir kept --out {out}");
        place.run(&format!("train scans {TINY} {more}")).done();
        String::from_utf8(place.read(&format!("{out}/scans-1/metrics.csv"))).unwrap()
    };
    // All but the times.
    let losses = |text: String| -> Vec<String> {
        text.lines()
            .map(|l| l.split(',').take(8).collect())
            .collect()
    };
    let entries = || {
        let mut all: Vec<_> = fs::read_dir(place.path("kept"))
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        all.sort();
        all
    };
    let first = losses(train("one"));
    let kept = entries();
    assert!(kept.len() >= 12, "{kept:?}");
    // One entry is damaged, one is gone.
    let whole = fs::read(&kept[0]).unwrap();
    fs::write(&kept[0], &whole[..whole.len() - 9]).unwrap();
    fs::remove_file(&kept[1]).unwrap();
    assert_eq!(losses(train("two")), first);
    assert_eq!((fs::read(&kept[0]).unwrap(), entries()), (whole, kept));
    // A file where the folder should be.
    place.write("file", "");
    let run = place.run(&format!("train scans {TINY} --cache-dir file"));
    run.fails(5, &["file", "cannot be written"]);
}
