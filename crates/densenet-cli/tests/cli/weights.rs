//! `densenet import` and `densenet export`: strangers' files, whole and broken.

use crate::support::{Place, Run, noted, run};

const TINY: &str =
    "init densenet121 --growth-rate 4 --num-init-features 8 --block-config 2,2 --num-classes 3";

/// A place with a tiny model and its weights in both of PyTorch's formats.
fn tiny() -> Place {
    let place = Place::new();
    place
        .run(&format!("{TINY} --seed 3 -o tiny.safetensors"))
        .done();
    place.run("export tiny.safetensors -o tiny.pth").done();
    place
        .run("export tiny.safetensors -o plain.safetensors")
        .done();
    place
}

#[test]
fn what_is_exported_comes_back_in_every_dialect() {
    let place = tiny();
    for (dialect, file) in [
        ("torchvision", "a.pth"),
        ("torchvision-legacy", "b.pt"),
        ("monai", "c.safetensors"),
        ("gpleiss", "d.safetensors"),
    ] {
        noted(
            place.run(&format!(
                "export tiny.safetensors -o {file} --dialect {dialect}"
            )),
            &[&format!("wrote {file}: {dialect}")],
        );
        noted(
            place.run(&format!("import {file} -o back.safetensors")),
            &[
                &format!("{file}: read as {dialect}"),
                "wrote back.safetensors: 2-D, 3 channels",
            ],
        );
        place
            .run("export back.safetensors -o again.pth --dialect torchvision")
            .done();
        assert!(
            place.read("again.pth") == place.read("tiny.pth"),
            "{dialect}"
        );
    }
}

#[test]
fn parts_are_replaced_only_when_asked() {
    let place = tiny();
    noted(
        place.run(
            "import tiny.pth --num-classes 5 --in-channels 1 --adapt-input sum -o new.safetensors",
        ),
        &[
            "from 3 to 1 input channels (sum)",
            "classifier for 3 classes was replaced by a fresh one for 5",
        ],
    );
    let document = place.run("summary new.safetensors --json").json();
    assert_eq!(document["config"]["num_classes"], 5);
    assert_eq!(document["config"]["in_channels"], 1);
    noted(
        place.run("import tiny.pth --num-classes 3 --in-channels 3 -o same.safetensors"),
        &["read as torchvision"],
    );
    place.run("export same.safetensors -o same.pth").done();
    assert!(place.read("same.pth") == place.read("tiny.pth"));
    place
        .run("import tiny.pth --in-channels 1 -o x")
        .fails(2, &["--in-channels 1", "3 channels", "--adapt-input"]);
    place
        .run("import tiny.pth --adapt-input sum -o x")
        .fails(2, &["--adapt-input", "--in-channels N"]);
    place
        .run("import tiny.pth --in-channels 2 --adapt-input sum -o x")
        .fails(2, &["sum over channels"]);
}

#[test]
fn what_tensors_do_not_show_can_be_said() {
    let place = tiny();
    place
        .run("import tiny.pth --stem-pool false --stem-stride 1 --bn-eps 1e-3 --preprocessing none -o open.safetensors")
        .done();
    let document = place.run("summary open.safetensors --json").json();
    assert_eq!(document["config"]["stem"]["pool"], false);
    assert_eq!(document["config"]["bn_eps"], 1e-3);
    place
        .run("import tiny.pth --growth-rate 5 -o x")
        .fails(4, &["tiny.pth", "misshaped"]);
    place
        .run("import tiny.pth --dims 3 -o x")
        .fails(2, &["--dims 3", "2-D"]);
    place
        .run("import tiny.pth --bn-eps 0 -o x")
        .fails(2, &["bn_eps"]);
}

