//! `cargo run -- ONNX_ML_PROTO OUTPUT`: from ONNX's schema to Rust types.
//!
//! The schema is `onnx-ml.proto` of the `onnx` Python package (pinned in `../requirements.txt`); the output is
//! `crates/densenet-onnx/src/proto/onnx.rs`. `protox` compiles the schema, so no `protoc` is needed here either.

use std::{env, error::Error, fs, path::Path, process::ExitCode};

const HEADER: &str = "\
// The messages of ONNX's `onnx-ml.proto`, as `tools/onnx/proto` wrote them with prost-build. Not edited by hand.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [schema, output] = arguments.as_slice() else {
        eprintln!("usage: densenet-onnx-proto ONNX_ML_PROTO OUTPUT");
        return ExitCode::from(2);
    };
    match generate(Path::new(schema), Path::new(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(schema: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    let folder = schema.parent().unwrap_or(Path::new("."));
    let files = protox::compile([schema], [folder])?;
    let modules = files
        .file
        .iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file.clone()))
        .collect();
    // Tensors stay slices of the file that was read. The schema's own comments are left where they are.
    // Most attributes are a number or a few: what they seldom hold is boxed.
    let generated = prost_build::Config::new()
        .bytes(["."])
        .disable_comments(["."])
        .boxed(".onnx.AttributeProto.t")
        .boxed(".onnx.AttributeProto.g")
        .boxed(".onnx.AttributeProto.sparse_tensor")
        .boxed(".onnx.AttributeProto.tp")
        .generate(modules)?;
    let text: String = generated.into_values().collect();
    fs::write(output, format!("{HEADER}{text}"))?;
    Ok(())
}
