//! The one HTTP client: made when it is first needed, on ring, with bounded patience.

mod certificates;
mod environment;
mod kserve;
mod listing;
#[cfg(test)]
mod tests;
mod unverified;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Response;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};

pub(crate) use environment::{Environment, is_true, set};
pub(crate) use kserve::{SPEC, spec, text};

use crate::store::answer::refusal;
use crate::store::body::read;
use crate::store::client::certificates::{roots, roots_of_s3};
use crate::store::client::listing::with_plain_keys;
use crate::store::client::unverified::Unverified;
use crate::store::fault::{Fault, causes};

/// A server that is silent for so long is asked again.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// Metadata servers are near or not there.
const METADATA_PATIENCE: Duration = Duration::from_secs(1);
/// Where clouds have them; of AWS that of machines, of tasks, and of the pods of EKS.
const METADATA_HOSTS: [&str; 7] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "metadata.google.internal",
    "metadata",
];
/// The largest listing page or token that is read.
const MAX_ANSWER: usize = 32 << 20;

/// Sends requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Trusts who may answer for S3 alone, where there is such a one.
    s3: Option<reqwest::Client>,
    /// As [`Client::unverified`] gives it, once it was asked for.
    unverified: Arc<OnceLock<reqwest::Client>>,
}

impl Client {
    /// `environment` may name certificates to trust: `SSL_CERT_FILE` those that are trusted instead of the built-in
    /// ones and the system's; `SSL_CERT_DIR`, `AWS_CA_BUNDLE`, `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` further ones;
    /// `STORAGE_CONFIG` further ones of S3.
    pub(crate) fn new(environment: &Environment) -> Result<Self, Fault> {
        let roots = roots(environment)?;
        let s3 = roots_of_s3(environment, &roots)?.map(trusting).transpose()?;
        Ok(Self { http: trusting(roots)?, s3, unverified: Arc::default() })
    }

    /// The client for S3, which may trust others, too.
    pub(crate) fn for_s3(&self) -> Self {
        Self { http: self.s3.clone().unwrap_or_else(|| self.http.clone()), ..self.clone() }
    }

    /// A client that talks to any server, whatever its certificate; because of the variable `asked_by`.
    pub(crate) fn unverified(&self, asked_by: &str) -> Result<Self, Fault> {
        let http = match self.unverified.get() {
            Some(http) => http.clone(),
            None => {
                tracing::warn!("the certificates of S3 servers are not verified, as {asked_by} asks");
                let (provider, builder) = tls()?;
                let verifier = Arc::new(Unverified(provider));
                let tls = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
                let made = http(tls)?;
                self.unverified.get_or_init(|| made).clone()
            }
        };
        Ok(Self { http, ..self.clone() })
    }

    /// A GET; the caller sends it by [`Client::send`].
    pub(crate) fn get(&self, url: url::Url) -> reqwest::RequestBuilder {
        self.http.get(url)
    }

    /// Another request than a GET.
    pub(crate) fn request(&self, method: http::Method, url: url::Url) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends, and waits for the headers of the answer.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Fault> {
        let request = request.build().map_err(Fault::transport)?;
        self.execute(request).await
    }

    async fn execute(&self, request: reqwest::Request) -> Result<Response, Fault> {
        match tokio::time::timeout(SILENCE, self.http.execute(request)).await {
            Ok(answer) => answer.map_err(Fault::transport),
            Err(_) => Err(Fault::passing(format!("no answer for {} s", SILENCE.as_secs()))),
        }
    }
}

type TlsBuilder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

/// TLS on ring, but for whom it trusts.
fn tls() -> Result<(Arc<CryptoProvider>, TlsBuilder), Fault> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions();
    Ok((provider, builder.map_err(|error| Fault::refused(error.to_string()))?))
}

/// A client that trusts these.
fn trusting(roots: RootCertStore) -> Result<reqwest::Client, Fault> {
    let (_, builder) = tls()?;
    http(builder.with_root_certificates(roots).with_no_client_auth())
}

