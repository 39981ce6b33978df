//! The requests of a load: read from files, or made up from what the model says it takes.

mod made_up;
mod wire;

use std::path::Path;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::ValueEnum;
use corymb_core::{Tensor, Tensors};
use corymb_loadtest::Call;

use crate::commands::bench::{LoadFlags, Subject};
use crate::request_file::{RequestFile, as_first_input};

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
            let (inputs, origin) = made_up::inputs(&subject.signature, flags.batch, &flags.shape)?;
            let (call, bytes) = wire::encode(protocol, &subject.model, &inputs)?;
            return Ok(Self { calls: vec![call], protocol, bytes, origin, is_made_up: true });
        }
        let mut calls = Vec::new();
        let mut first: Option<(Protocol, usize)> = None;
        for path in &flags.data {
            let named = || path.display().to_string();
            let (call, protocol, bytes) = from_file(path, flags.protocol, subject).with_context(named)?;
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

fn from_file(path: &Path, protocol: Option<Protocol>, subject: &Subject) -> anyhow::Result<(Call, Protocol, usize)> {
    let model = subject.model.as_str();
    let encoded = |protocol: Protocol, inputs: &Tensors| {
        let (call, bytes) = wire::encode(protocol, model, inputs)?;
        Ok((call, protocol, bytes))
    };
    let document = |known: Protocol, url: String, body: Bytes| {
        if let Some(wanted) = protocol.filter(|wanted| *wanted != known) {
            bail!("this is a request of {}, sent as it is; it cannot be sent as {}", known.name(), wanted.name());
        }
        let bytes = body.len();
        Ok((Call::rest(&url, &[("content-type", "application/json")], Some(body))?, known, bytes))
    };
    match RequestFile::read(path)? {
        RequestFile::Picture { bytes, .. } => {
            let input = made_up::only_bytes_input(&subject.signature)
                .context("a picture goes to a model with one required BYTES input")?;
            let inputs = Tensors::from_iter([(input, Tensor::from_elements([1], vec![bytes])?)]);
            encoded(protocol.unwrap_or(Protocol::Picture), &inputs)
        }
        RequestFile::Tensor(tensor) => {
            encoded(protocol.unwrap_or(Protocol::V2Binary), &as_first_input(tensor, &subject.signature)?)
        }
        RequestFile::V2(body) => document(Protocol::V2, format!("/v2/models/{model}/infer"), body),
        RequestFile::V1(body) => document(Protocol::V1, format!("/v1/models/{model}:predict"), body),
    }
}
