//! The engines that the benchmarks can call without a server.

use anyhow::Context as _;
use corymb_backend_tract::Tract;
use corymb_core::Backend;

/// The engine of that name; an error says why there is none.
pub(crate) fn named(name: &str) -> anyhow::Result<Box<dyn Backend>> {
    let backend: Box<dyn Backend> = match name {
        "tract" => Box::new(Tract),
        "onnxruntime" => anyhow::bail!("onnxruntime is not part of this program"),
        _ => anyhow::bail!("'{name}' is no backend; expected tract or onnxruntime"),
    };
    backend.check().with_context(|| format!("{name} cannot be used here"))?;
    Ok(backend)
}
