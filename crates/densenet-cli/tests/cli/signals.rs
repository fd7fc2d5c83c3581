//! Runs that are interrupted, killed, resumed, or already in use.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::Place;

const RUN: &str = "train --model digits --growth-rate 4 --block-config 1,1 --epochs 4 --save-every-steps 1 --threads 1 --loader-threads 1";

fn start(place: &Place, line: &str) -> Child {
    place
        .command()
        .args(line.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(place: &Place, file: &str) {
    let start = Instant::now();
    while !place.path(file).exists() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "{file} never came"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn an_interrupted_run_is_resumed_bit_for_bit() {
    let place = Place::new();
    place.run(&format!("{RUN} --name whole")).done();
    for (name, number, code) in [("int", "-INT", 130), ("term", "-TERM", 143)] {
        let child = start(&place, &format!("{RUN} --name {name}"));
        wait_for(&place, &format!("runs/{name}-1/state.previous.safetensors"));
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{err}");
        let last = err.lines().last().unwrap_or_default();
        assert!(
            last.contains("saved") && last.contains(&format!("--resume runs/{name}-1")),
            "{err}"
        );
        place.run(&format!("train --resume runs/{name}-1")).done();
        for file in ["last.safetensors", "best.safetensors", "metrics.csv"] {
            let (whole, this) = (
                format!("runs/whole-1/{file}"),
                format!("runs/{name}-1/{file}"),
            );
            assert!(
                place.read(&whole) == place.read(&this),
                "{file} after {number}"
            );
        }
    }
}

#[test]
fn a_run_in_use_is_left_alone() {
    let place = Place::new();
    let mut child = start(
        &place,
        &format!("{RUN} --name busy --epochs 500").replace("--epochs 4 ", ""),
    );
    wait_for(&place, "runs/busy-1/state.safetensors");
    place
        .run("train --resume runs/busy-1")
        .fails(75, &["runs/busy-1", "another process"]);
    child.kill().unwrap();
    child.wait().unwrap();
    // A killed process holds nothing: the run can go on.
    let run = place.run("train --resume runs/busy-1 --epochs 1");
    assert_eq!(run.code, 4, "{}", run.err);
    run.says(&["epochs"]);
}
