//! `view`: pages in files, the server, and `summary --graph`.

use std::io::{BufRead, BufReader, Read, Write};

use densenet_data::npy;

use crate::support::Place;

const TINY: &str = "init densenet-bc-100-12 --block-config 2,2 --num-classes 3 -o tiny.safetensors";

fn page(place: &Place, name: &str) -> String {
    String::from_utf8(place.read(name)).unwrap()
}

/// The JSON document with this id.
fn data(html: &str, id: &str) -> serde_json::Value {
    let (_, rest) = html.split_once(&format!("id=\"{id}\">")).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_preset_becomes_one_file_that_is_the_same_every_time() {
    let place = Place::new();
    for name in ["a.html", "b.html"] {
        place
            .run(&format!(
                "view densenet121 --dims 3 --no-time --html {name}"
            ))
            .done();
    }
    assert!(place.read("a.html") == place.read("b.html"));
    let html = page(&place, "a.html");
    let printed = place.run("view densenet121 --dims 3 --no-time --html -");
    assert!(printed.done() == html);
    let document = data(&html, "data");
    assert_eq!(document["name"], "densenet121");
    assert_eq!(document["dims"], 3);
    assert_eq!(document["input"], serde_json::json!([1, 96, 96, 96]));
    assert_eq!(document["has_weights"], false);
    assert!(document.get("time").is_none());
    assert!(html.contains("id=\"seen\"></script>"));
}

#[test]
fn a_model_shows_its_weights_times_and_what_it_sees() {
    let place = Place::new();
    place.run(TINY).done();
    let numbers: Vec<f32> = (0..3 * 16 * 16).map(|i| (i % 23) as f32 / 23.0).collect();
    let bytes = npy::to_bytes(&[3, 16, 16], &numbers).unwrap();
    place.write("x.npy", bytes);
    place
        .run("view tiny.safetensors --image x.npy --html tiny.html --threads 1")
        .done();
    let html = page(&place, "tiny.html");
    let document = data(&html, "data");
    assert_eq!(document["has_weights"], true);
    assert_eq!(document["time"]["threads"], 1);
    assert!(document["time"]["stages"]["denseblock1"].as_f64().unwrap() > 0.0);
    let seen = data(&html, "seen");
    assert_eq!(seen["file"], "x.npy");
    let sum: f64 = seen["top"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-3);
    assert_eq!(seen["cams"].as_array().unwrap().len(), 3);
    assert_eq!(seen["stages"][1]["name"], "denseblock1");
}

/// A NIfTI file of 16³ voxels that rise from 0 to 1.
fn nifti() -> Vec<u8> {
    let mut bytes = vec![0; 352];
    bytes[..4].copy_from_slice(&348i32.to_le_bytes());
    for (at, number) in [(40, 3i16), (42, 16), (44, 16), (46, 16), (70, 16), (72, 32)] {
        bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
    }
    for (at, number) in [(80, 1f32), (84, 1.0), (88, 1.0), (108, 352.0), (112, 1.0)] {
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    bytes[344..348].copy_from_slice(b"n+1\0");
    let voxels = (0..4096).flat_map(|i| (i as f32 / 4095.0).to_le_bytes());
    bytes.extend(voxels);
    bytes
}

#[test]
fn a_volume_is_prepared_as_the_model_says() {
    let place = Place::new();
    place
        .run("init densenet-bc-100-12 --block-config 2,2 --num-classes 3 --dims 3 -o raw.safetensors")
        .done();
    place.write("scan.nii", nifti());
    place
        .run("view raw.safetensors --image scan.nii --html x.html")
        .fails(4, &["raw.safetensors", "how volumes are prepared", ".npy"]);
    let steps = r#"{"channels": 1, "mean": [0], "std": [1], "volume": {"size": {"resize": [12, 16, 10]}, "normalize": "zscore"}}"#;
    place.write("steps.json", steps);
    place
        .run("import raw.safetensors --preprocessing steps.json -o scans.safetensors")
        .done();
    place
        .run("view scans.safetensors --image scan.nii --no-time --html scan.html")
        .done();
    let html = page(&place, "scan.html");
    assert_eq!(
        data(&html, "data")["input"],
        serde_json::json!([1, 12, 16, 10])
    );
    let seen = data(&html, "seen");
    assert_eq!(seen["file"], "scan.nii");
    assert_eq!(seen["input"]["shape"], serde_json::json!([12, 16, 10]));
    // The classes are those of `predict`.
    let predicted = place
        .run("predict scans.safetensors scan.nii --json")
        .json();
    let top = &predicted["predictions"][0]["top"][0];
    assert_eq!(seen["top"][0]["index"], top["index"]);
    place.write("broken.nii", &nifti()[..400]);
    place
        .run("view scans.safetensors --image broken.nii --html x.html")
        .fails(3, &["broken.nii"]);
    assert!(!place.path("x.html").exists());
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let place = Place::new();
    place.run(TINY).done();
    place.write(
        "x.npy",
        npy::to_bytes(&[2, 3, 16, 16], &[0.0; 1536]).unwrap(),
    );
    place.write(
        "inf.npy",
        npy::to_bytes(&[3, 16, 16], &[f32::INFINITY; 768]).unwrap(),
    );
    place.write("photo.png", b"no picture");
    place.write("broken.onnx", b"no graph");
    for (line, code, parts) in [
        ("view densenet12", 2, &["densenet121"] as &[_]),
        (
            "view densenet121 --input 8 --html x.html",
            2,
            &["input", "29x29"],
        ),
        (
            "view densenet121 --image x.npy --html x.html",
            2,
            &["--image", "no weights"],
        ),
        (
            "view tiny.safetensors --image x.npy --html x.html",
            3,
            &["x.npy", "2 samples"],
        ),
        (
            "view tiny.safetensors --image inf.npy --html x.html",
            6,
            &["inf.npy"],
        ),
        (
            "view tiny.safetensors --image gone.npy --html x.html",
            5,
            &["gone.npy"],
        ),
        (
            "view tiny.safetensors --image photo.png --html x.html",
            4,
            &["--preprocessing"],
        ),
        (
            "view tiny.safetensors --num-classes 2 --html x.html",
            2,
            &["fixes its network"],
        ),
        ("view broken.onnx --html x.html", 4, &["broken.onnx"]),
        (
            "view densenet121 --no-time --html gone/x.html",
            5,
            &["gone"],
        ),
        ("view densenet121 --port 70000", 2, &["--port 70000"]),
        (
            "view densenet121 --html x.html --no-open",
            2,
            &["--no-open"],
        ),
    ] {
        place.run(line).fails(code, parts);
    }
    assert!(!place.path("x.html").exists());
}

#[test]
fn an_onnx_file_is_a_network_or_a_plain_graph() {
    let place = Place::new();
    place.run(TINY).done();
    place.run("export tiny.safetensors -o tiny.onnx").done();
    place.run("view tiny.onnx --no-time --html a.html").done();
    let document = data(&page(&place, "a.html"), "data");
    assert_eq!(document["kind"], "densenet");
    assert!(
        document["origin"]
            .as_str()
            .unwrap()
            .contains("recognised as a DenseNet")
    );
    assert_eq!(document["has_weights"], true);

    // An operator that no DenseNet has: the first ReLU becomes something else of the same length.
    let mut bytes = place.read("tiny.onnx");
    let at = bytes.windows(4).position(|word| word == b"Relu").unwrap();
    bytes[at..at + 4].copy_from_slice(b"Tanh");
    place.write("other.onnx", bytes);
    place.run("view other.onnx --html b.html").done();
    let document = data(&page(&place, "b.html"), "data");
    assert_eq!(document["kind"], "graph");
    assert!(document["origin"].as_str().unwrap().contains("plain graph"));
    assert!(
        document["reason"].as_str().unwrap().contains("Tanh"),
        "{}",
        document["reason"]
    );
    place
        .run("view other.onnx --input 32 --html b.html")
        .fails(2, &["--input", "other.onnx"]);
}

#[test]
fn the_summary_draws_a_picture() {
    let place = Place::new();
    place.run("summary densenet121 --graph net.svg").done();
    let picture = page(&place, "net.svg");
    assert!(picture.starts_with("<svg ") && picture.contains("7.98 M parameters"));
    place
        .run("summary densenet121 --graph net.svg --json")
        .fails(2, &["--json"]);
    place
        .run("summary densenet121 --graph net.png")
        .fails(2, &["net.png", ".svg"]);
}

/// Serves until Ctrl-C, and says where.
#[cfg(unix)]
#[test]
fn it_serves_until_it_is_told_to_stop() {
    use std::{
        net::TcpStream,
        process::{Command, Stdio},
    };
    let place = Place::new();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = place
            .command()
            .args("view densenet-40-12 --no-time --no-open --port 0".split(' '))
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let address = line
            .strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("</html>\n"));
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(lines.next().is_none(), "nothing more is said");
    }
}
