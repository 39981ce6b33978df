//! What other servers' files say of an ONNX model: MLServer's `model-settings.json` and MLflow's `MLmodel`.

use serde::Deserialize;

use crate::manifest::Manifest;
use crate::onnx::is_onnx;
use crate::shape::normal;

/// Makes a manifest of a text, or one line that says what is wrong.
pub(crate) type Parse = fn(&str) -> Result<Manifest, String>;

/// <https://mlserver.readthedocs.io/en/latest/reference/model-settings.html>
#[derive(Deserialize)]
struct Settings {
    name: Option<String>,
    implementation: Option<String>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    uri: Option<String>,
}

/// Words in the names of MLServer's runtimes that serve no ONNX models.
const OTHER_RUNTIMES: [&str; 7] = ["sklearn", "xgboost", "lightgbm", "catboost", "huggingface", "alibi", "sparkmllib"];

/// What `model-settings.json` calls its model; none where it cannot be understood.
pub(crate) fn served_name(text: &str) -> Option<String> {
    serde_json::from_str::<Settings>(text).ok()?.name.filter(|name| !name.is_empty())
}

/// What `model-settings.json` says: which file the model is.
pub(crate) fn mlserver(text: &str) -> Result<Manifest, String> {
    let settings: Settings = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let file = settings.parameters.uri.map(|uri| normal(&uri)).filter(|uri| !uri.is_empty());
    let implementation = settings.implementation.unwrap_or_default();
    let lower = implementation.to_ascii_lowercase();
    let is_other = OTHER_RUNTIMES.iter().any(|runtime| lower.contains(runtime));
    match &file {
        _ if is_other => return Err(format!("`implementation` is '{implementation}'; only ONNX models are served")),
        Some(file) if !is_onnx(file) && !lower.contains("onnx") => {
            return Err(format!("`parameters.uri` is '{file}'; expected an .onnx file: only ONNX models are served"));
        }
        _ => {}
    }
    Ok(Manifest { file, ..Manifest::default() })
}

/// <https://mlflow.org/docs/latest/ml/model/#model-format>
#[derive(Deserialize)]
struct MlModel {
    #[serde(default)]
    flavors: Flavors,
}

#[derive(Default, Deserialize)]
struct Flavors {
    onnx: Option<Flavor>,
}

#[derive(Deserialize)]
struct Flavor {
    data: Option<String>,
}

/// What `MLmodel` says: which file the model is.
pub(crate) fn mlflow(text: &str) -> Result<Manifest, String> {
    let model: MlModel = serde_saphyr::from_str(text).map_err(|error| {
        let words = error.to_string();
        words.lines().next().unwrap_or_default().to_owned()
    })?;
    let Some(onnx) = model.flavors.onnx else {
        return Err("`flavors` has no `onnx`; only ONNX models are served".to_owned());
    };
    // Until version 1.10 it was not said.
    let file = onnx.data.map_or_else(|| "model.onnx".to_owned(), |data| normal(&data));
    Ok(Manifest { file: Some(file), ..Manifest::default() })
}
