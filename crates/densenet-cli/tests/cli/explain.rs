//! `predict --explain`, ensembles and copies, and `import --inflate`.

use densenet_data::{
    Samples, Space, decode_file, decode_volume,
    volume::{Grid, nifti_gz},
};

use crate::{
    images::bmp,
    support::{Place, Run, noted},
};

const IMAGES: &str = r#"{"channels": 3, "resize": {"shorter_side": 40}, "crop": [36, 36],
    "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}"#;
const VOLUMES: &str = r#"{"channels": 1, "mean": [0], "std": [1], "volume":
    {"orientation": "RAS", "spacing": [2, 2, 2], "normalize": "zscore", "size": {"crop": [16, 16, 16]}}}"#;

/// A model with random weights and the given preprocessing.
fn model(place: &Place, name: &str, options: &str, preprocessing: &str) {
    place.write("steps.json", preprocessing);
    let classes = match options.contains("--num-classes") {
        true => "",
        false => "--num-classes 4",
    };
    place
        .run(&format!(
            "init densenet121 --growth-rate 6 --num-init-features 10 --block-config 2,2 {classes} {options} -o raw.safetensors"
        ))
        .done();
    place
        .run(&format!(
            "import raw.safetensors --preprocessing steps.json -o {name}"
        ))
        .done();
}

/// A picture with a bright square.
fn photo(place: &Place, name: &str) {
    let inside = |x: u32, y: u32| (10..26).contains(&x) && (30..44).contains(&y);
    let bytes = bmp(64, |x, y| {
        if inside(x, y) {
            [250, 180, 60]
        } else {
            [(3 * x) as u8, 40, (2 * y) as u8]
        }
    });
    place.write(name, bytes);
}

/// A scan whose axes point to the left, the back and upwards, in steps of 1, 2 and 3 mm.
fn scan(place: &Place, name: &str) -> Grid {
    let grid = Grid {
        spatial: [12, 20, 40],
        space: Space {
            affine: [
                [-1.0, 0.0, 0.0, 18.0],
                [0.0, -2.0, 0.0, 25.0],
                [0.0, 0.0, 3.0, -7.0],
            ],
        },
    };
    let value = |i: usize| ((i * 7919) % 101) as f32 + if i % 40 > 25 { 200.0 } else { 0.0 };
    let values: Vec<f32> = (0..12 * 20 * 40).map(value).collect();
    place.write(name, nifti_gz(&values, &grid, "").unwrap());
    grid
}

#[test]
fn every_method_draws_over_the_photograph() {
    let place = Place::new();
    model(&place, "m.safetensors", "--seed 3", IMAGES);
    photo(&place, "photo.bmp");
    let likeliest = place.run("predict m.safetensors photo.bmp --json").json();
    let likeliest = &likeliest["predictions"][0]["top"][0];
    for (method, options) in [
        ("cam", ""),
        ("gradcam", "--explain-layer transition1"),
        ("occlusion", "--explain-window 12 --explain-baseline mean"),
        (
            "integrated-gradients",
            "--explain-steps 4 --explain-baseline -1.5",
        ),
    ] {
        let line = format!(
            "predict m.safetensors photo.bmp --explain maps --explain-method {method} {options} --json"
        );
        let document = place.run(&line).json();
        let explained = &document["predictions"][0]["explanations"][0];
        assert_eq!(explained["method"], method);
        assert_eq!(explained["index"], likeliest["index"]);
        assert!(explained["low"].as_f64().unwrap() < explained["high"].as_f64().unwrap());
        assert_eq!(explained.get("layer").is_some(), method == "gradcam");
        let class = likeliest["class"].as_str().unwrap();
        let file = format!("maps/photo-{class}-{method}.png");
        assert_eq!(explained["files"], serde_json::json!([file]));
        // Image and overlay of 384 pixels a side, title and colour bar.
        let picture = decode_file(&place.path(&file)).unwrap();
        assert!(picture.spatial()[1] > 384 && picture.spatial()[2] > 2 * 384);
    }
    // Two classes, and two files of one name.
    photo(&place, "other/photo.bmp");
    let line =
        "predict m.safetensors photo.bmp other --explain two --explain-class 1 --explain-class 2";
    place.run(line).done();
    for file in [
        "photo-1-cam",
        "photo-2-cam",
        "photo-1-cam-2",
        "photo-2-cam-2",
    ] {
        assert!(place.path(format!("two/{file}.png")).is_file(), "{file}");
    }
}

