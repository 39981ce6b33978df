//! Compiles `onnx.proto` without `protoc`.

use std::error::Error;

const FILE: &str = "onnx.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FILE}");
    println!("cargo::rerun-if-changed=build.rs");
    let files = protox::compile([FILE], ["."])?;
    // Weights are slices of the file: no copy.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
