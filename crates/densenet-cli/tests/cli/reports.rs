//! Reports, comparisons, TensorBoard's files and learning rates.

use crate::{
    images::{bmp, photos},
    support::Place,
};

/// A network so small that an epoch takes a blink.
const TINY: &str =
    "--model densenet-bc-100-12 --growth-rate 4 --block-config 2,2 --no-augment --batch-size 8";

fn text(place: &Place, file: &str) -> String {
    String::from_utf8(place.read(file)).unwrap()
}

#[test]
fn a_run_leaves_a_page_a_table_and_a_document_that_agree() {
    let place = Place::new();
    photos(&place, 16, 10);
    let out = place
        .run(&format!("train photos {TINY} --epochs 2 --name r"))
        .done();
    assert!(out.contains("runs/r-1/report.html"), "{out}");

    let summary: serde_json::Value =
        serde_json::from_str(&text(&place, "runs/r-1/summary.json")).unwrap();
    assert_eq!(summary["training"]["complete"], true, "{summary}");
    assert_eq!(summary["training"]["epochs"], 2);
    assert_eq!(summary["scores"]["split"], "test");
    assert_eq!(
        summary["data"]["samples"]["train"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert!(summary["timing"]["samples_per_second"].as_f64().unwrap() > 0.0);
    assert!(summary["network"]["macs"].as_u64().unwrap() > 0);

    let table = text(&place, "runs/r-1/predictions.csv");
    let mut lines = table.lines();
    assert_eq!(
        lines.next(),
        Some("sample,split,label,answer,probability,p:bright,p:dark,p:striped")
    );
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split(',').collect()).collect();
    assert_eq!(
        rows.len() as u64,
        summary["scores"]["samples"].as_u64().unwrap()
    );
    let right = rows.iter().filter(|r| r[2] == r[3]).count() as f64;
    let accuracy = summary["scores"]["accuracy"].as_f64().unwrap();
    assert!((right / rows.len() as f64 - accuracy).abs() < 1e-12);
    for row in &rows {
        assert!(row[0].starts_with("photos/") && row[1] == "test", "{row:?}");
        let sum: f64 = row[5..].iter().map(|p| p.parse::<f64>().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{row:?}");
    }

    let page = text(&place, "runs/r-1/report.html");
    for part in [
        "r-1",
        "Accuracy (test)",
        "Reliability",
        "ROC",
        "Confusion",
        "Throughput",
        "config.toml",
        "striped",
        "Macro AUROC",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for part in ["<script", "src=\"http", "href=\"http", "@import", "url("] {
        assert!(!page.contains(part), "{part}");
    }
    // The page shows the document's accuracy.
    assert!(page.contains(&format!("{:.2} %", 100.0 * accuracy)));
}

#[test]
fn names_that_are_markup_stay_text() {
    let place = Place::new();
    let bad = "<script>alert(1)<i>";
    for i in 0..8 {
        for (class, value) in [(bad, 200), ("a & \"b\"", 20)] {
            place.write(
                &format!("data<b>/{class}/<u>{i}.bmp"),
                bmp(16, |x, y| [value + ((x * 7 + y * 3 + i) % 20) as u8; 3]),
            );
        }
    }
    let mut line: Vec<&str> = vec!["train", "data<b>", "--name", "x<s>"];
    let options = format!("{TINY} --epochs 1 --val-split 0.25 --test-split 0.25");
    line.extend(options.split_whitespace());
    place.run_args(&line).done();
    let page = text(&place, "runs/x<s>-1/report.html");
    for element in ["<script", "<i>", "<b>r", "<b>/", "<u>", "<s>"] {
        assert!(!page.contains(element), "{element}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;i&gt;"));
    assert!(page.contains("a &amp; &quot;b&quot;"));
    place
        .run_args(["compare", "runs/x<s>-1", "runs/x<s>-1", "--html", "c.html"])
        .done();
    assert!(!text(&place, "c.html").contains("<s>"));
}

#[test]
fn eval_writes_the_same_files_and_tells_intervals() {
    let place = Place::new();
    photos(&place, 16, 10);
    place
        .run(&format!("train photos {TINY} --epochs 2 --name r"))
        .done();
    let model = "runs/r-1/best.safetensors";
    let run = place.run(&format!("eval {model} photos --report out/deep --json"));
    assert!(
        run.err.contains("wrote out/deep/report.html"),
        "{}",
        run.err
    );
    let document = run.json();
    assert!(document["calibration"]["ece"].is_f64(), "{document}");
    assert_eq!(document["intervals"]["resamples"], 1000);
    assert_eq!(document["intervals"]["unit"], "samples");
    let interval = document["intervals"]["accuracy"].as_array().unwrap();
    let accuracy = document["accuracy"].as_f64().unwrap();
    assert!(interval[0].as_f64().unwrap() <= accuracy && accuracy <= interval[1].as_f64().unwrap());
    // What training wrote about the same split.
    assert_eq!(
        text(&place, "out/deep/predictions.csv"),
        text(&place, "runs/r-1/predictions.csv")
    );
    let summary: serde_json::Value =
        serde_json::from_str(&text(&place, "out/deep/summary.json")).unwrap();
    assert_eq!(summary["scores"]["intervals"], document["intervals"]);
    assert!(text(&place, "out/deep/report.html").contains("Evaluation"));
    let none = place
        .run(&format!("eval {model} photos --resamples 0 --json"))
        .json();
    assert!(none["intervals"].is_null());
    let shown = place.run(&format!("eval {model} photos")).done();
    assert!(
        shown.contains("Calibration error") && shown.contains(" to "),
        "{shown}"
    );
    place.write("file", "x");
    place
        .run(&format!("eval {model} photos --report file"))
        .fails(5, &["file"]);
}

#[test]
fn runs_are_laid_side_by_side() {
    let place = Place::new();
    photos(&place, 16, 10);
    for (name, options) in [("a", "--seed 1"), ("b", "--seed 2 --lr 0.02")] {
        place
            .run(&format!(
                "train photos {TINY} --epochs 2 --name {name} {options}"
            ))
            .done();
    }
    let out = place.run("compare runs/a-1 runs/b-1").done();
    for part in [
        "a-1",
        "b-1",
        "b-1 against a-1",
        "Options that differ",
        "seed",
        "lr ",
    ] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    let document = place.run("compare runs/a-1 runs/b-1 --json").json();
    assert_eq!(document["runs"].as_array().unwrap().len(), 2);
    let accuracy = |i: usize| document["runs"][i]["accuracy"].as_f64().unwrap();
    let difference = document["differences"][0]["accuracy"].as_f64().unwrap();
    assert!((difference - (accuracy(1) - accuracy(0))).abs() < 1e-12);
    assert!(
        place
            .run("compare runs/a-1 runs/b-1 --html c.html")
            .done()
            .contains("a-1")
    );
    let page = text(&place, "c.html");
    assert!(page.contains("Validation loss") && page.contains("2 runs"));

    // A run of an earlier version has no summary and no predictions.
    for file in ["summary.json", "predictions.csv"] {
        std::fs::remove_file(place.path("runs/a-1").join(file)).unwrap();
    }
    let out = place.run("compare runs/a-1 runs/b-1").done();
    assert!(out.contains("—") && !out.contains("against"), "{out}");
    place
        .run("compare runs/c-1")
        .fails(2, &["runs/c-1", "no such folder"]);
    place
        .run("compare photos")
        .fails(2, &["photos", "holds no run"]);
    place.run("compare").fails(2, &["<RUN>"]);
    place.write("runs/b-1/metrics.csv", "no table");
    place.run("compare runs/b-1").fails(4, &["metrics.csv"]);
}

#[test]
fn a_page_that_cannot_be_written_does_not_lose_the_run() {
    let place = Place::new();
    photos(&place, 16, 8);
    let line = format!("train photos {TINY} --epochs 1 --name r");
    place.run(&line).done();
    // A folder in the page's place: the file cannot be renamed over it.
    std::fs::remove_file(place.path("runs/r-1/report.html")).unwrap();
    place.write("runs/r-1/report.html/x", "");
    let run = place.run("train --resume runs/r-1");
    assert!(
        run.err.contains("warning: no report") && run.err.contains("report.html"),
        "{}",
        run.err
    );
    let out = run.done();
    assert!(
        out.contains("test: accuracy") && !out.contains("report.html"),
        "{out}"
    );
    assert!(!place.read("runs/r-1/summary.json").is_empty());
}

#[test]
fn event_files_are_written_when_asked_for() {
    let place = Place::new();
    photos(&place, 16, 8);
    let line = format!("train photos {TINY} --epochs 2 --seed 3");
    place.run(&format!("{line} --name without")).done();
    assert!(!place.path("runs/without-1/tensorboard").exists());
    place
        .run(&format!("{line} --name with --tensorboard"))
        .done();
    let folder = place.path("runs/with-1/tensorboard");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    let name = files[0].file_name().into_string().unwrap();
    assert!(name.starts_with("events.out.tfevents."), "{name}");
    assert!(std::fs::metadata(files[0].path()).unwrap().len() > 500);
    // Listening changes nothing.
    for file in ["metrics.csv", "best.safetensors"] {
        assert!(
            place.read(&format!("runs/with-1/{file}"))
                == place.read(&format!("runs/without-1/{file}")),
            "{file}"
        );
    }
}

#[test]
fn learning_rates_are_tried_without_a_trace() {
    let place = Place::new();
    photos(&place, 16, 10);
    place
        .run(&format!("train photos {TINY} --epochs 1 --name m"))
        .done();
    let model = place.read("runs/m-1/best.safetensors");
    let line = format!("lr-find photos {TINY} --steps 40 --seed 5");
    let one = place.run(&format!("{line} --threads 1 --json")).json();
    let two = place.run(&format!("{line} --threads 3 --json")).json();
    assert_eq!(one, two, "the same numbers at any number of threads");
    let points = one["points"].as_array().unwrap();
    assert!(points.len() > 10, "{one}");
    assert!(points[0]["lr"].as_f64().unwrap() <= 1.01e-6);
    assert!(
        one["suggestion"]
            .as_f64()
            .is_some_and(|lr| (1e-5..10.0).contains(&lr)),
        "{one}"
    );

    let run = place.run(&format!("{line} --out lr"));
    assert!(run.err.contains("wrote lr/lr-find.html"), "{}", run.err);
    let out = run.done();
    assert!(out.contains("Suggestion") && out.contains("--lr "), "{out}");
    assert_eq!(
        text(&place, "lr/lr-find.csv").lines().count(),
        points.len() + 1
    );
    assert!(text(&place, "lr/lr-find.svg").starts_with("<svg"));
    assert!(text(&place, "lr/lr-find.html").contains("learning rate"));

    place
        .run("lr-find photos --model runs/m-1/best.safetensors --batch-size 8 --steps 20")
        .done();
    assert!(place.read("runs/m-1/best.safetensors") == model);
    assert_eq!(
        std::fs::read_dir(place.path("runs")).unwrap().count(),
        1,
        "no run was made"
    );

    for (options, parts) in [
        ("--lr 0.1", &["--lr", "--from"] as &[_]),
        ("--from 0", &["--from"]),
        ("--from 1 --to 0.1", &["--to"]),
        ("--steps 2", &["--steps"]),
    ] {
        place
            .run(&format!("lr-find photos {TINY} {options}"))
            .fails(2, parts);
    }
    place.run("lr-find absent").fails(5, &["absent"]);
}