#[test]
fn a_map_lies_on_the_scan_it_is_of() {
    let place = Place::new();
    model(&place, "m.safetensors", "--dims 3 --seed 3", VOLUMES);
    let grid = scan(&place, "scan.nii.gz");
    for method in ["cam", "gradcam"] {
        let line = format!(
            "predict m.safetensors scan.nii.gz --explain maps --explain-method {method} --explain-class 2 --json"
        );
        let document = place.run(&line).json();
        let explained = &document["predictions"][0]["explanations"][0];
        let files = [
            format!("maps/scan-2-{method}.nii.gz"),
            format!("maps/scan-2-{method}.png"),
        ];
        assert_eq!(explained["files"], serde_json::json!(files));
        let map = decode_volume(&place.path(&files[0])).unwrap();
        assert_eq!(
            (map.spatial(), map.space()),
            (grid.spatial, Some(grid.space))
        );
        let Samples::F32(values) = map.samples() else {
            panic!("f32")
        };
        // The network sees 32 of 40 mm from side to side, and of the front and the back; beyond that, the map is 0.
        let at = |d: usize, h: usize, w: usize| values[(d * 20 + h) * 40 + w];
        assert_eq!(
            [at(6, 10, 0), at(6, 0, 20), at(6, 19, 20), at(6, 10, 39)],
            [0.0; 4]
        );
        let seen = values.iter().filter(|v| **v != 0.0).count();
        assert!(method != "cam" || seen > 12 * 14 * 28, "{seen}");
        let high = explained["high"].as_f64().unwrap() as f32;
        assert!(values.iter().all(|v| *v <= high * 1.0001 + 1e-6));
        let picture = decode_file(&place.path(&files[1])).unwrap();
        assert!(picture.spatial()[2] > 600);
    }
}

#[test]
fn what_cannot_be_explained_is_said() {
    let place = Place::new();
    model(&place, "m.safetensors", "", IMAGES);
    photo(&place, "photo.bmp");
    let fails = |options: &str, code: i32, parts: &[&str]| {
        let run: Run = place.run(&format!("predict m.safetensors photo.bmp {options}"));
        run.fails(code, parts);
    };
    fails("--explain-layer norm5", 2, &["--explain"]);
    fails(
        "--explain maps --explain-layer norm5",
        2,
        &["--explain-layer", "cam has none", "gradcam"],
    );
    fails(
        "--explain maps --explain-method gradcam --explain-layer denseblok1",
        2,
        &["--explain-layer denseblok1", "did you mean denseblock1?"],
    );
    fails(
        "--explain maps --explain-method gradcam --explain-layer classifier",
        2,
        &["global pooling"],
    );
    fails(
        "--explain maps --explain-class 4",
        2,
        &["--explain-class 4", "0 to 3"],
    );
    fails(
        "--explain maps --explain-method occlusion --explain-window 37",
        2,
        &["photo.bmp", "--explain-window"],
    );
    fails(
        "--explain maps --explain-method occlusion --explain-stride 0",
        2,
        &["--explain-stride", "at least 1"],
    );
    fails("--explain maps --tta hflip", 2, &["--explain", "--tta"]);
    fails("--explain photo.bmp", 5, &["photo.bmp"]);
    fails(
        "--explain maps --explain-method occlusion --explain-baseline x",
        2,
        &["no baseline"],
    );
}

