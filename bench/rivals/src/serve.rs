//! The conversation with `bench/compare`.

use std::{
    fs,
    io::{BufRead, Write, stdin, stdout},
    time::Instant,
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Failure;

/// Engines and the versions in this program's lock file, in the order of `Cargo.toml`.
const ENGINES: &[(&str, &str)] = &[
    ("tract", "tract-onnx"),
    ("rten", "rten"),
    ("candle", "candle-core"),
    ("burn", "burn-tensor"),
];

/// A block of runs.
#[derive(Deserialize)]
struct Block {
    warmup: usize,
    runs: usize,
}

/// The version of each engine, read from the lock file that built it.
pub fn versions() -> Value {
    let lock = include_str!("../Cargo.lock");
    let version = |package: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
        Some(rest.split_once('"')?.0)
    };
    ENGINES
        .iter()
        .map(|&(engine, package)| (engine.to_string(), json!(version(package))))
        .collect()
}

/// A line of what the system tells about this process's memory, in bytes; 0 where it does not tell.
pub fn resident(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    1024 * kib.unwrap_or(0)
}

/// Runs blocks until the parent closes the pipe.
pub fn serve(
    engine: &str,
    imported: u64,
    loaded: u64,
    mut run: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    say(&json!({
        "version": versions()[engine],
        "import_rss_bytes": imported,
        "loaded_rss_bytes": loaded,
    }))?;
    for line in stdin().lock().lines() {
        let block: Block = serde_json::from_str(&line?)?;
        for _ in 0..block.warmup {
            run()?;
        }
        let mut times = Vec::with_capacity(block.runs);
        for _ in 0..block.runs {
            let start = Instant::now();
            run()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        say(&json!({"times_ms": times, "peak_rss_bytes": resident("VmHWM:")}))?;
    }
    Ok(())
}

fn say(document: &Value) -> Result<(), Failure> {
    let mut out = stdout().lock();
    writeln!(out, "{document}")?;
    Ok(out.flush()?)
}
