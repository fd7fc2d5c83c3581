//! The command line itself: help, slips, pipes.

use std::process::Stdio;

use crate::support::{Place, run};

#[test]
fn slips_get_one_line_with_a_hint() {
    let place = Place::new();
    for (line, parts) in [
        (
            "sumary densenet121",
            &["sumary: no such command", "did you mean summary?"] as &[_],
        ),
        (
            "summary densenet121 --grwth-rate 3",
            &["--grwth-rate", "did you mean --growth-rate?"],
        ),
        (
            "summary densenet121 --zzz",
            &["--zzz", "densenet summary --help"],
        ),
        (
            "summary",
            &["missing: <PRESET|MODEL>", "densenet summary --help"],
        ),
        (
            "summary densenet121 extra",
            &["extra", "densenet summary --help"],
        ),
        (
            "summary densenet121 --bn-size",
            &["--bn-size: needs a value"],
        ),
        (
            "summary densenet121 --stem smal",
            &["--stem smal", "did you mean small?"],
        ),
        (
            "summary densenet121 --full --depth dense",
            &["--full", "not together with --depth"],
        ),
        (
            "summary densenet121 --batch 1 --batch 2",
            &["--batch: given more than once"],
        ),
        ("summary densenet121 --json=3", &["--json"]),
    ] {
        place.run(line).fails(2, parts);
    }
}

#[test]
fn help_teaches() {
    let place = Place::new();
    let out = place.run("--help").done();
    for part in ["Start here:", "densenet train", "summary", "COMMAND --help"] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    for command in [
        "summary", "init", "import", "export", "infer", "predict", "bench",
    ] {
        let out = place.run(&format!("{command} --help")).done();
        assert!(out.contains("Examples:"), "{command}:\n{out}");
        assert!(
            out.contains(&format!("  densenet {command} ")),
            "{command}:\n{out}"
        );
    }
    let bare = place.run("");
    assert_eq!(bare.code, 2);
    assert!(bare.err.contains("Usage:"), "{}", bare.err);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command()
        .args(["summary", "densenet264", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_an_error() {
    let place = Place::new();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = place.command();
    command.args(["summary", "densenet121"]).stdout(full);
    run(&mut command).fails(5, &["standard output", "No space left"]);
}
