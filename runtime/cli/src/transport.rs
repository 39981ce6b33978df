//! How a prediction reaches a server: through its own code in this process, or over HTTP.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use corymb_core::RUN_BYTES;
use corymb_server::{Local, ServerOptions};
use http::{Request, Response};
use tokio::runtime::Runtime;

use crate::config::{SourceFlags, engine_options, environment};
use crate::{sources, wiring};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The largest answer that is read.
const MAX_ANSWER: u64 = 256 << 20;

/// Where requests go.
pub(crate) enum Transport {
    /// The same routes that a server has, called without a socket.
    Local { runtime: Runtime, server: Local, model: String, labels: Vec<String> },
    /// A running server.
    Remote { agent: ureq::Agent, base: String },
}

impl Transport {
    /// Loads the one model that `flags` name.
    pub(crate) fn local(flags: &SourceFlags) -> anyhow::Result<Self> {
        let repository = sources::repository(flags)?;
        let mut folders = sources::open_blocking(flags, &repository)?;
        if folders.iter().any(|folder| folder.name != folders[0].name) {
            let wanted = flags.model_name.as_deref();
            folders.retain(|folder| Some(folder.name.as_str()) == wanted);
        }
        // Versions are ascending: the newest answers.
        let Some(folder) = folders.pop() else { bail!("there are several models; say which by --model-name") };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let engine = {
            let _runtime = runtime.enter();
            let environment = environment();
            let libraries = wiring::library_search(flags, &environment);
            wiring::engine(engine_options(flags, &environment), libraries, RUN_BYTES)?
        };
        let (model, labels) = (folder.name.clone(), folder.labels.clone());
        runtime.block_on(engine.load(folder)).with_context(|| format!("load model '{model}'"))?;
        let server = Local::new(engine, ServerOptions::default());
        Ok(Self::Local { runtime, server, model, labels })
    }

    /// A running server at `url`: scheme, host and port, without a path.
    pub(crate) fn remote(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .user_agent(concat!("corymb/", env!("CARGO_PKG_VERSION")));
        Self::Remote { agent: config.build().into(), base: url.trim_end_matches('/').to_owned() }
    }

    /// Sends a request whose URI is a path.
    pub(crate) fn send(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        match self {
            Self::Local { runtime, server, .. } => Ok(runtime.block_on(server.send(request))),
            Self::Remote { agent, base } => {
                let (mut parts, body) = request.into_parts();
                let url = format!("{base}{}", parts.uri);
                parts.uri = url.parse().with_context(|| format!("'{url}' is not a URL"))?;
                let answer = agent.run(Request::from_parts(parts, body.to_vec())).with_context(|| url.clone())?;
                let (parts, mut body) = answer.into_parts();
                let bytes = body.with_config().limit(MAX_ANSWER).read_to_vec().with_context(|| url)?;
                Ok(Response::from_parts(parts, bytes.into()))
            }
        }
    }
}