#[test]
fn class_names_and_preprocessing_join_the_model() {
    let place = tiny();
    place.write("names.txt", "cat\ndog\nold horse\n\n");
    place.write("few.txt", "cat\n");
    place.write(
        "prep.json",
        r#"{"channels": 3, "mean": [0, 0, 0], "std": [1, 1, 1], "crop": [32, 32]}"#,
    );
    place.write("grey.json", r#"{"channels": 1, "mean": [0], "std": [1]}"#);
    place.write(
        "slip.json",
        r#"{"channels": 3, "mean": [0, 0, 0], "std": [1, 1, 1], "crob": [32, 32]}"#,
    );
    place
        .run("import tiny.pth --classes names.txt --preprocessing prep.json -o m.safetensors")
        .done();
    for (options, code, parts) in [
        (
            "--classes few.txt",
            3,
            &["few.txt: 1 names", "3 classes"] as &[_],
        ),
        ("--classes absent.txt", 5, &["absent.txt", "no such file"]),
        (
            "--preprocessing grey.json",
            2,
            &["--preprocessing", "1 channels", "takes 3"],
        ),
        ("--preprocessing slip.json", 2, &["slip.json", "crob"]),
        ("--preprocessing names.txt", 2, &["names.txt", "no JSON"]),
    ] {
        let run = place.run(&format!("import tiny.pth {options} -o x.safetensors"));
        assert_eq!(run.code, code, "{}", run.err);
        run.says(parts);
    }
    assert!(!place.path("x.safetensors").exists());
}

/// A pickle that would call `os.system`, the way an old `.pth` starts.
const CALLS_CODE: &[u8] = b"\x80\x02cos\nsystem\nX\x0d\x00\x00\x00touch pwned.txt\x85R.";

#[test]
fn broken_and_hostile_files_are_refused() {
    let place = tiny();
    let pth = place.read("tiny.pth");
    let safetensors = place.read("plain.safetensors");
    let model = place.read("tiny.safetensors");
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    let header = |length: u64, rest: &[u8]| [&length.to_le_bytes(), rest].concat();
    let huge = br#"{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,16]}}"#;
    for (name, bytes, code, part) in [
        ("cut.pth", pth[..pth.len() / 2].to_vec(), 4, "damaged"),
        ("flip.pth", flipped(&pth, pth.len() / 2), 4, "damaged"),
        (
            "cut.safetensors",
            safetensors[..safetensors.len() / 2].to_vec(),
            4,
            "damaged",
        ),
        (
            "cut-model.safetensors",
            model[..model.len() - 1].to_vec(),
            4,
            "damaged",
        ),
        (
            "flip-model.safetensors",
            flipped(&model, model.len() / 2),
            4,
            "SHA-256",
        ),
        ("code.pth", CALLS_CODE.to_vec(), 4, "os.system"),
        ("absurd.safetensors", header(1 << 62, b"{}"), 4, "header"),
        (
            "overflow.safetensors",
            header(huge.len() as u64, &[&huge[..], &[0; 16]].concat()),
            4,
            "overflow.safetensors",
        ),
        ("empty.pth", Vec::new(), 4, "empty"),
        ("text.pth", b"hello".to_vec(), 4, "neither"),
        ("zip.pth", b"PK\x05\x06".to_vec(), 4, "empty"),
    ] {
        place.write(name, bytes);
        limited(&place, &format!("import {name} -o out.safetensors")).fails(code, &[name, part]);
    }
    assert!(!place.path("pwned.txt").exists());
    assert!(!place.path("out.safetensors").exists());
    for command in [
        "infer flip-model.safetensors --input x.npy --output y.npy",
        "summary flip-model.safetensors",
    ] {
        place
            .run(command)
            .fails(4, &["flip-model.safetensors", "SHA-256"]);
    }
}

/// Cut short and flipped at many places, a file is read whole or refused with one line: no panic, no endless loop, no
/// memory beyond the file's order of size.
#[test]
fn damage_anywhere_is_refused_or_harmless() {
    let place = tiny();
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for file in ["tiny.pth", "plain.safetensors", "tiny.safetensors"] {
        let whole = place.read(file);
        for round in 0..40 {
            let mut bytes = whole.clone();
            match round % 4 {
                0 => bytes.truncate(random(whole.len())),
                // The structure is at the start and, in an archive, at the end.
                1 => bytes[random(600.min(whole.len()))] ^= 1 << random(8),
                2 => bytes[whole.len() - 1 - random(600)] ^= 1 << random(8),
                _ => bytes[random(whole.len())] ^= 1 << random(8),
            }
            let name = format!("damaged-{file}");
            place.write(&name, bytes);
            let run = limited(&place, &format!("import {name} -o out.safetensors"));
            assert!(
                [0, 4, 7].contains(&run.code),
                "{file}, round {round}: {}",
                run.err
            );
            if run.code != 0 {
                run.says(&[&name]);
            }
        }
    }
}

/// Runs the command with a gigabyte of address space and ten seconds of processor time.
fn limited(place: &Place, line: &str) -> Run {
    if !cfg!(target_os = "linux") {
        return place.run(line);
    }
    let script = format!(
        "ulimit -v 1048576; ulimit -t 10; exec {} {line}",
        env!("CARGO_BIN_EXE_densenet")
    );
    let mut command = std::process::Command::new("sh");
    command.current_dir(place.path("")).args(["-c", &script]);
    run(&mut command)
}

#[test]
fn slips_are_explained() {
    let place = tiny();
    for (line, code, parts) in [
        (
            "import absent.pth -o x",
            5,
            &["absent.pth", "check the path"] as &[_],
        ),
        ("import . -o x", 5, &["name a file, not a folder"]),
        (
            "import tiny.pth --dialect monay -o x",
            2,
            &["monay", "did you mean monai?"],
        ),
        ("import tiny.pth", 2, &["--output"]),
        (
            "import plain.safetensors --dialect monai -o x",
            4,
            &["plain.safetensors", "read as monai"],
        ),
        (
            "export tiny.safetensors -o x.bin",
            2,
            &["x.bin", ".safetensors"],
        ),
        (
            "export tiny.safetensors -o x.pth --dialect tutorial-bottom",
            2,
            &["tutorial-bottom", "old_new"],
        ),
        (
            "export tiny.pth -o x.pth",
            4,
            &["tiny.pth", "densenet import tiny.pth"],
        ),
        (
            "export plain.safetensors -o x.pth",
            4,
            &["plain.safetensors", "densenet import"],
        ),
        (
            "export tiny.safetensors -o absent/x.pth",
            5,
            &["absent/x.pth"],
        ),
    ] {
        place.run(line).fails(code, parts);
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let place = tiny();
    place.write("photos/a/1.png", "never read");
    place.write("photos/b/1.png", "never read");
    for name in ["tiny.pth", "plain.safetensors", "photos/a/1.png"] {
        let closed = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(place.path(name), closed).unwrap();
    }
    for (line, code, name) in [
        ("import tiny.pth -o x", 5, "tiny.pth"),
        ("summary plain.safetensors", 5, "plain.safetensors"),
        (
            "train photos --model densenet-40-12 --input 16",
            3,
            "photos/a/1.png",
        ),
    ] {
        let run = place.run_bound_by_permissions(line);
        assert_eq!(run.code, code, "{}", run.err);
        run.says(&[name, "ermission"]);
    }
    // A folder in a file's place is refused for anyone.
    place.run("import . -o x").fails(5, &["folder"]);
}
