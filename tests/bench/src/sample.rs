//! What is sent: a V1 request with pictures, and the same pictures for the bare loop.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value;

/// The name under which the model is served.
pub(crate) const MODEL: &str = "flowers-sample";

/// The model folder of this checkout.
pub(crate) fn flowers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/models/flowers")
}

/// One request, again and again.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Head and body of the HTTP request, as they go onto the wire in one write.
    pub(crate) message: Vec<u8>,
    /// Length of the body.
    pub(crate) body: usize,
    /// The pictures inside, decoded from base64.
    pub(crate) pictures: Vec<Bytes>,
}

impl Sample {
    /// A request with one picture.
    pub(crate) fn of_picture(path: &Path) -> anyhow::Result<Self> {
        let picture = std::fs::read(path).with_context(|| path.display().to_string())?;
        let base64 = BASE64_STANDARD.encode(&picture);
        let body = format!(r#"{{"instances":[{{"image_bytes":{{"b64":"{base64}"}},"key":"1"}}]}}"#);
        Ok(Self::new(body.as_bytes(), vec![Bytes::from(picture)]))
    }

    /// The request of a file.
    pub(crate) fn of_request(path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let body = std::fs::read(path).with_context(name)?;
        let request: Value = serde_json::from_slice(&body).with_context(name)?;
        let rows = request["instances"].as_array().with_context(|| format!("{}: no 'instances'", name()))?;
        let picture = |row: &Value| {
            let base64 = row["image_bytes"]["b64"].as_str().context("an instance has no 'image_bytes' in base64")?;
            anyhow::Ok(Bytes::from(BASE64_STANDARD.decode(base64).context("'image_bytes'")?))
        };
        let pictures: Vec<Bytes> = rows.iter().map(picture).collect::<Result<_, _>>().with_context(name)?;
        anyhow::ensure!(!pictures.is_empty(), "{}: 'instances' are empty", name());
        Ok(Self::new(&body, pictures))
    }

    fn new(body: &[u8], pictures: Vec<Bytes>) -> Self {
        let head = format!(
            "POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        Self { message: [head.as_bytes(), body].concat(), body: body.len(), pictures }
    }
}
