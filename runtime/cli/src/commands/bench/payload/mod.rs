//! The requests of a load: read from files, or made up from what the model says it takes.

mod made_up;
mod wire;

use std::path::Path;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::ValueEnum;
use corymb_core::Tensor;
use corymb_load::Call;
use corymb_repository::read_npy;
use serde_json::Value;

use crate::commands::bench::{LoadFlags, Subject};
use crate::media_type::picture;

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// V1 REST: `:predict` with JSON instances
    V1,
    /// V2 REST: `/infer` with JSON
    V2,
    /// V2 REST with binary tensors
    V2Binary,
    /// A picture as the whole body
    Picture,
    /// V2 gRPC with raw tensors
    Grpc,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V2Binary => "v2-binary",
            Self::Picture => "picture",
            Self::Grpc => "grpc",
        }
    }
}

/// `NAME=DIMS`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(super) input: String,
    pub(super) dims: Vec<usize>,
}

pub(super) fn parse_shape(text: &str) -> Result<Shape, String> {
    let wrong = || "expected NAME=DIMS, e.g. tokens=1,128".to_owned();
    let (input, dims) = text.split_once('=').ok_or_else(wrong)?;
    let dims: Vec<usize> =
        dims.split(',').map(|dim| dim.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    Ok(Shape { input: input.to_owned(), dims })
}

/// Named tensors of one request.
pub(super) type Inputs = Vec<(String, Tensor)>;

/// Requests, ready to be sent.
pub(super) struct Payload {
    pub(super) calls: Vec<Call>,
    pub(super) protocol: Protocol,
    /// Of the first request's body.
    pub(super) bytes: usize,
    /// Where the data is from.
    pub(super) origin: String,
    pub(super) is_made_up: bool,
}

impl Payload {
    pub(super) fn prepare(flags: &LoadFlags, subject: &Subject) -> anyhow::Result<Self> {
        if flags.data.is_empty() {
            let protocol = flags.protocol.unwrap_or(Protocol::V2Binary);
            let (inputs, origin) = made_up::inputs(&subject.metadata, flags.batch, &flags.shape)?;
            let (call, bytes) = wire::encode(protocol, &subject.model, &inputs)?;
            return Ok(Self { calls: vec![call], protocol, bytes, origin, is_made_up: true });
        }
        let mut calls = Vec::new();
        let mut first: Option<(Protocol, usize)> = None;
        for path in &flags.data {
            let named = || path.display().to_string();
            let content = Bytes::from(std::fs::read(path).with_context(named)?);
            let (call, protocol, bytes) = from_file(path, content, flags.protocol, subject).with_context(named)?;
            match first {
                Some((known, _)) if known != protocol => bail!(
                    "{} would be sent as {}, the file before as {}: a load is of one protocol, --protocol says which",
                    named(),
                    protocol.name(),
                    known.name()
                ),
                Some(_) => {}
                None => first = Some((protocol, bytes)),
            }
            calls.push(call);
        }
        let (protocol, bytes) = first.unwrap_or((Protocol::V2Binary, 0));
        let origin = match flags.data.as_slice() {
            [one] => one.display().to_string(),
            several => format!("{} files in turn", several.len()),
        };
        Ok(Self { calls, protocol, bytes, origin, is_made_up: false })
    }
}

fn from_file(
    path: &Path,
    content: Bytes,
    protocol: Option<Protocol>,
    subject: &Subject,
) -> anyhow::Result<(Call, Protocol, usize)> {
    let model = subject.model.as_str();
    if picture(&content).is_some() {
        let protocol = protocol.unwrap_or(Protocol::Picture);
        let input = made_up::only_bytes_input(&subject.metadata)
            .context("a picture goes to a model with one required BYTES input")?;
        let tensor = Tensor::from_elements([1], vec![content])?;
        let (call, bytes) = wire::encode(protocol, model, &vec![(input, tensor)])?;
        return Ok((call, protocol, bytes));
    }
    if path.extension().is_some_and(|ending| ending == "npy") {
        let protocol = protocol.unwrap_or(Protocol::V2Binary);
        let tensor = read_npy(&content).map_err(anyhow::Error::msg)?;
        let input = subject.metadata.pointer("/inputs/0").context("the model has no inputs")?;
        let rank = input["shape"].as_array().map_or(0, Vec::len);
        let tensor = if tensor.shape().len() + 1 == rank {
            let shape: Vec<usize> = std::iter::once(1).chain(tensor.shape().iter().copied()).collect();
            tensor.reshaped(shape)?
        } else {
            tensor
        };
        let name = input["name"].as_str().unwrap_or_default().to_owned();
        let (call, bytes) = wire::encode(protocol, model, &vec![(name, tensor)])?;
        return Ok((call, protocol, bytes));
    }
    let document: Value = serde_json::from_slice(&content)
        .context("neither a JPEG, PNG or WebP picture, nor .npy, nor a request in JSON")?;
    // V2's inputs are a list of objects with a datatype; V1's are instances, or inputs without one.
    let is_v2 = document.pointer("/inputs/0/datatype").is_some();
    let (known, url) = if is_v2 {
        (Protocol::V2, format!("/v2/models/{model}/infer"))
    } else {
        (Protocol::V1, format!("/v1/models/{model}:predict"))
    };
    if let Some(wanted) = protocol.filter(|wanted| *wanted != known) {
        bail!("this is a request of {}, sent as it is; it cannot be sent as {}", known.name(), wanted.name());
    }
    let bytes = content.len();
    Ok((Call::rest(&url, &[("content-type", "application/json")], Some(content))?, known, bytes))
}
