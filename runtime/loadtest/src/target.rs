//! Where requests go: host and port of a server that speaks plain HTTP.

use std::fmt;

use http::Uri;

use crate::error::LoadError;

/// A server, as `http://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Parses a URL of a scheme, a host and perhaps a port; a path is refused, since every protocol has its own.
    ///
    /// # Errors
    /// [`LoadError::Target`], in words.
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let wrong = |reason: &str| LoadError::Target { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL; expected http://host:port"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("TLS is not spoken here; expected http://host:port")),
            _ => return Err(wrong("expected http://host:port")),
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("expected no path behind the port"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("there is no host"))?;
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(80) })
    }

    /// `host:port`, for the `Host` header and for messages.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What a socket connects to. Brackets belong to URLs, not to addresses.
    pub(crate) fn address(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_hosts_and_ports() {
        for (url, authority) in
            [("http://a", "a:80"), ("http://a:8080", "a:8080"), ("http://a:1/", "a:1"), ("http://[::1]:7", "[::1]:7")]
        {
            assert_eq!(Target::parse(url).expect(url).authority(), authority);
        }
        assert_eq!(Target::parse("http://[::1]:7").expect("valid").address(), ("::1", 7));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (url, reason) in [
            ("https://a", "TLS is not spoken here"),
            ("a:80", "expected http://host:port"),
            ("http://a/v1/models", "expected no path"),
            ("ftp://a", "expected http://host:port"),
        ] {
            let error = Target::parse(url).expect_err(url).to_string();
            assert!(error.contains(reason) && error.contains(url), "{error}");
        }
    }
}
