//! `corymb predict`: files in, a table of classes and scores out.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use corymb_repository::read_npy;
use http::Request;
use serde_json::{Value, json};

use crate::config::SourceFlags;
use crate::embedded;
use crate::media_type::picture;
use crate::transport::Transport;

/// Rows of a table of scores that are shown.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct PredictArguments {
    /// Pictures (JPEG, PNG, WebP), requests (V1 or V2 JSON), or tensors (.npy)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A running server, e.g. http://localhost:8080; without it the model is loaded here
    #[arg(long)]
    url: Option<String>,
    /// Class names, one a line, in the order of the scores
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Print the answers as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sources: SourceFlags,
}

/// One prediction per file.
pub(crate) fn predict(arguments: &PredictArguments) -> anyhow::Result<()> {
    let transport = match &arguments.url {
        Some(url) => Transport::remote(url),
        None => Transport::local(&arguments.sources)?,
    };
    let (model, known_labels) = match &transport {
        Transport::Local { model, labels, .. } => (model.clone(), labels.clone()),
        Transport::Remote { .. } => {
            (arguments.sources.model_name.clone().unwrap_or_else(|| embedded::NAME.to_owned()), Vec::new())
        }
    };
    let labels = match &arguments.labels {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
            text.lines().map(|line| line.trim().to_owned()).collect()
        }
        None => known_labels,
    };
    for path in &arguments.files {
        let answer = answer(&transport, &model, path).with_context(|| format!("{}", path.display()))?;
        let text = if arguments.json { format!("{answer}\n") } else { table(path, &answer, &labels) };
        // A closed pipe is not worth a panic.
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}

fn answer(transport: &Transport, model: &str, path: &Path) -> anyhow::Result<Value> {
    let content = Bytes::from(std::fs::read(path)?);
    let request = request(transport, model, path, content)?;
    let response = transport.send(request)?;
    let status = response.status();
    let body: Value = serde_json::from_slice(response.body())
        .with_context(|| format!("the server answered {status} with something that is not JSON"))?;
    match body.get("error").and_then(Value::as_str) {
        Some(error) => bail!("{error} ({status})"),
        None if !status.is_success() => bail!("the server answered {status}"),
        None => Ok(body),
    }
}

fn request(transport: &Transport, model: &str, path: &Path, content: Bytes) -> anyhow::Result<Request<Bytes>> {
    let infer = format!("/v2/models/{model}/infer");
    let post = |url: &str| Request::post(url);
    if let Some(media_type) = picture(&content) {
        return Ok(post(&infer).header("content-type", media_type).body(content)?);
    }
    if path.extension().is_some_and(|ending| ending == "npy") {
        return npy_request(transport, model, &content);
    }
    let document: Value = serde_json::from_slice(&content)
        .context("neither a JPEG, PNG or WebP picture, nor .npy, nor a request in JSON")?;
    // V2's inputs are a list of objects with a datatype; V1's are instances, or inputs without one.
    let is_v2 = document.pointer("/inputs/0/datatype").is_some();
    let url = if is_v2 { infer } else { format!("/v1/models/{model}:predict") };
    Ok(post(&url).header("content-type", "application/json").body(content)?)
}

/// The tensor as the model's first input, in Triton's binary form; a batch dimension is added where it lacks one.
fn npy_request(transport: &Transport, model: &str, content: &[u8]) -> anyhow::Result<Request<Bytes>> {
    let tensor = read_npy(content).map_err(anyhow::Error::msg)?;
    let metadata = transport.send(Request::get(format!("/v2/models/{model}")).body(Bytes::new())?)?;
    let metadata: Value = serde_json::from_slice(metadata.body()).context("read the model's metadata")?;
    let input = metadata.pointer("/inputs/0").context("the model has no inputs, or is not there")?;
    let rank = input.get("shape").and_then(Value::as_array).map_or(0, Vec::len);
    let mut shape = tensor.shape().to_vec();
    if shape.len() + 1 == rank {
        shape.insert(0, 1);
    }
    let payload = tensor.bytes().cloned().unwrap_or_default();
    let header = json!({"inputs": [{
        "name": input.get("name"),
        "datatype": tensor.dtype().name(),
        "shape": shape,
        "parameters": {"binary_data_size": payload.len()},
    }]})
    .to_string();
    let body = [header.as_bytes(), &payload].concat();
    Ok(Request::post(format!("/v2/models/{model}/infer"))
        .header("content-type", "application/octet-stream")
        .header("inference-header-content-length", header.len())
        .body(body.into())?)
}

