//! Which model, and which version of it, a request is for.

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use http::{Method, Request};

use crate::status::ServerError;

/// A model and a version as the caller names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) model: String,
    /// None for the one that serves.
    pub(crate) version: Option<String>,
}

impl Target {
    /// V1 clients say "the latest" by version 0.
    pub(crate) fn of_v1(self) -> Self {
        let version = self.version.filter(|version| version != "0" && version != "latest");
        Self { version, ..self }
    }

    /// On gRPC's wire no version is an empty one.
    pub(crate) fn version_of_grpc(given: &str) -> Option<&str> {
        Some(given).filter(|given| !given.is_empty())
    }

    /// The target of a V2 prediction whose names stand in the URL as they are, found as the router would find it.
    pub(crate) fn of_v2_infer(request: &Request<Body>) -> Option<Self> {
        let names = request.uri().path().strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
        if request.method() != Method::POST || names.contains('%') {
            return None;
        }
        let name = |name: &str| (!name.is_empty() && !name.contains('/')).then(|| name.to_owned());
        match names.split_once("/versions/") {
            None => Some(Self { model: name(names)?, version: None }),
            Some((model, version)) => Some(Self { model: name(model)?, version: Some(name(version)?) }),
        }
    }
}

/// Percent-decoded names of the URL.
impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let parameters = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ServerError::not_found("no such URL: a name in it is not valid UTF-8"))?;
        let named =
            |wanted: &str| parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned());
        Ok(Self { model: named("model").unwrap_or_default(), version: named("version") })
    }
}
