//! The one HTTP client: made when it is first needed, on ring, with bounded patience.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Response;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::store::answer::refusal;
use crate::store::body::read;
use crate::store::fault::{Fault, causes};

/// A server that is silent for so long is asked again.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// Metadata servers are near or not there.
const METADATA_PATIENCE: Duration = Duration::from_secs(1);
/// Where clouds have them.
const METADATA_HOSTS: [&str; 4] = ["169.254.169.254", "169.254.170.2", "metadata.google.internal", "metadata"];
/// The largest listing page or token that is read.
const MAX_ANSWER: usize = 32 << 20;

/// Sends requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
}

impl Client {
    /// `certificates`: a file of the certificates to trust, in PEM; without it the built-in ones.
    pub(crate) fn new(certificates: Option<&str>) -> Result<Self, Fault> {
        let mut roots = RootCertStore::empty();
        match certificates {
            Some(file) => {
                let unreadable = |reason: String| Fault::refused(format!("SSL_CERT_FILE {file}: {reason}"));
                let found = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))?;
                for certificate in found {
                    let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                    // One that cannot be used is no reason to refuse the others.
                    let _ = roots.add(certificate);
                }
                if roots.is_empty() {
                    return Err(unreadable("no certificate in it".to_owned()));
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::refused(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(SILENCE)
            .read_timeout(SILENCE)
            .user_agent(concat!("corymb/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Fault::transport)?;
        Ok(Self { http })
    }

    /// A GET; the caller sends it by [`Client::send`].
    pub(crate) fn get(&self, url: url::Url) -> reqwest::RequestBuilder {
        self.http.get(url)
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

/// Catches the answer to a request that `object_store` has addressed and signed, before it reads it. It hides what we
/// need of it: the status and the headers of errors, checksums, a range that is shorter than asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catch {
    answer: Arc<Mutex<Option<Result<Response, Fault>>>>,
    more: Option<Arc<More>>,
}

/// What is asked of S3 beside what the library asks.
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
        response.body(body.into()).map_err(|error| failed(causes(&error)))
    }
}
