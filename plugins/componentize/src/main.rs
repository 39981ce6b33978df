//! Makes a component of a core module that carries its plugin contract: `corymb-componentize CORE.wasm OUT.wasm`.
//!
//! `wit-bindgen` leaves the contract in a custom section of the core module; this is the step that compilers for
//! `wasm32-unknown-unknown` leave out. What the SDK says of a plugin (sections named `corymb:…`) is repeated at the
//! component's own level, where it is found without looking for the module inside.

mod sections;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use wit_component::ComponentEncoder;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [core, out] = &arguments[..] else {
        eprintln!("usage: corymb-componentize CORE.wasm OUT.wasm");
        return ExitCode::from(2);
    };
    match componentize(core, out) {
        Ok(len) => {
            println!("{}: {len} bytes", out.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The size of the component, in bytes.
fn componentize(core: &PathBuf, out: &PathBuf) -> Result<usize> {
    let module = std::fs::read(core).with_context(|| format!("read {}", core.display()))?;
    let mut component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .with_context(|| format!("make a component of {}", core.display()))?;
    for (name, content) in sections::custom(&module).filter(|(name, _)| name.starts_with("corymb:")) {
        sections::append(&mut component, name, content);
    }
    std::fs::write(out, &component).with_context(|| format!("write {}", out.display()))?;
    Ok(component.len())
}