/// The scores of each picture as a table, best first; anything else as it is.
fn table(path: &Path, answer: &Value, labels: &[String]) -> String {
    let mut text = format!("{}\n", path.display());
    for (name, value) in outputs(answer) {
        match rows(&value) {
            Some(rows) => rows.iter().for_each(|row| text.push_str(&scores(&name, row, labels))),
            None => text.push_str(&format!("  {name}: {value}\n")),
        }
    }
    text
}

/// Named outputs of either protocol's answer, V2's flat data nested again.
fn outputs(answer: &Value) -> Vec<(String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or("output").to_owned();
    if let Some(outputs) = answer.get("outputs").and_then(Value::as_array) {
        return outputs
            .iter()
            .map(|output| {
                let data = output.get("data").cloned().unwrap_or_default();
                let shape = output.get("shape").and_then(Value::as_array);
                let columns = shape.filter(|shape| shape.len() == 2).and_then(|shape| shape[1].as_u64());
                let nested = match (columns.and_then(|columns| usize::try_from(columns).ok()), data.as_array()) {
                    (Some(columns), Some(flat)) if columns > 0 => json!(flat.chunks(columns).collect::<Vec<_>>()),
                    _ => data,
                };
                (output.get("name").map(text).unwrap_or_default(), nested)
            })
            .collect();
    }
    let rows = answer.get("predictions").and_then(Value::as_array).cloned().unwrap_or_default();
    rows.into_iter()
        .flat_map(|row| match row {
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name, json!([value]))).collect::<Vec<_>>()
            }
            other => vec![("output".to_owned(), json!([other]))],
        })
        .collect()
}

/// Rows of several numbers each.
fn rows(value: &Value) -> Option<Vec<Vec<f64>>> {
    let row = |row: &Value| row.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
    let rows: Vec<Vec<f64>> = value.as_array()?.iter().map(row).collect::<Option<_>>()?;
    rows.iter().all(|row| row.len() > 1).then_some(rows)
}

fn scores(name: &str, row: &[f64], labels: &[String]) -> String {
    let mut ranked: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
    ranked.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    let label = |class: usize| labels.get(class).filter(|_| labels.len() == row.len());
    let width = ranked.iter().filter_map(|(class, _)| label(*class)).map(String::len).max().unwrap_or(0);
    let mut text = format!("  {name}\n");
    for (class, score) in ranked.iter().take(SHOWN) {
        let label = label(*class).map(String::as_str).unwrap_or_default();
        text.push_str(&format!("    {class:>4}  {label:<width$}  {score:.6}\n"));
    }
    if ranked.len() > SHOWN {
        text.push_str(&format!("    and {} more\n", ranked.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_become_the_same_table() {
        let labels = ["daisy", "rose"].map(str::to_owned);
        let v1 = json!({"predictions": [{"scores": [0.25, 0.75], "key": "a"}]});
        let v2 = json!({"outputs": [
            {"name": "key", "shape": [1], "data": ["a"]},
            {"name": "scores", "shape": [1, 2], "data": [0.25, 0.75]},
        ]});
        let expected = "x.jpg\n  key: [\"a\"]\n  scores\n       1  rose   0.750000\n       0  daisy  0.250000\n";
        assert_eq!(table(Path::new("x.jpg"), &v1, &labels), expected);
        assert_eq!(table(Path::new("x.jpg"), &v2, &labels), expected);
    }

    #[test]
    fn many_classes_are_cut_and_foreign_labels_left_out() {
        let row: Vec<f64> = (0..1000).map(f64::from).collect();
        let text = scores("y", &row, &["one".to_owned()]);
        assert_eq!(text.lines().count(), 12);
        assert!(text.ends_with("and 990 more\n"));
        assert!(!text.contains("one"));
    }
}
