//! Other Rust engines under `bench/compare`'s protocol: answer the input once, then run blocks as asked.
//!
//! `rivals ENGINE MODEL.onnx WEIGHTS.safetensors X.npy Y.npy THREADS NETWORK` speaks one JSON document a line (see
//! `bench/comparison/workers/serve.py`); `rivals versions` prints which versions were built in.

#![forbid(unsafe_code)]

mod built;
mod npy;
mod onnx;
mod serve;

use std::{path::Path, process::ExitCode};

/// What any engine here can fail with; printed as the last line.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A prepared engine: every call answers the input again.
type Run = Box<dyn FnMut() -> Result<Vec<f32>, Failure>>;

/// An array of any shape, rows first.
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["versions"] => {
            println!("{}", serve::versions());
            Ok(())
        }
        [engine, model, weights, input, output, threads, _network] => {
            one(engine, [model, weights], input, output, threads)
        }
        _ => Err("rivals ENGINE MODEL WEIGHTS X Y THREADS NETWORK | rivals versions".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn one(
    engine: &str,
    [model, weights]: [&str; 2],
    input: &str,
    output: &str,
    threads: &str,
) -> Result<(), Failure> {
    let threads: usize = threads.parse()?;
    let input = npy::read(Path::new(input))?;
    let batch = input.shape.first().copied().unwrap_or(1);
    let imported = serve::resident("VmRSS:");
    let mut run = match engine {
        "tract" => onnx::tract(model, input, threads)?,
        "rten" => onnx::rten(model, input)?,
        "candle" => built::candle::network(weights, input)?,
        "burn" => built::burn::network(weights, input)?,
        other => return Err(format!("{other}: not built in").into()),
    };
    let loaded = serve::resident("VmRSS:");
    let logits = run()?;
    let shape = vec![batch, logits.len() / batch.max(1)];
    npy::write(
        Path::new(output),
        &Array {
            shape,
            data: logits,
        },
    )?;
    serve::serve(engine, imported, loaded, || run().map(drop))
}
