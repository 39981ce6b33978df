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
        let text = if arguments.json {
            format!("{}\n", String::from_utf8_lossy(&answer.body))
        } else {
            table(path, &answer, &labels)
        };
        // A closed pipe is not worth a panic.
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}

/// The answer to one file: as it came, and as tensors where it can be read so.
struct Answer {
    body: Bytes,
    outputs: Option<Tensors>,
}

fn answer(transport: &Transport, model: &str, path: &Path) -> anyhow::Result<Answer> {
    let infer = format!("/v2/models/{model}/infer");
    let post = |url: &str, content_type: &str, body: Bytes| {
        Request::post(url).header("content-type", content_type).body(body).map_err(anyhow::Error::from)
    };
    let response = match RequestFile::read(path)? {
        RequestFile::Picture { media_type, bytes } => send(transport, post(&infer, media_type, bytes)?)?,
        RequestFile::V2(document) => send(transport, post(&infer, "application/json", document)?)?,
        RequestFile::Tensor(tensor) => {
            let inputs = as_first_input(tensor, &signature(transport, model)?)?;
            let Encoded { body, json_len } = v2::encode_request(&inputs, v2::Binary { inputs: true, outputs: false })?;
            let mut request = post(&infer, "application/octet-stream", body.into())?;
            request.headers_mut().extend(json_len.map(|length| (JSON_LENGTH.clone(), HeaderValue::from(length))));
            send(transport, request)?
        }
        RequestFile::V1(document) => {
            let url = format!("/v1/models/{model}:predict");
            let body = send(transport, post(&url, "application/json", document)?)?.into_body();
            // V1's answer has no dtypes. A server without V2 does not tell them: then it is shown as it came.
            let outputs = signature(transport, model)
                .ok()
                .and_then(|signature| v1::decode_answer(&signature, &body, &Limits::default(), &mut Unbounded).ok());
            return Ok(Answer { body, outputs });
        }
    };
    let (parts, body) = response.into_parts();
    let read = v2::decode_answer(&parts.headers, &body, &Limits::default(), &mut Unbounded);
    Ok(Answer { outputs: Some(read.context("read the answer")?.outputs), body })
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
    let Some(outputs) = &answer.outputs else {
        text.push_str(&format!("  {}\n", String::from_utf8_lossy(&answer.body)));
        return text;
    };
    for (name, tensor) in outputs.iter() {
        match rows(tensor) {
            Some(rows) => rows.iter().for_each(|row| text.push_str(&scores(name, row, labels))),
            None => {
                let value = v1::text_of(name, tensor).unwrap_or_default();
                text.push_str(&format!("  {name}: {value}\n"));
            }
        }
    }
    text
}

/// Rows of several floats each.
fn rows(tensor: &Tensor) -> Option<Vec<Vec<f64>>> {
    let &[_, columns] = tensor.shape() else { return None };
    let values: Vec<f64> = match tensor.dtype() {
        DType::Fp32 => tensor.as_slice::<f32>()?.iter().map(|value| f64::from(*value)).collect(),
        DType::Fp64 => tensor.as_slice::<f64>()?.to_vec(),
        _ => return None,
    };
    (columns > 1).then(|| values.chunks(columns).map(<[f64]>::to_vec).collect())
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
        let answer = Answer { body: Bytes::new(), outputs };
        assert_eq!(table(Path::new("x.jpg"), &answer, &labels), expected);
        let unread = Answer { body: Bytes::from_static(b"{\"predictions\":[1]}"), outputs: None };
        assert_eq!(table(Path::new("x.json"), &unread, &labels), "x.json\n  {\"predictions\":[1]}\n");
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