fn http(tls: ClientConfig) -> Result<reqwest::Client, Fault> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .user_agent(concat!("corymb/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(Fault::transport)
}

/// Catches the answer to a request that `object_store` has addressed and signed, before it reads it. It hides what we
/// need of it: the status and the headers of errors, checksums, a range that is shorter than asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catch {
    answer: Arc<Mutex<Option<Result<Response, Fault>>>>,
    more: Option<Arc<More>>,
}

/// What is asked of S3 beside what the library asks: checksums, and one part alone.
#[derive(Debug)]
struct More {
    signing: Option<Signing>,
    /// Which part of the object, counted from 1.
    part: Option<u64>,
}

/// By whom requests to S3 are signed.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    pub(crate) credentials: AwsCredentialProvider,
    pub(crate) region: String,
}

impl More {
    /// A header that changes the answer must be signed, too, so the request is signed anew.
    async fn add(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let failed = |reason: String| HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(reason));
        request.headers_mut().insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        if let Some(part) = self.part {
            let mut url: url::Url =
                request.uri().to_string().parse().map_err(|_| failed("its address is not a URL".to_owned()))?;
            url.query_pairs_mut().append_pair("partNumber", &part.to_string());
            *request.uri_mut() = url.as_str().parse().map_err(|_| failed("its address is not a URI".to_owned()))?;
        }
        let Some(Signing { credentials, region }) = &self.signing else { return Ok(()) };
        let credential = credentials.get_credential().await.map_err(|error| failed(causes(&error)))?;
        request.headers_mut().remove(http::header::AUTHORIZATION);
        let signer = AwsAuthorizer::new(&credential, "s3", region);
        signer.try_authorize(request, None).map_err(|error| failed(causes(&error)))
    }
}

impl Catch {
    /// Of a request to S3 that asks for the checksums, too, and for one `part` alone where one is named.
    pub(crate) fn with_checksums(signing: Option<Signing>, part: Option<u64>) -> Self {
        Self { answer: Arc::default(), more: Some(Arc::new(More { signing, part })) }
    }

    fn put(&self, answer: Result<Response, Fault>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// What came, when the request was sent at all.
    pub(crate) fn take(&self) -> Option<Result<Response, Fault>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl HttpConnector for Client {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Client {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if let Some(more) = request.extensions().get::<Catch>().and_then(|catch| catch.more.clone()) {
            more.add(&mut request).await?;
        }
        let (parts, body) = request.into_parts();
        let failed = |reason: String| HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(reason));
        let url: url::Url = parts.uri.to_string().parse().map_err(|_| failed("its address is not a URL".to_owned()))?;
        let is_listing =
            url.query_pairs().any(|(name, value)| name == "list-type" || (name == "comp" && value == "list"));
        let metadata = url.host_str().is_some_and(|host| METADATA_HOSTS.contains(&host));
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.timeout_mut() = metadata.then_some(METADATA_PATIENCE);
        if let Some(bytes) = body.as_bytes().filter(|bytes| !bytes.is_empty()) {
            *request.body_mut() = Some(bytes.clone().into());
        }
        let answer = self.execute(request).await;
        if let Some(catch) = parts.extensions.get::<Catch>() {
            catch.put(answer);
            return Err(failed("its answer is read elsewhere".to_owned()));
        }
        let answer = answer.map_err(|fault| HttpError::new(HttpErrorKind::Unknown, fault))?;
        // Metadata servers are asked in several ways, and their refusals are part of the conversation.
        if !metadata && !answer.status().is_success() {
            return Err(HttpError::new(HttpErrorKind::Unknown, refusal(answer).await));
        }
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
        }
        let body = read(answer, MAX_ANSWER).await;
        let body = body.map_err(|fault| HttpError::new(HttpErrorKind::Unknown, fault))?;
        let body = if is_listing { with_plain_keys(&body).unwrap_or(body) } else { body };
        response.body(body.into()).map_err(|error| failed(causes(&error)))
    }
}
