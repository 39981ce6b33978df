//! `corymb predict`: files in, a table of classes and scores out.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use corymb_core::{DType, Signature, Tensor, Tensors};
use corymb_wire::raw::JSON_LENGTH;
use corymb_wire::{Encoded, Limits, Unbounded, refusal, v1, v2};
use http::{HeaderValue, Request, Response};
use serde_json::{Value, json};

use crate::config::SourceFlags;
use crate::embedded;
use crate::request_file::{RequestFile, as_first_input};
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
        let text = if arguments.json { format!("{}\n", answer.json) } else { table(path, &answer, &labels) };
        // A closed pipe is not worth a panic.
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}

/// The answer to one file: its JSON, and its tensors where they can be read.
struct Answer {
    json: Value,
    outputs: Option<Tensors>,
}

fn answer(transport: &Transport, model: &str, path: &Path) -> anyhow::Result<Answer> {
    let infer = format!("/v2/models/{model}/infer");
    let post = |url: &str, content_type: &str, body: Bytes| {
        Request::post(url).header("content-type", content_type).body(body).map_err(anyhow::Error::from)
    };
    let request = match RequestFile::read(path)? {
        RequestFile::Picture { media_type, bytes } => post(&infer, media_type, bytes)?,
        RequestFile::V2(document) => post(&infer, "application/json", document)?,
        RequestFile::Tensor(tensor) => {
            let inputs = as_first_input(tensor, &signature(transport, model)?)?;
            let Encoded { body, json_len } = v2::encode_request(&inputs, v2::Binary { inputs: true, outputs: false })?;
            let mut request = post(&infer, "application/octet-stream", body)?;
            request.headers_mut().extend(json_len.map(|length| (JSON_LENGTH.clone(), HeaderValue::from(length))));
            request
        }
        RequestFile::V1(document) => {
            let url = format!("/v1/models/{model}:predict");
            let response = send(transport, post(&url, "application/json", document)?)?;
            let json = json(&response)?;
            // V1's answer has no dtypes, and a server without V2 does not tell them: then its JSON has to do.
            let outputs = signature(transport, model).ok().and_then(|signature| {
                v1::decode_answer(&signature, response.body(), &Limits::default(), &mut Unbounded).ok()
            });
            return Ok(Answer { json, outputs });
        }
    };
    let response = send(transport, request)?;
    let json = json(&response)?;
    let read = v2::decode_answer(response.headers(), response.body(), &Limits::default(), &mut Unbounded);
    Ok(Answer { json, outputs: Some(read.context("read the answer")?.outputs) })
}

fn json(response: &Response<Bytes>) -> anyhow::Result<Value> {
    let status = response.status();
    serde_json::from_slice(response.body())
        .with_context(|| format!("the server answered {status} with something that is not JSON"))
}

/// Sends a request; a refusal is an error in the server's own words.
fn send(transport: &Transport, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
    let response = transport.send(request)?;
    let status = response.status();
    match refusal::decode(response.body()) {
        Some(error) => bail!("{error} ({status})"),
        None if !status.is_success() => bail!("the server answered {status}"),
        None => Ok(response),
    }
}

/// What the model takes and gives, as the server describes it.
fn signature(transport: &Transport, model: &str) -> anyhow::Result<Signature> {
    let metadata = send(transport, Request::get(format!("/v2/models/{model}")).body(Bytes::new())?)?;
    v2::decode_signature(metadata.body()).context("read the model's metadata")
}

/// The scores of each picture as a table, best first; anything else as JSON.
fn table(path: &Path, answer: &Answer, labels: &[String]) -> String {
    let mut text = format!("{}\n", path.display());
    let mut show = |name: &str, rows: Option<Vec<Vec<f64>>>, value: &dyn Fn() -> String| match rows {
        Some(rows) => rows.iter().for_each(|row| text.push_str(&scores(name, row, labels))),
        None => text.push_str(&format!("  {name}: {}\n", value())),
    };
    match &answer.outputs {
        Some(outputs) => outputs.iter().for_each(|(name, tensor)| {
            show(name, rows(tensor), &|| v1::text_of(name, tensor).unwrap_or_default());
        }),
        None => rows_of_v1(&answer.json).into_iter().for_each(|(name, value)| {
            show(&name, rows_of_json(&value), &|| value.to_string());
        }),
    }
    text
}

/// Rows of several numbers each.
fn rows(tensor: &Tensor) -> Option<Vec<Vec<f64>>> {
    let &[_, columns] = tensor.shape() else { return None };
    macro_rules! values {
        ($element:ty) => {
            tensor.as_slice::<$element>()?.iter().map(|value| *value as f64).collect()
        };
    }
    let values: Vec<f64> = match tensor.dtype() {
        DType::Fp32 => values!(f32),
        DType::Fp64 => values!(f64),
        DType::Uint8 => values!(u8),
        DType::Uint16 => values!(u16),
        DType::Uint32 => values!(u32),
        DType::Uint64 => values!(u64),
        DType::Int8 => values!(i8),
        DType::Int16 => values!(i16),
        DType::Int32 => values!(i32),
        DType::Int64 => values!(i64),
        DType::Bool | DType::Fp16 | DType::Bf16 | DType::Bytes => return None,
    };
    (columns > 1).then(|| values.chunks(columns).map(<[f64]>::to_vec).collect())
}

/// Each row of V1's `predictions`, output by output; a bare value has no name.
fn rows_of_v1(answer: &Value) -> Vec<(String, Value)> {
    let rows = answer.get("predictions").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = rows.into_iter().map(|row| match row {
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, json!([value]))).collect(),
        other => vec![("output".to_owned(), json!([other]))],
    });
    named.collect::<Vec<_>>().concat()
}

fn rows_of_json(value: &Value) -> Option<Vec<Vec<f64>>> {
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
    fn scores_are_a_table_and_the_rest_is_json() {
        let labels = ["daisy", "rose"].map(str::to_owned);
        let key = Tensor::from_elements([1], vec![Bytes::from_static(b"a")]).expect("valid");
        let scores = Tensor::from_slice([1, 2], &[0.25_f32, 0.75]).expect("valid");
        let outputs = Some(Tensors::from_iter([("key", key), ("scores", scores)]));
        let expected = "x.jpg\n  key: [\"a\"]\n  scores\n       1  rose   0.750000\n       0  daisy  0.250000\n";
        let answer = Answer { json: Value::Null, outputs };
        assert_eq!(table(Path::new("x.jpg"), &answer, &labels), expected);
        // Of a server that does not tell its model's dtypes.
        let json = json!({"predictions": [{"key": "a", "scores": [0.25, 0.75]}]});
        assert_eq!(table(Path::new("x.jpg"), &Answer { json, outputs: None }, &labels), expected);
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
