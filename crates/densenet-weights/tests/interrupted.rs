//! Saving under the worst conditions: killed at any moment, and out of space. The target is always a whole model, the old
//! one or the new one.
//!
//! Runs without the test harness because it starts itself again as the process that saves.

mod common;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use common::{model, small_config};
use densenet_weights::Model;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["save-forever", path] => save_forever(Path::new(path)),
        ["save-once", path] => return save_once(Path::new(path)),
        _ => {}
    }
    killed_at_any_moment();
    println!("killed_at_any_moment ... ok");
    #[cfg(unix)]
    {
        out_of_space();
        println!("out_of_space ... ok");
    }
    ExitCode::SUCCESS
}

/// Two models that cannot be mistaken for each other, large enough that writing them takes several calls.
fn models() -> [Model; 2] {
    let mut config = small_config();
    config.growth_rate = 16;
    config.num_init_features = 64;
    config.block_config = vec![6, 6];
    let first = model(&config);
    let mut second = first.clone();
    second.num_batches_tracked = 8;
    for (_, tensor) in second.state.iter_mut() {
        tensor.data.iter_mut().for_each(|value| *value += 1.0);
    }
    [first, second]
}

fn save_forever(path: &Path) {
    for model in models().iter().cycle() {
        model.save(path).unwrap();
    }
}

fn save_once(path: &Path) -> ExitCode {
    match models()[1].save(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let models = models();
    models[0].save(&path).unwrap();
    for round in 0..40u64 {
        let mut child = Command::new(this_program())
            .arg("save-forever")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // 5 to 45 ms, spread evenly: at start, while writing, syncing, renaming.
        std::thread::sleep(Duration::from_micros(5000 + round * 17_389 % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = Model::load(&path).unwrap();
        assert!(models.contains(&found), "one of the two models, whole");
    }
}

/// A file size limit stands in for a full disk: writing fails half-way.
#[cfg(unix)]
fn out_of_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let old = &models()[0];
    old.save(&path).unwrap();
    // `ulimit -f` counts blocks of 512 or 1024 bytes; the model has more than 100 KiB.
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 16; exec \"$0\" save-once \"$1\"",
        ])
        .arg(this_program())
        .arg(&path)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{message}");
    assert!(
        message.contains("last.safetensors: cannot write"),
        "{message}"
    );
    assert_eq!(Model::load(&path).unwrap(), *old);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "the temporary file is gone"
    );
}
