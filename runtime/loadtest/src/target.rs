//! Where requests go: host and port of a server, and how it is reached, through an ingress too.

use std::fmt;
use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::error::LoadError;

/// A server, as `http://host[:port]` or `https://host[:port]`.
#[derive(Clone, Debug)]
pub struct Target {
    host: String,
    port: u16,
    access: Arc<Access>,
    /// Of HTTP/1.1, where TLS is spoken.
    tls: Option<Arc<ClientConfig>>,
}

/// How a server is reached beside its address.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Of every request, in the place of the URL's host: an ingress finds the service by it. With TLS it is what the certificate is
    /// for, too.
    pub host: Option<Authority>,
    /// Of every request; metadata by gRPC.
    pub headers: HeaderMap,
    /// Certificates that are trusted beside the web's, PEM.
    pub roots: Vec<u8>,
}

impl Target {
    /// Parses a URL of a scheme, a host and perhaps a port; a path is refused, since every protocol has its own.
    ///
    /// # Errors
    /// [`LoadError::Target`], in words.
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let wrong = |reason: &str| LoadError::Target { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL; expected http://host:port"))?;
        let (is_tls, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong("expected http://host:port or https://host:port")),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("expected no path behind the port"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("expected no user name; a header says who asks"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("there is no host"))?;
        let tls = if is_tls { Some(Arc::new(config(&[])?)) } else { None };
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(port), access: Arc::default(), tls })
    }

    /// The same server, reached so.
    ///
    /// # Errors
    /// [`LoadError::Certificates`] where what is trusted is no certificate.
    pub fn reached_by(self, access: Access) -> Result<Self, LoadError> {
        let tls = self.tls.as_ref().map(|_| config(&access.roots).map(Arc::new)).transpose()?;
        Ok(Self { access: Arc::new(access), tls, ..self })
    }

    /// `host:port`, for the `Host` header and for messages.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What the `Host` header says.
    pub(crate) fn named(&self) -> String {
        self.access.host.as_ref().map_or_else(|| self.authority(), ToString::to_string)
    }

    /// What the certificate is to be for.
    pub(crate) fn certified(&self) -> &str {
        let host = self.access.host.as_ref().map_or(self.host.as_str(), Authority::host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.access.headers
    }

    pub(crate) fn roots(&self) -> &[u8] {
        &self.access.roots
    }

    /// How TLS is spoken, and to whom; none where it is not.
    pub(crate) fn tls(&self) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let name = ServerName::try_from(self.certified().to_owned()).ok()?;
        Some((Arc::clone(self.tls.as_ref()?), name))
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What a socket connects to. Brackets belong to URLs, not to addresses.
    pub(crate) fn address(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }

    /// The `Host` header.
    pub(crate) fn host_header(&self) -> HeaderValue {
        HeaderValue::try_from(self.named()).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

/// TLS of a client that trusts the web's certificates and these.
fn config(pem: &[u8]) -> Result<ClientConfig, LoadError> {
    let wrong = |reason: String| LoadError::Certificates(reason);
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        added += 1;
    }
    if added == 0 && !pem.is_empty() {
        return Err(wrong("there is none in it; expected PEM".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| wrong(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_hosts_and_ports() {
        for (url, shown) in [
            ("http://a", "http://a:80"),
            ("http://a:8080", "http://a:8080"),
            ("http://a:1/", "http://a:1"),
            ("http://[::1]:7", "http://[::1]:7"),
            ("https://a", "https://a:443"),
        ] {
            assert_eq!(Target::parse(url).expect(url).to_string(), shown);
        }
        assert_eq!(Target::parse("http://[::1]:7").expect("valid").address(), ("::1", 7));
    }

    #[test]
    fn an_ingress_is_told_whom_the_request_is_for() {
        let access = Access { host: Some(Authority::from_static("m.example.com:8443")), ..Access::default() };
        let target = Target::parse("https://10.0.0.1").expect("valid").reached_by(access).expect("valid");
        assert_eq!((target.named().as_str(), target.certified()), ("m.example.com:8443", "m.example.com"));
        assert_eq!((target.address(), target.authority().as_str()), (("10.0.0.1", 443), "10.0.0.1:443"));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (url, reason) in [
            ("a:80", "expected http://host:port"),
            ("http://a/v1/models", "expected no path"),
            ("http://u:p@a", "expected no user name"),
            ("ftp://a", "expected http://host:port"),
        ] {
            let error = Target::parse(url).expect_err(url).to_string();
            assert!(error.contains(reason) && error.contains(url), "{error}");
        }
        let access = Access { roots: b"no PEM".to_vec(), ..Access::default() };
        let error = Target::parse("https://a").expect("valid").reached_by(access).expect_err("no certificate");
        assert!(error.to_string().contains("expected PEM"), "{error}");
    }
}
