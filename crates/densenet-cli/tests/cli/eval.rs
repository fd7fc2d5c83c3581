//! `densenet eval` beyond one answer for each sample: several models, changed copies, calibrated models, patients.

use serde_json::Value;

use crate::{images::photos, support::Place};

const TINY: &str =
    "--model densenet-bc-100-12 --growth-rate 4 --block-config 2,2 --no-augment --batch-size 8";

/// Two models of the same photographs that are not quite of one mind.
fn two_models() -> Place {
    let place = Place::new();
    photos(&place, 16, 10);
    for (seed, epochs) in [(1, 1), (2, 2)] {
        let line = format!("train photos {TINY} --epochs {epochs} --seed {seed} --name s{seed}");
        place.run(&line).done();
    }
    place
}

const FIRST: &str = "runs/s1-1/last.safetensors";
const SECOND: &str = "runs/s2-1/last.safetensors";

/// `predictions.csv`'s probabilities, a row for each sample.
fn probabilities(place: &Place, file: &str) -> Vec<Vec<f64>> {
    let table = String::from_utf8(place.read(file)).unwrap();
    let rows = table.lines().skip(1);
    rows.map(|row| {
        let cells = row.split(',').skip(5);
        cells.map(|cell| cell.parse().unwrap()).collect()
    })
    .collect()
}

#[test]
fn the_mean_of_several_answers_is_measured() {
    let place = two_models();
    let eval = |line: &str, report: &str| -> Value {
        place
            .run(&format!("eval {line} --report {report} --json"))
            .json()
    };
    let first = eval(&format!("{FIRST} photos"), "first");
    let second = eval(&format!("{SECOND} photos"), "second");
    assert_eq!(first.get("votes"), None);
    let both = eval(&format!("{FIRST} photos --ensemble {SECOND}"), "both");
    assert_eq!(both["votes"], 2);
    assert_eq!(both["accuracies"][0], first["accuracy"]);
    assert_eq!(both["accuracies"][1], second["accuracy"]);
    let rows = ["first", "second", "both"]
        .map(|report| probabilities(&place, &format!("{report}/predictions.csv")));
    let [a, b, mean] = &rows;
    assert_eq!(mean.len() as u64, both["samples"].as_u64().unwrap());
    for ((a, b), mean) in a.iter().zip(b).zip(mean) {
        for ((a, b), mean) in a.iter().zip(b).zip(mean) {
            assert!(((a + b) / 2.0 - mean).abs() < 1e-6, "{a} {b} {mean}");
        }
    }
    // The same at any number of threads and any batch size.
    let again = eval(
        &format!("{FIRST} photos --ensemble {SECOND} --threads 1 --batch-size 3"),
        "again",
    );
    assert_eq!(again, both);
    assert_eq!(
        place.read("again/predictions.csv"),
        place.read("both/predictions.csv")
    );

    let text = place
        .run(&format!(
            "eval {FIRST} photos --ensemble {SECOND} --tta flips"
        ))
        .done();
    assert!(
        text.contains("Answers") && text.contains("8 for each image"),
        "{text}"
    );
    assert!(text.contains("and 1 more with all mirror images"), "{text}");
}

#[test]
fn copies_are_those_of_predict() {
    let place = two_models();
    place.write(
        "one.csv",
        "path,label,split\nphotos/bright/0.bmp,bright,test\nphotos/dark/1.bmp,dark,test\n\
         photos/striped/2.bmp,striped,test\n",
    );
    let line = "--tta flips --json";
    place
        .run(&format!("eval {FIRST} one.csv --report r {line}"))
        .json();
    let measured = probabilities(&place, "r/predictions.csv");
    let document = place
        .run(&format!(
            "predict {FIRST} photos/bright/0.bmp photos/dark/1.bmp photos/striped/2.bmp {line}"
        ))
        .json();
    for (row, prediction) in measured
        .iter()
        .zip(document["predictions"].as_array().unwrap())
    {
        for class in prediction["top"].as_array().unwrap() {
            let own = row[class["index"].as_u64().unwrap() as usize];
            let p = class["probability"].as_f64().unwrap();
            assert!((own - p).abs() < 1e-6, "{own} {p}");
        }
    }
    // Random copies: the same ones each time.
    let random = || {
        let line = format!("eval {FIRST} photos --tta 3 --tta-augment rotate:20 --json");
        place.run(&line).json()
    };
    assert_eq!(random(), random());
    assert_eq!(random()["votes"], 3);
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    let place = two_models();
    let fails = |options: &str, code, parts: &[&str]| {
        place
            .run(&format!("eval {FIRST} photos {options}"))
            .fails(code, parts);
    };
    fails("--ensemble absent.safetensors", 5, &["absent.safetensors"]);
    fails("--tta-augment rotate:5", 2, &["--tta"]);
    fails("--tta hflip --tta-augment rotate:5", 2, &["--tta-augment"]);
    fails("--tta 1", 2, &["copies"]);
    place.run("train digits --epochs 1 --name d").done();
    fails(
        "--ensemble runs/d-1/last.safetensors",
        4,
        &["runs/d-1/last.safetensors", "10 classes"],
    );
}

#[test]
fn a_calibrated_model_is_called_so() {
    let place = two_models();
    let silent = place.run(&format!("eval {FIRST} photos"));
    assert!(!silent.err.contains("calibrated"), "{}", silent.err);
    let line = format!("calibrate {FIRST} photos --split train -o calm.safetensors --json");
    let temperature = place.run(&line).json()["temperature"].as_f64().unwrap();
    let told = format!("calm.safetensors: calibrated, temperature {temperature:.4}");
    for options in ["", "--tta hflip"] {
        let run = place.run(&format!("eval calm.safetensors photos {options}"));
        assert_eq!(run.err.matches(&told).count(), 1, "{}", run.err);
        run.done();
    }
}

/// Twenty pictures of four patients each, of which a label is wrong for a whole patient or for none of them.
#[test]
fn intervals_draw_whole_patients() {
    let place = two_models();
    let mut grouped = String::from("path,label,split,group\n");
    let mut single = String::from("path,label,split\n");
    for (c, class) in ["bright", "dark", "striped"].iter().enumerate() {
        for i in 0..10 {
            // The second of each class's two patients has wrong labels.
            let label = ["bright", "dark", "striped"][(c + i / 5) % 3];
            grouped.push_str(&format!(
                "photos/{class}/{i}.bmp,{label},test,p{c}-{}\n",
                i / 5
            ));
            single.push_str(&format!("photos/{class}/{i}.bmp,{label},test\n"));
        }
    }
    place.write("grouped.csv", grouped);
    place.write("single.csv", single);
    let eval = |list: &str| place.run(&format!("eval {SECOND} {list} --json")).json();
    let (grouped, single) = (eval("grouped.csv"), eval("single.csv"));
    assert_eq!(grouped["accuracy"], single["accuracy"]);
    assert_eq!(
        [&grouped, &single].map(|d| d["intervals"]["unit"].clone()),
        ["groups", "samples"]
    );
    let width = |document: &Value| {
        let ends = document["intervals"]["accuracy"].as_array().unwrap();
        ends[1].as_f64().unwrap() - ends[0].as_f64().unwrap()
    };
    assert!(
        width(&grouped) > 1.3 * width(&single),
        "{} {}",
        grouped["intervals"]["accuracy"],
        single["intervals"]["accuracy"]
    );
}