#[test]
fn several_answers_are_averaged_and_their_spread_told() {
    let place = Place::new();
    model(&place, "a.safetensors", "--seed 3", IMAGES);
    model(&place, "b.safetensors", "--seed 4", IMAGES);
    photo(&place, "photo.bmp");
    let probabilities = |line: &str| {
        let document = place.run(&format!("{line} photo.bmp --json")).json();
        let row = document["predictions"][0].clone();
        let mut all = vec![0.0; 4];
        for c in row["top"].as_array().unwrap() {
            all[c["index"].as_u64().unwrap() as usize] = c["probability"].as_f64().unwrap();
        }
        (all, row)
    };
    let (a, alone) = probabilities("predict a.safetensors");
    assert_eq!(
        (alone.get("votes"), alone["top"][0].get("std")),
        (None, None)
    );
    let (b, _) = probabilities("predict b.safetensors");
    let (both, row) = probabilities("predict a.safetensors --ensemble b.safetensors");
    assert_eq!(row["votes"], 2);
    for ((a, b), mean) in a.iter().zip(&b).zip(&both) {
        assert!(((a + b) / 2.0 - mean).abs() < 1e-12);
    }
    let first = &row["top"][0];
    let [p, std, min, max] =
        ["probability", "std", "min", "max"].map(|k| first[k].as_f64().unwrap());
    assert!(min <= p && p <= max && (std - (max - min) / 2.0).abs() < 1e-12);
    let (_, row) = probabilities("predict a.safetensors --ensemble b.safetensors --tta flips");
    assert_eq!(row["votes"], 8);
    let (first, row) = probabilities("predict a.safetensors --tta 3 --tta-augment rotate:20");
    assert_eq!(row["votes"], 3);
    let (again, _) =
        probabilities("predict a.safetensors --tta 3 --tta-augment rotate:20 --threads 1");
    assert_eq!(first, again);
    let text = place
        .run("predict a.safetensors --ensemble b.safetensors photo.bmp")
        .done();
    assert!(text.contains('±') && text.contains("answers"), "{text}");
    let table = place
        .run("predict a.safetensors --tta hflip photo.bmp --csv")
        .done();
    assert!(
        table.starts_with("path,rank,class,index,probability,error,std,min,max,disagreement\n")
    );

    model(&place, "c.safetensors", "--seed 4 --num-classes 3", IMAGES);
    model(&place, "d.safetensors", "--seed 4 --dims 3", VOLUMES);
    place.write("names.txt", "ant\nbee\ncat\ndog\n");
    place
        .run("import a.safetensors --classes names.txt -o named.safetensors")
        .done();
    let fails = |options: &str, code: i32, parts: &[&str]| {
        let run: Run = place.run(&format!("predict a.safetensors photo.bmp {options}"));
        run.fails(code, parts);
    };
    fails(
        "--ensemble c.safetensors",
        4,
        &["c.safetensors", "3 classes", "a.safetensors"],
    );
    fails(
        "--ensemble d.safetensors",
        4,
        &["d.safetensors", "is for volumes"],
    );
    fails(
        "--ensemble named.safetensors",
        4,
        &["named.safetensors", "`0`"],
    );
    fails("--ensemble none.safetensors", 5, &["none.safetensors"]);
    fails("--tta 1", 2, &["--tta", "2 to 1000"]);
    fails("--tta flips --tta-augment rotate:5", 2, &["--tta-augment"]);
    fails(
        "--tta 4 --tta-augment noise:0.1",
        2,
        &["--tta-augment", "volumes"],
    );
    fails("--tta 4 --tta-augment spin:3", 2, &["spin"]);
}

/// Members of an ensemble may name their classes in another order.
#[test]
fn an_ensemble_goes_by_the_names_of_the_classes() {
    let place = Place::new();
    model(&place, "m.safetensors", "--seed 3", IMAGES);
    photo(&place, "photo.bmp");
    place.write("names.txt", "ant\nbee\ncat\ndog\n");
    place.write("other.txt", "dog\nbee\nant\ncat\n");
    place
        .run("import m.safetensors --classes names.txt -o a.safetensors")
        .done();
    place
        .run("import m.safetensors --classes other.txt -o b.safetensors")
        .done();
    let top = |line: &str| {
        let document = place
            .run(&format!("predict {line} photo.bmp --json"))
            .json();
        let rows = document["predictions"][0]["top"]
            .as_array()
            .unwrap()
            .clone();
        move |class: &str| {
            let row = rows.iter().find(|r| r["class"] == class).unwrap();
            row["probability"].as_f64().unwrap()
        }
    };
    let (a, b) = (top("a.safetensors"), top("b.safetensors"));
    let both = top("a.safetensors --ensemble b.safetensors");
    for class in ["ant", "bee", "cat", "dog"] {
        assert!(
            ((a(class) + b(class)) / 2.0 - both(class)).abs() < 1e-12,
            "{class}"
        );
    }
}

#[test]
fn weights_for_images_become_weights_for_volumes() {
    let place = Place::new();
    place
        .run("init densenet121 --growth-rate 6 --num-init-features 10 --block-config 2,2 --num-classes 4 -o flat.safetensors")
        .done();
    place.run("export flat.safetensors -o flat.pth").done();
    noted(
        place.run("import flat.pth --inflate mean -o deep.safetensors"),
        &[
            "repeated along the depth",
            "wrote deep.safetensors: 3-D, 3 channels",
            "--preprocessing",
        ],
    );
    noted(
        place.run("import flat.pth --inflate center --in-channels 1 --adapt-input sum --num-classes 2 -o one.safetensors"),
        &["middle plane", "3-D, 1 channel", "2 classes"],
    );
    let summary = place.run("summary deep.safetensors --json").json();
    assert_eq!(summary["config"]["spatial_dims"], 3);
    place.write("volumes.json", VOLUMES);
    place
        .run("import flat.pth --inflate mean --in-channels 1 --adapt-input mean --preprocessing volumes.json -o ready.safetensors")
        .done();
    scan(&place, "scan.nii.gz");
    place.run("predict ready.safetensors scan.nii.gz").done();
    place
        .run("import deep.safetensors --inflate mean -o again.safetensors")
        .fails(2, &["inflate", "for volumes already"]);
    place
        .run("import flat.pth --inflate mean --preprocessing imagenet -o x.safetensors")
        .fails(2, &["--preprocessing", "steps are for images"]);
    place
        .run("import flat.pth --inflate twice -o x.safetensors")
        .fails(2, &["--inflate"]);
}
