//! Compiles the `.proto` files without `protoc`: types and clients for Rust, and the descriptors for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

/// With services, which reflection describes.
const SERVICES: [&str; 1] = ["inference.proto"];
/// Messages alone.
const MESSAGES: [&str; 1] = ["knative.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let all = || SERVICES.into_iter().chain(MESSAGES);
    for file in all() {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed=build.rs");

    // With comments, which become the documentation of the types.
    let files = protox::compile(all(), ["."])?;
    tonic_prost_build::configure()
        // The server reads messages itself, so that limits hold before anything is allocated.
        .build_server(false)
        // Clients bring their own connection.
        .build_transport(false)
        .client_mod_attribute(".", r#"#[cfg(feature = "client")]"#)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;

    // Without comments, for those who ask the server what it offers.
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).open_files(SERVICES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}
