//! `densenet train`, `eval` and `predict`: a whole life of a model, and everything that can go wrong at its start.

use crate::{
    images::{bmp, photos},
    support::{Place, run},
};

/// A network so small that an epoch takes a blink.
const TINY: &str =
    "--model densenet-bc-100-12 --growth-rate 4 --block-config 2,2 --no-augment --batch-size 8";

#[test]
fn train_eval_predict_on_a_folder_of_images() {
    let place = Place::new();
    photos(&place, 16, 14);
    let run = place.run(&format!("train photos {TINY} --epochs 6 --lr 0.1 --seed 1"));
    let err = run.err.clone();
    let out = run.done();
    for part in [
        "runs/photos-1: ",
        "test: accuracy ",
        "\ntraining: ",
        " % of the time waiting for images\n",
        "runs/photos-1/best.safetensors",
        "eval runs/photos-1/best.safetensors photos",
        "predict runs/photos-1/best.safetensors IMAGE",
        "train --config runs/photos-1/config.toml",
    ] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    assert!(err.contains("epoch 6/6"), "{err}");
    for file in [
        "config.toml",
        "metrics.csv",
        "best.safetensors",
        "last.safetensors",
    ] {
        assert!(!place.read(&format!("runs/photos-1/{file}")).is_empty());
    }

    let model = "runs/photos-1/best.safetensors";
    let document = place.run(&format!("eval {model} photos --json")).json();
    for key in [
        "accuracy",
        "loss",
        "macro_auroc",
        "samples",
        "classes",
        "confusion",
    ] {
        assert!(!document[key].is_null(), "{key} in {document}");
    }
    assert_eq!(document["accuracy"], 1.0, "{document}");
    let text = place
        .run(&format!("eval {model} photos --split train"))
        .done();
    assert!(
        text.contains("Accuracy") && text.contains("striped"),
        "{text}"
    );

    let predictions = place
        .run(&format!(
            "predict {model} photos/dark photos/striped/3.bmp --top-k 2 --json"
        ))
        .json();
    let predictions = predictions["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 15);
    for (i, prediction) in predictions.iter().enumerate() {
        let class = if i < 14 { "dark" } else { "striped" };
        assert_eq!(prediction["top"][0]["class"], class, "{prediction}");
        assert_eq!(prediction["top"].as_array().unwrap().len(), 2);
        assert!(
            prediction["top"][0]["index"].is_u64() && prediction["top"][0]["probability"].is_f64()
        );
        assert_eq!(prediction.get("error"), None);
    }
    assert_eq!(predictions[2]["path"], "photos/dark/2.bmp", "natural order");
}

#[test]
fn predict_names_bad_files_and_goes_on() {
    let place = Place::new();
    photos(&place, 16, 6);
    place
        .run(&format!("train photos {TINY} --epochs 1 --name m"))
        .done();
    let model = "runs/m-1/best.safetensors";
    let whole = place.read("photos/dark/1.bmp");
    place.write("mixed/cut.bmp", &whole[..200]);
    place.write("mixed/text.png", "no picture");
    place.write("mixed/empty.jpg", "");
    place.write("mixed/good.bmp", &whole);
    std::fs::create_dir(place.path("nothing")).unwrap();

    let run = place.run(&format!("predict {model} mixed absent.png --json"));
    assert_eq!(run.code, 3, "{}", run.err);
    let document: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let rows = document["predictions"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let good = row["path"] == "mixed/good.bmp";
        assert_eq!(row.get("error").is_none(), good, "{row}");
        assert_eq!(row["top"].as_array().unwrap().is_empty(), !good, "{row}");
    }
    for name in [
        "mixed/cut.bmp",
        "mixed/text.png",
        "mixed/empty.jpg",
        "absent.png",
    ] {
        let line = run
            .err
            .lines()
            .find(|l| l.starts_with(&format!("error: {name}: ")));
        assert!(
            line.is_some_and(|l| l.contains(" — ")),
            "{name}: {}",
            run.err
        );
    }

    let run = place.run(&format!("predict {model} mixed --top-k 1 --csv=table.csv"));
    assert_eq!((run.code, run.out.as_str()), (3, ""));
    let table = String::from_utf8(place.read("table.csv")).unwrap();
    assert!(
        table.starts_with("path,rank,class,index,probability,error\n"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 5, "{table}");
    let printed = place
        .run(&format!("predict {model} mixed/good.bmp --csv"))
        .done();
    assert_eq!(printed.lines().count(), 4, "{printed}");

    let run = place.run(&format!("predict {model} nothing"));
    assert_eq!(run.code, 3);
    run.says(&["nothing", "no image in this folder"]);
    let text = place.run(&format!("predict {model} mixed/good.bmp")).done();
    assert!(
        text.starts_with("mixed/good.bmp\n") && text.contains(" %  "),
        "{text}"
    );
}

#[test]
fn threads_change_no_bit() {
    let place = Place::new();
    photos(&place, 16, 8);
    for threads in [1, 2, 3, 8] {
        place
            .run(&format!(
                "train photos {TINY} --epochs 2 --augment crop:2,hflip,rotate:10 --drop-rate 0.1 --name t{threads} \
                 --threads {threads} --loader-threads {threads}"
            ).replace("--no-augment ", ""))
            .done();
        for file in ["last.safetensors", "best.safetensors", "metrics.csv"] {
            let (one, this) = (
                format!("runs/t1-1/{file}"),
                format!("runs/t{threads}-1/{file}"),
            );
            assert!(
                place.read(&one) == place.read(&this),
                "{file} with {threads} threads"
            );
        }
    }
}

#[test]
fn options_beat_the_file_and_the_file_beats_the_defaults() {
    let place = Place::new();
    photos(&place, 16, 6);
    place.write(
        "mine.toml",
        "data = \"photos\"\nmodel = \"densenet-bc-100-12\"\nblock-config = [2, 2]\ngrowth_rate = 4\nepochs = 2\nbatch_size = 6\nseed = 7\n",
    );
    place
        .run("train --config mine.toml --epochs 1 --batch-size 8 --no-augment")
        .done();
    let config = String::from_utf8(place.read("runs/photos-1/config.toml")).unwrap();
    for line in [
        "epochs = 1",
        "batch_size = 8",
        "seed = 7",
        "growth_rate = 4",
        "augment = \"none\"",
        "momentum = 0.9",
    ] {
        assert!(
            config.lines().any(|l| l == line),
            "{line} is not in:\n{config}"
        );
    }
    place.run("train --config runs/photos-1/config.toml").done();
    assert!(
        place.read("runs/photos-1/last.safetensors")
            == place.read("runs/photos-2/last.safetensors")
    );
}

#[test]
fn fine_tuning_starts_from_a_model_and_leaves_frozen_stages_alone() {
    let place = Place::new();
    photos(&place, 16, 6);
    place
        .run(&format!("train photos {TINY} --epochs 1 --name first"))
        .done();
    place
        .run("train photos --model runs/first-1/last.safetensors --freeze stem,denseblock1 --epochs 1 --batch-size 8 --name second")
        .done();
    let weights = |run: &str| {
        let path = place.path(format!("runs/{run}-1/last.safetensors"));
        densenet_weights::Model::load(&path).unwrap().state
    };
    let (first, second) = (weights("first"), weights("second"));
    for (name, tensor) in first.iter() {
        let frozen =
            name.starts_with("features.conv0") || name.starts_with("features.denseblock1.");
        assert_eq!(second.get(name) == Some(tensor), frozen, "{name}");
    }
    place
        .run("train photos --model runs/first-1/last.safetensors --freeze denseblock9 --epochs 1")
        .fails(2, &["denseblock9"]);
}

#[test]
fn imported_weights_get_a_head_for_the_data() {
    let place = Place::new();
    photos(&place, 32, 5);
    place
        .run("init densenet121 --growth-rate 4 --block-config 2,2 --num-classes 9 -o other.safetensors")
        .done();
    place.run("export other.safetensors -o other.pth").done();
    place
        .run("import other.pth --preprocessing none -o start.safetensors")
        .done();
    let line = "train photos --model start.safetensors --epochs 1 --batch-size 5 --name fine";
    place
        .run(line)
        .fails(2, &["start.safetensors", "--replace-head"]);
    place.run(&format!("{line} --replace-head")).done();
    let document = place
        .run("summary runs/fine-1/best.safetensors --json")
        .json();
    assert_eq!(document["config"]["num_classes"], 3);
    place
        .run("predict runs/fine-1/best.safetensors photos/dark/1.bmp")
        .done();
}

#[test]
fn data_that_cannot_be_learned_from_is_explained() {
    let place = Place::new();
    photos(&place, 16, 5);
    std::fs::create_dir(place.path("empty")).unwrap();
    for i in 0..4 {
        place.write(&format!("alone/cats/{i}.bmp"), bmp(16, |_, _| [9; 3]));
    }
    place.write("sizes/a/0.bmp", bmp(16, |_, _| [0; 3]));
    place.write("hole/a/0.bmp", bmp(16, |_, _| [0; 3]));
    std::fs::create_dir(place.path("hole/b")).unwrap();
    place.write("list.csv", "file,kind\na,b\n");
    place.write("notes.txt", "x");
    place.write("pixels.pkl", b"\x80\x02cos\nsystem\n.");
    for (data, code, parts) in [
        ("absent", 5, &["absent", "no such file"] as &[_]),
        ("empty", 3, &["empty"]),
        ("alone", 3, &["alone", "cats"]),
        ("hole", 3, &["hole", "b"]),
        ("list.csv", 3, &["list.csv", "path"]),
        ("notes.txt", 3, &["notes.txt"]),
        ("pixels.pkl", 3, &["pixels.pkl", "pickle"]),
        (
            "photos/dark/1.bmp",
            3,
            &["photos/dark/1.bmp", "a single image"],
        ),
    ] {
        let run = place.run(&format!("train {data} {TINY} --epochs 1"));
        assert_eq!(
            (run.code, run.out.as_str()),
            (code, ""),
            "{data}: {}",
            run.err
        );
        run.says(parts);
    }
    assert!(!place.path("runs").exists(), "nothing was started");
}

#[test]
fn bad_images_are_listed_before_training() {
    let place = Place::new();
    photos(&place, 16, 12);
    let whole = place.read("photos/dark/1.bmp");
    place.write("photos/dark/broken.bmp", &whole[..300]);
    place.write("photos/bright/text.png", "no picture");
    let run = place.run(&format!("train photos {TINY} --epochs 1"));
    assert_eq!(run.code, 3);
    run.says(&["photos", "2 of 38 images"]);
    for name in ["photos/dark/broken.bmp", "photos/bright/text.png"] {
        assert!(run.err.contains(name), "{name} is not in:\n{}", run.err);
    }
    let run = place.run(&format!("train photos {TINY} --epochs 1 --on-error skip"));
    assert_eq!(run.code, 3, "two are more than a hundredth: {}", run.err);
    run.says(&["may be skipped"]);
    place
        .run(&format!(
            "train photos {TINY} --epochs 1 --on-error skip --max-bad 0.1"
        ))
        .done();
}

#[test]
fn configurations_that_cannot_work_are_explained() {
    let place = Place::new();
    photos(&place, 16, 5);
    place.write("slip.toml", "epochs = 3\nbach_size = 4\n");
    place.write("type.toml", "epochs = \"many\"\n");
    place.write("syntax.toml", "epochs = 3\nlr = = 2\n");
    place.write("net.toml", "growth-rat = 4\n");
    place
        .run("init densenet121 --growth-rate 4 --block-config 2,2 -o raw.safetensors")
        .done();
    for (options, code, parts) in [
        (
            "--config slip.toml",
            2,
            &["slip.toml", "`bach_size`", "did you mean `batch_size`?"] as &[_],
        ),
        (
            "--config net.toml",
            2,
            &["net.toml", "did you mean `growth_rate`?"],
        ),
        ("--config type.toml", 2, &["type.toml", "epochs"]),
        ("--config syntax.toml", 2, &["syntax.toml:2"]),
        ("--config absent.toml", 5, &["absent.toml"]),
        ("--epoch 3", 2, &["--epoch", "did you mean --epochs?"]),
        ("--epochs 0", 2, &["--epochs", "at least 1"]),
        ("--lr -1", 2, &["--lr", "above 0"]),
        ("--lr nan", 2, &["--lr nan"]),
        ("--batch-size 0", 2, &["--batch-size"]),
        (
            "--optimizer sdg",
            2,
            &["--optimizer sdg", "did you mean sgd?"],
        ),
        (
            "--schedule cosin",
            2,
            &["--schedule cosin", "did you mean cosine?"],
        ),
        ("--augment hflp", 2, &["augment", "did you mean `hflip`?"]),
        ("--augment hflip --no-augment", 2, &["--no-augment"]),
        ("--milestones 0.7,0.5", 2, &["--milestones"]),
        ("--class-weights 1,2", 2, &["--class-weights", "3 classes"]),
        ("--mean 0.5,0.5", 2, &["mean", "one number per channel"]),
        (
            "--model densenet122",
            2,
            &["densenet122", "did you mean densenet121?"],
        ),
        (
            "--model absent.safetensors",
            2,
            &["absent.safetensors", "no such model file"],
        ),
        ("--model densenet121", 2, &["16 × 16", "29 × 29"]),
        ("--model densenet-bc-100-12 --dims 3", 2, &["--dims"]),
        ("--model densenet-bc-100-12 --num-classes 7", 2, &["num"]),
        (
            "--model densenet-bc-100-12 --growth-rate 0",
            2,
            &["growth_rate = 0"],
        ),
        (
            "--model raw.safetensors",
            2,
            &["raw.safetensors", "--replace-head"],
        ),
        ("--image-size 0", 2, &["--image-size"]),
        ("--resume absent", 2, &["absent"]),
        ("--threads 0", 2, &["--threads 0"]),
    ] {
        let run = place.run(&format!("train photos {options}"));
        assert_eq!(
            (run.code, run.out.as_str()),
            (code, ""),
            "{options}: {}",
            run.err
        );
        run.says(parts);
    }
    assert!(!place.path("runs").exists(), "nothing was started");
}

#[test]
fn models_and_data_that_do_not_belong_together_are_explained() {
    let place = Place::new();
    photos(&place, 16, 5);
    place.run("init densenet-bc-100-12 --growth-rate 4 --block-config 2,2 --num-classes 3 -o raw.safetensors").done();
    place
        .run("init densenet121 --dims 3 --growth-rate 4 --block-config 2,2 -o volume.safetensors")
        .done();
    place
        .run(&format!("train photos {TINY} --epochs 1 --name m"))
        .done();
    for (line, code, parts) in [
        (
            "predict raw.safetensors photos",
            4,
            &["raw.safetensors", "--preprocessing"] as &[_],
        ),
        (
            "predict volume.safetensors photos",
            4,
            &["volume.safetensors", "volumes"],
        ),
        (
            "predict absent.safetensors photos",
            5,
            &["absent.safetensors"],
        ),
        (
            "predict photos/dark/1.bmp photos",
            4,
            &["photos/dark/1.bmp"],
        ),
        ("predict runs/m-1/best.safetensors", 2, &["missing: <PATH>"]),
        (
            "predict runs/m-1/best.safetensors photos --top-k 0",
            2,
            &["--top-k 0"],
        ),
        (
            "predict runs/m-1/best.safetensors photos --json --csv",
            2,
            &["--json", "--csv"],
        ),
        (
            "eval runs/m-1/best.safetensors digits",
            3,
            &["digits", "class"],
        ),
        ("eval runs/m-1/best.safetensors absent", 5, &["absent"]),
        (
            "eval runs/m-1/best.safetensors photos --split tset",
            2,
            &["--split tset", "did you mean test?"],
        ),
    ] {
        let run = place.run(line);
        assert_eq!(
            (run.code, run.out.as_str()),
            (code, ""),
            "{line}: {}",
            run.err
        );
        run.says(parts);
    }
    let run = place.run("eval raw.safetensors photos");
    assert!([2, 4].contains(&run.code), "{}", run.err);
    run.says(&["how images are prepared"]);
}

#[test]
fn a_diverging_run_stops_before_its_weights_do() {
    let place = Place::new();
    photos(&place, 16, 6);
    let line = format!("train photos {TINY} --epochs 40 --lr 1e30 --schedule constant --warmup 0");
    let run = run(place.command().args(line.split_whitespace()));
    assert_eq!(run.code, 6, "{}", run.err);
    run.says(&["runs/photos-1", "not finite"]);
}
