//! From a component to its compiled form.

use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::artifact::{self, sha256};
use crate::bindings::OrchestratorPre;
use crate::engine;
use crate::imports;
use crate::instance;
use crate::state::State;

/// The largest component that is compiled.
pub(crate) const MAX_COMPONENT: usize = 64 << 20;

/// What one compilation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory beside this program's own code, in bytes.
    pub memory: u64,
    /// Time of processors, all threads together, in whole seconds.
    pub time: Duration,
}

impl CompileLimits {
    /// Twice the memory and four times the time that compilations of public modules of 1 to 31 MiB were seen to take.
    pub(crate) fn of_size(bytes: usize) -> Self {
        let mebibytes = bytes.div_ceil(1 << 20) as u64;
        Self { memory: (96 + 48 * mebibytes) << 20, time: Duration::from_secs(20 + 4 * mebibytes) }
    }
}

/// The compiled form of a component as a file, see [`artifact`], for the engine's target.
///
/// # Errors
/// What is wrong with it: it is no component, is too large, or is not as `check` wants it.
pub(crate) fn compile(
    engine: &Engine,
    component: &[u8],
    check: impl FnOnce(&Component, &Engine) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    check_size(component)?;
    let failed = |error: wasmtime::Error| {
        // Of a text the reader draws the place over several lines.
        let text = format!("{error:#}");
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        format!("not a component that compiles: {line}")
    };
    let compiled = Component::from_binary(engine, component).map_err(failed)?;
    check(&compiled, engine)?;
    let code = compiled.serialize().map_err(failed)?;
    Ok(artifact::encode(&sha256(component), &engine::compatibility(engine), &code))
}

/// What is loaded is checked then.
pub(crate) fn unchecked(_: &Component, _: &Engine) -> Result<(), String> {
    Ok(())
}

/// Refuses what does not fit the contract.
///
/// # Errors
/// What it imports and may not, or what does not fit.
pub(crate) fn check(compiled: &Component, engine: &Engine) -> Result<(), String> {
    let linker = instance::linker(engine).map_err(|error| format!("{error:#}"))?;
    imports::world(compiled, engine)?;
    plugin_of(compiled, &linker).map(|_| ())
}

pub(crate) fn check_size(component: &[u8]) -> Result<(), String> {
    if !component.starts_with(b"\0asm") {
        return Err("not a component that compiles: it is not WebAssembly".to_owned());
    }
    let given = component.len();
    if given > MAX_COMPONENT {
        return Err(format!("it has {given} bytes; at most {MAX_COMPONENT} are compiled"));
    }
    Ok(())
}

/// The component with its imports supplied and its exports found, their types compared with the contract's.
pub(crate) fn plugin_of(component: &Component, linker: &Linker<State>) -> Result<OrchestratorPre<State>, String> {
    let pre = linker.instantiate_pre(component).and_then(OrchestratorPre::new);
    pre.map_err(|error| format!("it does not fit the contract: {error:#}"))
}
