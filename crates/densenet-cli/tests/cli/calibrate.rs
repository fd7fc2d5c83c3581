//! `densenet calibrate`: the temperature, its place in the model file, and data that no temperature helps.

use crate::{images::photos, support::Place};

const TINY: &str =
    "--model densenet-bc-100-12 --growth-rate 4 --block-config 2,2 --no-augment --batch-size 8";

/// A trained model, and a list of the photographs in which some labels are wrong.
fn trained() -> Place {
    let place = Place::new();
    photos(&place, 16, 14);
    place
        .run(&format!(
            "train photos {TINY} --epochs 4 --lr 0.1 --seed 1 --name m"
        ))
        .done();
    let mut list = String::from("path,label,split\n");
    for (c, class) in ["bright", "dark", "striped"].iter().enumerate() {
        for i in 0..8 {
            let label = if i % 4 == 3 {
                ["bright", "dark", "striped"][(c + 1) % 3]
            } else {
                class
            };
            list.push_str(&format!("photos/{class}/{i}.bmp,{label},val\n"));
        }
    }
    place.write("noisy.csv", list);
    place
}

#[test]
fn a_calibrated_model_is_less_sure_and_says_so() {
    let place = trained();
    let model = "runs/m-1/best.safetensors";
    let line = format!("calibrate {model} noisy.csv --split val -o calm.safetensors");
    let document = place.run(&format!("{line} --json")).json();
    let number = |part: &str, key: &str| document[part][key].as_f64().unwrap();
    let temperature = document["temperature"].as_f64().unwrap();
    assert!(temperature > 1.0, "{document}");
    assert!(
        number("after", "nll") < number("before", "nll"),
        "{document}"
    );
    assert_eq!(document["samples"], 24);
    let run = place.run(&line);
    assert!(run.err.contains("wrote calm.safetensors"), "{}", run.err);
    assert!(run.done().contains("Temperature"));

    // The same answers, less sure; whoever reads the file is told.
    let top = |model: &str| {
        let run = place.run(&format!("predict {model} photos/dark/0.bmp --json"));
        let err = run.err.clone();
        (run.json()["predictions"][0]["top"].clone(), err)
    };
    let ((sure, _), (calm, told)) = (top(model), top("calm.safetensors"));
    assert_eq!(sure[0]["class"], calm[0]["class"]);
    assert!(
        told.contains(&format!("temperature {temperature:.4}")),
        "{told}"
    );
    let log = |top: &serde_json::Value| {
        let p = |i: usize| top[i]["probability"].as_f64().unwrap().ln();
        p(0) - p(1)
    };
    assert!((log(&sure) / log(&calm) - temperature).abs() < 1e-3 * temperature);

    // It survives an export, and another calibration on the same data finds nothing left to do.
    place.run("export calm.safetensors -o calm.onnx").done();
    place.run("import calm.onnx -o back.safetensors").done();
    let (back, told) = top("back.safetensors");
    assert_eq!(back, calm);
    assert!(told.contains("calibrated"), "{told}");
    let again = place
        .run("calibrate back.safetensors noisy.csv -o twice.safetensors --json")
        .json();
    assert!(
        (again["temperature"].as_f64().unwrap() - 1.0).abs() < 1e-5,
        "{again}"
    );
    let total = again["total_temperature"].as_f64().unwrap();
    assert!((total / temperature - 1.0).abs() < 1e-5);
}

#[test]
fn what_no_temperature_helps_is_refused() {
    let place = trained();
    let model = "runs/m-1/best.safetensors";
    let wrong = "path,label,split\nphotos/bright/0.bmp,dark,val\nphotos/dark/0.bmp,bright,val\n\
                 photos/bright/1.bmp,dark,val\nphotos/dark/1.bmp,striped,val\nphotos/striped/1.bmp,bright,val\n";
    place.write("wrong.csv", wrong);
    place
        .run(&format!("calibrate {model} wrong.csv -o x.safetensors"))
        .fails(3, &["wrong.csv", "no better than guessing"]);
    assert!(!place.path("x.safetensors").exists());
    place
        .run(&format!("calibrate {model} missing.csv -o x.safetensors"))
        .fails(5, &["missing.csv"]);
    place
        .run(&format!(
            "calibrate {model} noisy.csv --split test -o x.safetensors"
        ))
        .fails(3, &["test"]);
}
