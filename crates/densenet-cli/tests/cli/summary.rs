//! `densenet summary`

use serde_json::json;

use crate::support::{Place, run};

#[test]
fn the_table_shows_the_published_numbers() {
    let out = Place::new().run("summary densenet121").done();
    for part in [
        "densenet121 · 2-D · input 1×3×224×224 → output 1×1000",
        "denseblock3 ×24  1024×14×14   2,837,760    549,126,144",
        "7,978,856",
        "29×29",
    ] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    assert!(!out.contains("denselayer"), "{out}");
}

#[test]
fn unfolding_shows_every_operation() {
    let place = Place::new();
    let dense = place.run("summary densenet-40-12 --depth dense").done();
    assert_eq!(dense.matches("denselayer").count(), 36, "{dense}");
    assert!(!dense.contains("BatchNorm"), "{dense}");
    let full = place.run("summary densenet-40-12 --full").done();
    assert!(full.contains("Conv 3×3"), "{full}");
    assert_eq!(
        full,
        place.run("summary densenet-40-12 --depth layers").done()
    );
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let place = Place::new();
    let networks = [
        "densenet121",
        "densenet161 --dims 3 --batch 16",
        "densenet-bc-190-40",
    ];
    for columns in [40usize, 60, 80] {
        for network in networks {
            for depth in ["stages", "dense", "layers"] {
                let line = format!("summary {network} --depth {depth}");
                let mut command = place.command();
                command
                    .args(line.split(' '))
                    .env("COLUMNS", columns.to_string());
                let out = run(&mut command).done();
                for text in out.lines() {
                    let width = text.chars().count();
                    assert!(width <= columns, "{line} at {columns}: {width} in {text}");
                }
            }
        }
    }
}

#[test]
fn the_document_has_the_promised_fields() {
    let place = Place::new();
    let document = place
        .run("summary densenet121 --dims 3 --num-classes 2 --input 96x96x64 --batch 2 --json")
        .json();
    let keys: Vec<_> = document.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "name",
            "config",
            "params",
            "macs",
            "min_input",
            "input_shape",
            "output_shape",
            "layers",
            "memory"
        ]
    );
    assert_eq!(document["name"], "densenet121");
    assert_eq!(document["params"], 11_244_674);
    assert_eq!(document["min_input"], json!([29, 29, 29]));
    assert_eq!(document["input_shape"], json!([2, 1, 96, 96, 64]));
    assert_eq!(document["output_shape"], json!([2, 2]));
    assert_eq!(document["config"]["spatial_dims"], 3);
    assert_eq!(document["config"]["block_config"], json!([6, 12, 24, 16]));
    let layers = document["layers"].as_array().unwrap();
    let keys: Vec<_> = layers[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "name",
            "op",
            "input_shape",
            "output_shape",
            "params",
            "macs"
        ]
    );
    assert_eq!(layers[0]["name"], "features.conv0");
    assert_eq!(layers[0]["output_shape"], json!([2, 64, 48, 48, 32]));
    for pair in layers.windows(2) {
        if pair[1]["op"] != "Concat" {
            assert_eq!(
                pair[0]["output_shape"], pair[1]["input_shape"],
                "{}",
                pair[1]["name"]
            );
        }
    }
    let sum = |key: &str| layers.iter().map(|l| l[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(document["params"], sum("params"));
    assert_eq!(document["macs"], sum("macs"));
    let memory = |key: &str| document["memory"][key].as_u64().unwrap();
    assert!(memory("infer_bytes") > 0 && memory("infer_bytes") < memory("train_bytes"));
}

#[test]
fn inputs_and_configurations_that_cannot_work_are_explained() {
    let place = Place::new();
    for (line, parts) in [
        ("densenet121 --input 28", &["28x28", "29x29"] as &[_]),
        ("densenet121 --input 64x64x64", &["--input", "--dims 3"]),
        ("densenet121 --input abc", &["--input abc", "224x192"]),
        (
            "densenet121 --dims 4",
            &["spatial_dims = 4", "2 for images, 3 for volumes"],
        ),
        (
            "densenet121 --in-channels 0",
            &["in_channels = 0", "smallest value that works is 1"],
        ),
        ("densenet121 --drop-rate 1", &["drop_rate = 1", "[0, 1)"]),
        ("densenet121 --drop-rate nan", &["--drop-rate nan"]),
        ("densenet121 --compression 0", &["compression = 0"]),
        ("densenet121 --block-config 6,x", &["--block-config x"]),
        ("densenet121 --block-config 6,0", &["block_config = 6,0"]),
        (
            "densenet121 --growth-rate 99999999999999999999",
            &["--growth-rate"],
        ),
        (
            "densenet121 --growth-rate 1000000 --block-config 4096,4096",
            &["growth_rate = 1000000", "parameters"],
        ),
        (
            "densenet121 --growth-rate 4000000",
            &["growth_rate = 4000000"],
        ),
        ("densenet121 --stem-kernel 3x7x7", &["--stem-kernel", "2-D"]),
        ("densenet121 --batch 0", &["--batch 0", "at least 1"]),
    ] {
        place.run(&format!("summary {line}")).fails(2, parts);
    }
}

#[test]
fn sizes_beyond_any_machine_are_refused_at_once() {
    let place = Place::new();
    for input in ["--dims 3 --input 60000", "--input 60000 --batch 99"] {
        place
            .run(&format!("summary densenet121 {input}"))
            .fails(7, &["--input", "smaller"]);
    }
    place
        .run("summary densenet121 --input 1x99999")
        .fails(2, &["1x99999", "largest side"]);
}

#[test]
fn a_model_file_names_its_own_network() {
    let place = Place::new();
    place
        .run("init densenet-bc-100-12 --block-config 2,2 --num-classes 7 -o tiny.safetensors")
        .done();
    let document = place.run("summary tiny.safetensors --json").json();
    assert_eq!(document["name"], "tiny");
    assert_eq!(document["output_shape"], json!([1, 7]));
    place
        .run("summary tiny.safetensors --num-classes 3")
        .fails(2, &["tiny.safetensors", "fixes its network"]);
}
