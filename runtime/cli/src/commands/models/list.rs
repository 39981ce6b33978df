//! `corymb models list` and `inspect`: what models take and give, and which backend would run them.

use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use corymb_core::{
    Backend, BatchAxes, Code, Error, LoadOptions, ModelFiles, ModelInfo, Models, PluginHost as _, PluginOptions,
    RUN_BYTES, Request, Response, ServedModel, Signature, TensorSpec,
};
use corymb_engine::{Division, EngineOptions};
use corymb_repository::ModelFolder;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::config::{SourceFlags, environment};
use crate::sources::{self, Opened};
use crate::wiring;

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// A model, or a folder of models; as --model-dir
    #[arg(value_name = "URI", conflicts_with_all = ["model_dir", "cached"])]
    uri: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// List what lies in the cache instead
    #[arg(long)]
    pub(super) cached: bool,
    #[command(flatten)]
    pub(super) sources: SourceFlags,
}

impl ListArguments {
    /// The flags, with the URI among them.
    pub(super) fn named(&self) -> SourceFlags {
        let mut sources = self.sources.clone();
        sources.model_dir = self.uri.clone().or(sources.model_dir);
        sources
    }
}

/// Lists the models that the flags name, without loading them. What is wrong with one does not hide the others.
///
/// # Errors
/// One cannot be opened, or nothing could run it.
pub(super) fn list(flags: &SourceFlags, as_json: bool) -> anyhow::Result<()> {
    let backends = wiring::backends(wiring::library_search(flags, &environment()), RUN_BYTES);
    let repository = sources::repository(flags)?;
    let Opened { folders, failed } = sources::open_each(flags, &repository)?;
    let mut models: Vec<Value> = folders.iter().map(|folder| describe(folder, &backends)).collect();
    let failed = failed.iter().map(|(name, error)| json!({ "name": name, "error": error.to_string() }));
    models.extend(failed);
    if as_json {
        println!("{}", serde_json::to_string_pretty(&models)?);
    } else {
        models.iter().for_each(print);
    }
    let lost = models.iter().filter(|model| !model["error"].is_null() || !model["reason"].is_null()).count();
    match (lost, models.len()) {
        (0, _) => Ok(()),
        (1, 1) => bail!("the model cannot be served"),
        (lost, all) => bail!("{lost} of {all} models cannot be served"),
    }
}

fn print(model: &Value) {
    let text = |key: &str| model[key].as_str().unwrap_or("-").to_owned();
    match model["version"].as_str() {
        Some(version) => println!("{} (version {version})", text("name")),
        None => println!("{}", text("name")),
    }
    for key in [
        "model",
        "opset",
        "bytes",
        "backend",
        "rows",
        "rows_node",
        "rows_advice",
        "plugin",
        "signed",
        "reason",
        "error",
    ] {
        match &model[key] {
            Value::Null => {}
            Value::String(value) => println!("  {key:<11} {value}"),
            value => println!("  {key:<11} {value}"),
        }
    }
    for key in ["inputs", "outputs", "model_inputs", "model_outputs"] {
        for tensor in model[key].as_array().into_iter().flatten() {
            println!("  {:<11} {}", key.replace('_', " "), tensor.as_str().unwrap_or_default());
        }
    }
}

fn describe(folder: &ModelFolder, backends: &[Arc<dyn Backend>]) -> Value {
    let mut value = json!({
        "name": folder.name,
        "version": folder.version,
        "plugin": folder.plugin.as_ref().map(|plugin| plugin.file.name()),
        "signed": folder.signed.as_ref().map(|signed| signed.shown()),
    });
    let Some(files) = &folder.model else {
        serve(&mut value, folder, None);
        return value;
    };
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
                        serve(&mut value, folder, Some(&info.signature));
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

/// What clients send and get, where a plugin decides that: the model's own tensors go by other names then.
fn serve(value: &mut Value, folder: &ModelFolder, model: Option<&Signature>) {
    let Some(plugin) = &folder.plugin else { return };
    let defaults = EngineOptions::default();
    let options = PluginOptions {
        model: folder.name.clone(),
        version: folder.version.clone(),
        config: plugin.config.clone(),
        memory: defaults.plugin_memory,
        pool: defaults.pool.clone(),
        call_timeout: defaults.plugin_timeout,
        cache: None,
    };
    let host = wiring::plugin_host(1).map_err(|error| error.to_string());
    let loaded = host
        .and_then(|host| host.load(&plugin.file, &options, model, Arc::new(Alone)).map_err(|error| error.to_string()));
    match loaded {
        Ok(loaded) => {
            for (key, own, specs_of) in [
                ("inputs", "model_inputs", &loaded.served().inputs),
                ("outputs", "model_outputs", &loaded.served().outputs),
            ] {
                value[own] = std::mem::replace(&mut value[key], specs(specs_of));
            }
        }
        Err(reason) => value["reason"] = json!(format!("its plugin cannot be loaded: {reason}")),
    }
}

/// Other models, of which there are none here.
struct Alone;

impl Models for Alone {
    fn describe(&self, model: &str, _: Option<&str>) -> Result<ServedModel, Error> {
        Err(Error::new(Code::NotFound, format!("there is no model '{model}' beside it here")))
    }

    fn infer(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        let error = Error::new(Code::NotFound, format!("there is no model '{}' beside it here", request.model));
        std::future::ready(Err(error)).boxed()
    }
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

fn specs(specs: &[TensorSpec]) -> Value {
    specs.iter().map(|spec| format!("{} {}{}", spec.name, spec.dtype, spec.shape_text())).collect()
}
