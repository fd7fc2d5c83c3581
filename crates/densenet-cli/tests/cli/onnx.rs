//! `densenet export -o FILE.onnx` and `densenet import FILE.onnx`.

use crate::support::{Place, noted};

const TINY: &str =
    "init densenet121 --growth-rate 4 --num-init-features 8 --block-config 2,2 --num-classes 3";

/// A place with a tiny model and its export.
fn tiny() -> Place {
    let place = Place::new();
    place.run(&format!("{TINY} -o tiny.safetensors")).done();
    place.run("export tiny.safetensors -o tiny.onnx").done();
    place
}

#[test]
fn a_model_comes_back_as_it_was() {
    let place = tiny();
    for options in [
        "",
        "--dynamic none",
        "--dynamic batch,spatial --opset 28",
        "--dynamic spatial --batch 4",
        "--batch 4 --input 64x75 --opset 13",
        "--input-name image --output-name class --model-version 7",
    ] {
        place
            .run(&format!("export tiny.safetensors -o again.ONNX {options}"))
            .done();
        noted(
            place.run("import again.ONNX -o back.safetensors --preprocessing none"),
            &["again.ONNX: read as ONNX, written by densenet"],
        );
        assert!(
            place.read("back.safetensors") == place.read("tiny.safetensors"),
            "{options}"
        );
    }
}

#[test]
fn what_is_written_and_converted_is_said() {
    let place = tiny();
    noted(
        place.run("export tiny.safetensors -o a.onnx --dynamic spatial --fold --f16 --softmax"),
        &["wrote a.onnx: ONNX opset 17, input [1, 3, height, width], "],
    );
    // Called otherwise, its first byte tells.
    std::fs::rename(place.path("a.onnx"), place.path("a.bin")).unwrap();
    noted(
        place.run("import a.bin -o back.safetensors --drop-rate 0.1"),
        &[
            "note: 5 batch norms had become part of the convolution before",
            "note: 11 tensors of another precision became f32",
            "note: the softmax at the end is left out",
            "wrote back.safetensors: 2-D, 3 channels, blocks 2,2",
        ],
    );
    let document = place.run("summary back.safetensors --json").json();
    assert_eq!(document["config"]["drop_rate"], 0.1);
    place
        .run(&format!("{TINY} --dims 3 -o volume.safetensors"))
        .done();
    noted(
        place.run("export volume.safetensors -o volume.onnx --input 40x48x56"),
        &["input [batch, 1, 40, 48, 56]"],
    );
}

#[test]
fn both_ends_are_replaced_when_asked() {
    let place = tiny();
    // As from weights in any other file: the same model, tensor by tensor.
    place.run("export tiny.safetensors -o tiny.pth").done();
    let options = "--num-classes 5 --in-channels 1 --adapt-input sum --seed 7";
    noted(
        place.run(&format!("import tiny.onnx -o graph.safetensors {options}")),
        &[
            "from 3 to 1 input channels (sum)",
            "classifier for 3 classes was replaced by a fresh one for 5",
        ],
    );
    place
        .run(&format!("import tiny.pth -o weights.safetensors {options}"))
        .done();
    for name in ["graph", "weights"] {
        place
            .run(&format!("export {name}.safetensors -o {name}.pth"))
            .done();
    }
    assert!(place.read("graph.pth") == place.read("weights.pth"));
    // What it is already is no change.
    place
        .run("import tiny.onnx --num-classes 3 --in-channels 3 -o same.safetensors --preprocessing none")
        .done();
    assert!(place.read("same.safetensors") == place.read("tiny.safetensors"));
}

