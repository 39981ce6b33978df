//! `corymb models list` and `inspect`: what models take and give, and which backend would run them.

use std::sync::Arc;

use clap::Args;
use corymb_core::{Backend, BatchAxes, LoadOptions, ModelFiles, ModelInfo, RUN_BYTES, TensorSpec};
use corymb_engine::Division;
use corymb_repository::ModelFolder;
use serde_json::{Value, json};

use crate::config::{SourceFlags, environment};
use crate::{sources, wiring};

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// List what lies in the cache instead
    #[arg(long)]
    pub(super) cached: bool,
    #[command(flatten)]
    pub(super) sources: SourceFlags,
}

/// Lists the models that the flags name, without loading them.
pub(super) fn list(flags: &SourceFlags, as_json: bool) -> anyhow::Result<()> {
    let backends = wiring::backends(wiring::library_search(flags, &environment()), RUN_BYTES);
    let repository = sources::repository(flags)?;
    let folders = sources::open_blocking(flags, &repository)?;
    let models: Vec<Value> = folders.iter().map(|folder| describe(folder, &backends)).collect();
    if as_json {
        println!("{}", serde_json::to_string_pretty(&models)?);
        return Ok(());
    }
    for model in &models {
        let text = |key: &str| model[key].as_str().unwrap_or("-").to_owned();
        println!("{} (version {})", text("name"), text("version"));
        for key in
            ["model", "opset", "bytes", "backend", "rows", "rows_node", "rows_advice", "plugin", "signed", "reason"]
        {
            match &model[key] {
                Value::Null => {}
                Value::String(value) => println!("  {key:<11} {value}"),
                value => println!("  {key:<11} {value}"),
            }
        }
        for key in ["inputs", "outputs"] {
            for tensor in model[key].as_array().into_iter().flatten() {
                println!("  {key:<11} {}", tensor.as_str().unwrap_or_default());
            }
        }
    }
    Ok(())
}

fn describe(folder: &ModelFolder, backends: &[Arc<dyn Backend>]) -> Value {
    let mut value = json!({
        "name": folder.name,
        "version": folder.version,
        "plugin": folder.plugin.as_ref().map(|plugin| plugin.file.name()),
        "signed": folder.signed.as_ref().map(|signed| signed.shown()),
    });
    let Some(files) = &folder.model else { return value };
    value["model"] = json!(files.model.name());
    let wanted = folder.manifest.backend.as_deref().unwrap_or("auto");
    let candidates = backends.iter().filter(|backend| wanted == "auto" || backend.name() == wanted);
    let settings = folder.manifest.onnxruntime.settings().clone();
    let options = LoadOptions { settings, unverified: folder.manifest.unverified, ..LoadOptions::default() };
    let mut reasons = Vec::new();
    for backend in candidates {
        match inspect(backend.as_ref(), files, &options) {
            Ok((info, lacks)) => {
                value["opset"] = json!(info.opset);
                value["bytes"] = json!(info.size);
                value["inputs"] = specs(&info.signature.inputs);
                value["outputs"] = specs(&info.signature.outputs);
                match lacks {
                    None => {
                        value["backend"] = json!(backend.name());
                        divide(&mut value, &info, folder.manifest.batching.enabled);
                        return value;
                    }
                    Some(reason) => reasons.push(reason),
                }
            }
            Err(reason) => reasons.push(reason),
        }
    }
    value["reason"] = json!(format!("no backend can run it: {}", reasons.join("; ")));
    value
}

/// What `GET /v2/models/M` says of rows, and where they are.
fn divide(value: &mut Value, info: &ModelInfo, enabled: Option<bool>) {
    match Division::of(&info.rows, enabled) {
        Ok(division) => {
            value["rows"] = json!(division.rows);
            value["rows_node"] = json!(division.node);
            value["rows_advice"] = json!(division.advice);
            value["rows_axes"] = division.axes.map_or(Value::Null, |axes| axes_as_json(&axes));
        }
        Err(reason) => value["reason"] = json!(reason),
    }
}

fn axes_as_json(axes: &BatchAxes) -> Value {
    let of = |axes: &[(String, Option<usize>)]| -> Value {
        axes.iter().map(|(name, axis)| (name.clone(), json!(axis))).collect::<serde_json::Map<_, _>>().into()
    };
    json!({ "inputs": of(&axes.inputs), "outputs": of(&axes.outputs) })
}

/// What the file says, and what the backend lacks for it.
fn inspect(
    backend: &dyn Backend,
    files: &ModelFiles,
    options: &LoadOptions,
) -> Result<(ModelInfo, Option<String>), String> {
    backend.check().map_err(|error| error.to_string())?;
    let info = backend.inspect(files, options).map_err(|error| format!("{}: {error}", backend.name()))?;
    let lacks = info.unsupported.first().map(|lack| format!("{} lacks {lack}", backend.name()));
    Ok((info, lacks))
}

/// Of the model itself: a plugin's own signature is known only when it runs.
fn specs(specs: &[TensorSpec]) -> Value {
    specs.iter().map(|spec| format!("{} {}{}", spec.name, spec.dtype, spec.shape_text())).collect()
}
