//! A prepared request: what a load generator sends again and again without encoding it anew.

use bytes::Bytes;
use corymb_proto::inference::ModelInferRequest;
use http::{HeaderMap, HeaderValue, Method, Request, header};

use crate::error::LoadError;

/// One request, ready to be sent. Clones share the payload.
#[derive(Clone, Debug)]
pub enum Call {
    /// Any REST request.
    Rest(Box<RestCall>),
    /// `ModelInfer` of the Open Inference Protocol.
    Grpc(Box<ModelInferRequest>),
}

/// A REST request: the URL without scheme and host.
#[derive(Clone, Debug)]
pub struct RestCall {
    pub(crate) method: Method,
    pub(crate) path: http::Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// A `POST` of `body`, or a `GET` where there is none.
    ///
    /// # Errors
    /// [`LoadError::Request`] where `path` or a header is not valid.
    pub fn rest(path: &str, headers: &[(&str, &str)], body: Option<Bytes>) -> Result<Self, LoadError> {
        let wrong = |what: &str| LoadError::Request(what.to_owned());
        let path = path.parse().map_err(|_| wrong(&format!("'{path}' is not the path of a URL")))?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = header::HeaderName::try_from(*name).map_err(|_| wrong(&format!("header name '{name}'")))?;
            let value = HeaderValue::try_from(*value).map_err(|_| wrong(&format!("value of header '{name}'")))?;
            map.append(name, value);
        }
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let body = body.unwrap_or_default();
        Ok(Self::Rest(Box::new(RestCall { method, path, headers: map, body })))
    }

    /// `ModelInfer`.
    #[must_use]
    pub fn grpc(request: ModelInferRequest) -> Self {
        Self::Grpc(Box::new(request))
    }
}

impl RestCall {
    /// The request for a server whose `Host` is `authority`, with what every request says.
    pub(crate) fn request(&self, authority: &HeaderValue, more: &HeaderMap) -> Request<http_body_util::Full<Bytes>> {
        let mut request = Request::new(http_body_util::Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        // A name that is said twice is said as the caller of the whole says it.
        let headers = request.headers_mut();
        for name in more.keys() {
            headers.remove(name);
        }
        for (name, value) in more {
            headers.append(name, value.clone());
        }
        request.headers_mut().insert(header::HOST, authority.clone());
        request
    }
}