#[test]
fn slips_are_explained() {
    let place = tiny();
    for (line, code, parts) in [
        (
            "export tiny.safetensors -o x.onnx --opset 12",
            2,
            &["opset: 12", "13 to 28"] as &[_],
        ),
        (
            "export tiny.safetensors -o x.onnx --dialect monai",
            2,
            &["--dialect", "leave it out"],
        ),
        (
            "export tiny.safetensors -o x.pth --fold",
            2,
            &["x.pth", "--fold", ".onnx"],
        ),
        (
            "export tiny.safetensors -o x.onnx --dynamic bach",
            2,
            &["bach", "did you mean batch?"],
        ),
        (
            "export tiny.safetensors -o x.onnx --dynamic none,batch",
            2,
            &["--dynamic: none stands alone"],
        ),
        (
            "export tiny.safetensors -o x.onnx --dynamic batch --batch 2",
            2,
            &["--batch: fixes what --dynamic batch leaves open"],
        ),
        (
            "export tiny.safetensors -o x.onnx --dynamic spatial --input 64",
            2,
            &["--input: fixes what --dynamic spatial leaves open"],
        ),
        (
            "export tiny.safetensors -o x.onnx --input 1",
            2,
            &["input: 1x1", "too small"],
        ),
        (
            "export tiny.safetensors -o x.onnx --input 64x64x64",
            2,
            &["--input", "2-D"],
        ),
        (
            "export tiny.safetensors -o x.onnx --input-name classifier.bias",
            2,
            &["`classifier.bias` cannot be the name"],
        ),
        (
            "export tiny.safetensors -o absent/x.onnx",
            5,
            &["absent/x.onnx"],
        ),
        (
            "export tiny.onnx -o x.onnx",
            4,
            &["tiny.onnx", "an ONNX file", "densenet import"],
        ),
        (
            "export tiny.safetensors -o ./tiny.safetensors",
            2,
            &["--output", "the model itself"],
        ),
        ("export tiny.safetensors -o x.bin", 2, &["x.bin", ".onnx"]),
        (
            "export tiny.safetensors -o x.onnx --model-version -1",
            2,
            &["--model-version -1", "0 or more"],
        ),
        ("import absent.onnx -o x", 5, &["absent.onnx"]),
        (
            "import tiny.onnx -o x --dialect monai",
            2,
            &["--dialect", "tiny.onnx"],
        ),
        (
            "import tiny.onnx -o x --in-channels 1",
            2,
            &["--in-channels 1", "3 channels", "--adapt-input"],
        ),
        (
            "import tiny.onnx -o x --adapt-input sum",
            2,
            &["--adapt-input", "--in-channels N"],
        ),
        (
            "import tiny.onnx -o x --num-classes 0",
            2,
            &["num_classes: 0"],
        ),
        (
            "import tiny.onnx -o x --stem-stride 1",
            2,
            &["tiny.onnx", "its graph says which network it is"],
        ),
        ("import tiny.onnx -o x --dims 3", 2, &["--dims 3", "2-D"]),
    ] {
        place.run(line).fails(code, parts);
    }
}

#[test]
fn broken_files_are_named() {
    let place = tiny();
    let whole = place.read("tiny.onnx");
    place.write("empty.onnx", b"");
    place.write("text.onnx", b"no model at all");
    for length in [1, 10, 100, whole.len() / 2, whole.len() - 1] {
        place.write("cut.onnx", &whole[..length]);
        place
            .run("import cut.onnx -o x")
            .fails(4, &["cut.onnx", "damaged"]);
    }
    for name in ["empty.onnx", "text.onnx"] {
        place
            .run(&format!("import {name} -o x"))
            .fails(4, &[name, "no ONNX file"]);
    }
    // Not a DenseNet any more.
    let mut other = whole.clone();
    let relu = whole.windows(6).position(|w| w == b"\x22\x04Relu").unwrap();
    other[relu + 2..relu + 6].copy_from_slice(b"Tanh");
    place.write("other.onnx", other);
    place
        .run("import other.onnx -o x")
        .fails(4, &["other.onnx: node `/features/relu0` (Tanh)"]);
    assert!(!place.path("x").exists());
}
