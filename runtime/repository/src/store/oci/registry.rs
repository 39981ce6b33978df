//! Requests to one repository of a registry, each with what the registry wants to see of who asks.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};
use url::{Host, Url};

use crate::store::answer::refusal;
use crate::store::body::read;
use crate::store::client::{Client, Environment};
use crate::store::credentials::Identity;
use crate::store::fault::{Fault, FaultKind};
use crate::store::oci::challenge::Challenge;
use crate::store::oci::login::{Login, find};
use crate::uri::OciPlace;

/// The largest answer of a token server that is read.
const MAX_TOKEN: usize = 1 << 20;
/// Where Docker's registry is, by whichever of its names it is called.
const DOCKER: &str = "registry-1.docker.io";
/// Who asks, for token servers that want to know.
const CLIENT_ID: &str = "corymb";

/// One repository of a registry.
pub(super) struct Registry {
    client: Client,
    place: OciPlace,
    environment: Environment,
    /// Who asks: looked for once the registry wants to know.
    login: OnceCell<(Login, Identity)>,
    /// What was last taken for an answer.
    authorization: Mutex<Option<HeaderValue>>,
}

/// What a token server answers; which of the two it is called depends on how it was asked.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    pub(super) fn new(place: &OciPlace, client: &Client, environment: &Environment) -> Self {
        let (client, place, environment) = (client.clone(), place.clone(), environment.clone());
        Self { client, place, environment, login: OnceCell::new(), authorization: Mutex::default() }
    }

    /// Sends a request for `path` of the repository, again with credentials where the registry wants some. The answer may be of
    /// any status but those that refuse who asked.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Fault> {
        let url = self.url(path)?;
        let ask = async |authorization: Option<&HeaderValue>| {
            // reqwest leaves it out when a redirect leads to another host.
            let request = dress(self.client.request(method.clone(), url.clone()));
            let request = match authorization {
                Some(value) => request.header(AUTHORIZATION, value.clone()),
                None => request,
            };
            self.client.send(request).await
        };
        let used = self.authorization.lock().await.clone();
        let mut response = ask(used.as_ref()).await?;
        // Where a redirect leads is not who may ask for our credentials.
        if response.status() == StatusCode::UNAUTHORIZED && response.url().origin() == url.origin() {
            let new = match Challenge::of(response.headers()) {
                Some(challenge) => self.authorize(used.as_ref(), &challenge).await?,
                None => None,
            };
            if let Some(new) = new {
                response = ask(Some(&new)).await?;
            }
        }
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let fault = refusal(response).await;
                Err(self.login().await.1.explain(fault))
            }
            _ => Ok(response),
        }
    }

    /// What to send after this challenge; none where nothing is known that was not refused already.
    async fn authorize(&self, used: Option<&HeaderValue>, challenge: &Challenge) -> Result<Option<HeaderValue>, Fault> {
        let mut authorization = self.authorization.lock().await;
        if authorization.as_ref() != used {
            // Another request has asked meanwhile.
            return Ok(authorization.clone());
        }
        let new = match (challenge, &self.login().await.0) {
            (Challenge::Basic, Login::User { name, password }) => {
                let request = self.client.get(self.url("")?).basic_auth(name, Some(password));
                let request = request.build().map_err(Fault::transport)?;
                request.headers().get(AUTHORIZATION).cloned().filter(|value| Some(value) != used)
            }
            (Challenge::Basic, _) => None,
            (Challenge::Bearer { realm, service, scope }, login) => {
                let token = self.token(realm, service.as_deref(), scope.as_deref(), login).await?;
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let mut value = value.map_err(|_| Fault::refused("the registry's token cannot stand in a header"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        authorization.clone_from(&new);
        Ok(new)
    }

    /// A token of the server that the registry names.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        login: &Login,
    ) -> Result<String, Fault> {
        let mut url = Url::parse(realm).map_err(|_| Fault::refused("the registry names a token server by no URL"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && !self.is_encrypted());
        if !is_safe {
            let reason = format!("the registry sends one for a token to {host} without encryption");
            return Err(Fault::refused(reason));
        }
        let own = format!("repository:{}:pull", self.place.repository);
        let scope = scope.unwrap_or(&own);
        let request = match login {
            Login::Identity(token) => {
                let mut fields = url::form_urlencoded::Serializer::new(String::new());
                fields.extend_pairs([("grant_type", "refresh_token"), ("refresh_token", token), ("scope", scope)]);
                fields.extend_pairs([("service", service.unwrap_or_default()), ("client_id", CLIENT_ID)]);
                let request = self.client.request(Method::POST, url);
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(fields.finish())
            }
            Login::User { .. } | Login::Nobody => {
                let mut query = url.query_pairs_mut();
                query.extend_pairs(service.map(|service| ("service", service)));
                query.append_pair("scope", scope);
                drop(query);
                let request = self.client.get(url);
                match login {
                    Login::User { name, password } => request.basic_auth(name, Some(password)),
                    _ => request,
                }
            }
        };
        let within = |fault: Fault| {
            let kind = if fault.kind == FaultKind::Missing { FaultKind::Refused } else { fault.kind };
            Fault { kind, reason: format!("a token of {host} was asked for: {}", fault.reason) }
        };
        let response = self.client.send(request).await.map_err(within)?;
        if !response.status().is_success() {
            let fault = refusal(response).await;
            return Err(within(self.login().await.1.explain(fault)));
        }
        let body = read(response, MAX_TOKEN).await.map_err(within)?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token)).filter(|token| !token.is_empty());
        token.ok_or_else(|| within(Fault::refused("there is none in its answer")))
    }

    async fn login(&self) -> &(Login, Identity) {
        let find = || find(&self.place.host, &self.place.repository, &self.environment);
        self.login.get_or_init(find).await
    }

    fn is_encrypted(&self) -> bool {
        let url = Url::parse(&format!("http://{}/", self.place.host)).ok();
        let is_near = match url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        !is_near
    }

    /// Where a part of the repository is.
    fn url(&self, path: &str) -> Result<Url, Fault> {
        let host = match self.place.host.as_str() {
            "docker.io" | "index.docker.io" => DOCKER,
            other => other,
        };
        let scheme = if self.is_encrypted() { "https" } else { "http" };
        let url = format!("{scheme}://{host}/v2/{}/{path}", self.place.repository);
        Url::parse(&url).map_err(|error| Fault::refused(format!("{host}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, Environment, Registry};
    use crate::uri::OciPlace;

    #[test]
    fn what_is_near_is_asked_without_encryption() {
        let none = Environment::new();
        let client = Client::new(&none).expect("a client");
        for (host, expected) in [
            ("docker.io", "https://registry-1.docker.io/v2/a/b/x"),
            ("quay.io", "https://quay.io/v2/a/b/x"),
            ("registry:5000", "https://registry:5000/v2/a/b/x"),
            ("localhost", "http://localhost/v2/a/b/x"),
            ("localhost:5000", "http://localhost:5000/v2/a/b/x"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/a/b/x"),
            ("[::1]:5000", "http://[::1]:5000/v2/a/b/x"),
            ("localhost.evil.io", "https://localhost.evil.io/v2/a/b/x"),
        ] {
            let (host, repository, path) = (host.to_owned(), "a/b".to_owned(), String::new());
            let place = OciPlace { host, repository, tag: None, digest: None, path };
            let registry = Registry::new(&place, &client, &none);
            assert_eq!(registry.url("x").expect("valid").as_str(), expected);
        }
    }
}
