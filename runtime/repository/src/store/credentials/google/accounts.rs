//! The kinds of accounts that Google's files of credentials describe, and how each gets a token.
//!
//! <https://google.aip.dev/auth/4110> and those beside it; <https://cloud.google.com/iam/docs/workload-identity-federation>.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use corymb_core::files;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder};
use serde_json::{Value, json};

use crate::store::client::Client;
use crate::store::credentials::exchange::{
    ask, ask_json, fault_of, form, get, given, json as post, text, time, within,
};
use crate::store::credentials::renewed::{Fetch, Renewed, Temporary};
use crate::store::credentials::{MAX_FILE, once};
use crate::store::fault::{Fault, causes};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKENS: &str = "https://oauth2.googleapis.com/token";
const KINDS: &str = "service_account, authorized_user, external_account and impersonated_service_account";
/// Files name each other's kind this deep: the account that is impersonated, and who impersonates it.
const DEPTH: usize = 2;

type Fetched = Result<Temporary<GcpCredential>, Fault>;

/// The token of the account that `json` describes, and in words which it is. `of` names the file.
pub(super) fn provider(client: &Client, json: &Value, of: &str) -> Result<(GcpCredentialProvider, String), Fault> {
    of_depth(client, json, of, DEPTH).map_err(within(of))
}

fn of_depth(client: &Client, json: &Value, of: &str, depth: usize) -> Result<(GcpCredentialProvider, String), Fault> {
    let client = client.clone();
    let of = of.to_owned();
    match text(json, "type")? {
        "service_account" => {
            let builder = GoogleCloudStorageBuilder::new().with_bucket_name("none").with_retry(once());
            // Its provider is not to be had alone.
            let store = builder.with_service_account_key(json.to_string()).with_http_connector(client).build();
            let store = store.map_err(|error| Fault::refused(format!("its key cannot be used: {}", causes(&error))))?;
            let email = given(json, "client_email").unwrap_or_default();
            Ok((store.credentials().clone(), format!("the service account {email}")))
        }
        "authorized_user" => {
            let need = |name| text(json, name).map(str::to_owned);
            let url = given(json, "token_uri").unwrap_or(TOKENS).to_owned();
            let (id, secret, token) = (need("client_id")?, need("client_secret")?, need("refresh_token")?);
            Ok((Renewed::new(User { client, of, url, id, secret, token }), "the user".to_owned()))
        }
        "external_account" => {
            let federated = Federated::new(&client, json, &of)?;
            let federated: GcpCredentialProvider = Renewed::new(federated);
            let Some(url) = given(json, "service_account_impersonation_url") else {
                return Ok((federated, "the federated identity".to_owned()));
            };
            let lifetime = json["service_account_impersonation"]["token_lifetime_seconds"].as_u64();
            let impersonated = Impersonated::new(&client, &of, url, Vec::new(), lifetime, federated);
            Ok((Renewed::new(impersonated), format!("the service account {}", account_in(url))))
        }
        "impersonated_service_account" => {
            let url = text(json, "service_account_impersonation_url")?;
            let source = &json["source_credentials"];
            if depth == 0 {
                return Err(Fault::refused(
                    "its source_credentials impersonate somebody, too, who impersonates somebody",
                ));
            }
            let (source, _) = of_depth(&client, source, &of, depth - 1).map_err(within("its source_credentials"))?;
            let delegates = json["delegates"].as_array().into_iter().flatten();
            let delegates = delegates.filter_map(|one| one.as_str().map(str::to_owned)).collect();
            let impersonated = Impersonated::new(&client, &of, url, delegates, None, source);
            Ok((Renewed::new(impersonated), format!("the service account {}", account_in(url))))
        }
        other => Err(Fault::refused(format!("it is of the type '{other}'; read are {KINDS}"))),
    }
}

/// The account in `…/serviceAccounts/ACCOUNT:generateAccessToken`.
fn account_in(url: &str) -> &str {
    let last = url.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// What token servers answer, by RFC 6749 and RFC 8693.
fn token(answer: &Value) -> Fetched {
    let bearer = text(answer, "access_token")?.to_owned();
    let seconds = answer["expires_in"].as_u64().unwrap_or(3600);
    let expires = SystemTime::now().checked_add(Duration::from_secs(seconds));
    Ok(Temporary { credential: GcpCredential { bearer }, expires })
}

/// Who signed in by `gcloud`.
struct User {
    client: Client,
    of: String,
    url: String,
    id: String,
    secret: String,
    token: String,
}

#[async_trait::async_trait]
impl Fetch for User {
    type Credential = GcpCredential;

    async fn fetch(&self) -> Fetched {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.id),
            ("client_secret", &self.secret),
            ("refresh_token", &self.token),
        ];
        let asked = async { token(&ask_json(&self.client, form(&self.url, &fields)?).await?) };
        asked.await.map_err(within(format!("a token for the user of {} at {}", self.of, self.url)))
    }
}

/// Who holds a token of another issuer: workload identity federation.
struct Federated {
    client: Client,
    of: String,
    url: String,
    audience: String,
    kind: String,
    subject: Subject,
    /// The name and the password of an application, as the header has them.
    application: Option<HeaderValue>,
    /// What to bill for people of a workforce.
    options: Option<String>,
}

/// Where the token of the other issuer is.
struct Subject {
    place: SubjectPlace,
    /// In JSON, the field that it is in.
    field: Option<String>,
}

enum SubjectPlace {
    File(PathBuf),
    Url(String, Vec<(String, String)>),
}

impl Federated {
    fn new(client: &Client, json: &Value, of: &str) -> Result<Self, Fault> {
        let need = |name| text(json, name).map(str::to_owned);
        let application = given(json, "client_id").map(|id| {
            let pair = format!("{id}:{}", given(json, "client_secret").unwrap_or_default());
            HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
        });
        let project = given(json, "workforce_pool_user_project").filter(|_| application.is_none());
        Ok(Self {
            client: client.clone(),
            of: of.to_owned(),
            url: need("token_url")?,
            audience: need("audience")?,
            kind: need("subject_token_type")?,
            subject: Subject::new(&json["credential_source"])?,
            application: application.transpose().map_err(|_| Fault::refused("its client_id is not valid"))?,
            options: project.map(|project| json!({"userProject": project}).to_string()),
        })
    }
}

impl Subject {
    fn new(source: &Value) -> Result<Self, Fault> {
        let place = match (given(source, "file"), given(source, "url")) {
            _ if given(source, "environment_id").is_some() => {
                let reason = "its credential_source is AWS (environment_id), which is not read; read are file and url";
                return Err(Fault::refused(reason));
            }
            (Some(file), _) => SubjectPlace::File(PathBuf::from(file)),
            (None, Some(url)) => {
                let headers = source["headers"].as_object().into_iter().flatten();
                let headers = headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
                SubjectPlace::Url(url.to_owned(), headers.collect())
            }
            (None, None) => return Err(Fault::refused("its credential_source has no file and no url; read are these")),
        };
        let format = &source["format"];
        let field = match given(format, "type").unwrap_or("text") {
            "text" => None,
            "json" => Some(text(format, "subject_token_field_name")?.to_owned()),
            other => {
                return Err(Fault::refused(format!("the format of its token is '{other}'; expected text or json")));
            }
        };
        Ok(Self { place, field })
    }

    /// The token, read anew each time, since it is replaced.
    async fn token(&self, client: &Client) -> Result<String, Fault> {
        let (bytes, place) = match &self.place {
            SubjectPlace::File(file) => {
                let unreadable = |error| Fault::refused(format!("the token in {}: {error}", file.display()));
                (files::read(file, MAX_FILE).map_err(unreadable)?, file.as_path())
            }
            SubjectPlace::Url(url, headers) => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let asked = ask(client, get(url, &headers)?).await;
                (asked.map_err(within(format!("the token at {url}")))?.to_vec(), Path::new(url))
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some(field) = &self.field else { return Ok(text.trim().to_owned()) };
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let token = given(&json, field).map(str::to_owned);
        token.ok_or_else(|| Fault::refused(format!("what is in {} has no field '{field}'", place.display())))
    }
}

#[async_trait::async_trait]
impl Fetch for Federated {
    type Credential = GcpCredential;

    async fn fetch(&self) -> Fetched {
        let asked = async {
            let subject = self.subject.token(&self.client).await?;
            let mut fields = vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("audience", &self.audience),
                ("scope", SCOPE),
                ("subject_token_type", &self.kind),
                ("subject_token", &subject),
            ];
            fields.extend(self.options.as_deref().map(|options| ("options", options)));
            let mut request = form(&self.url, &fields)?;
            if let Some(application) = &self.application {
                let _ = request.headers_mut().insert(AUTHORIZATION, application.clone());
            }
            token(&ask_json(&self.client, request).await?)
        };
        asked.await.map_err(within(format!("a token for the federated identity of {} at {}", self.of, self.url)))
    }
}

/// A service account that another account may act for.
struct Impersonated {
    client: Client,
    of: String,
    url: String,
    delegates: Vec<String>,
    /// Seconds.
    lifetime: u64,
    source: GcpCredentialProvider,
}

impl Impersonated {
    fn new(
        client: &Client,
        of: &str,
        url: &str,
        delegates: Vec<String>,
        lifetime: Option<u64>,
        source: GcpCredentialProvider,
    ) -> Self {
        let (of, url) = (of.to_owned(), url.to_owned());
        Self { client: client.clone(), of, url, delegates, lifetime: lifetime.unwrap_or(3600), source }
    }
}

#[async_trait::async_trait]
impl Fetch for Impersonated {
    type Credential = GcpCredential;

    async fn fetch(&self) -> Fetched {
        let source = self.source.get_credential().await.map_err(|error| fault_of(&error))?;
        let mut body = json!({"scope": [SCOPE], "lifetime": format!("{}s", self.lifetime)});
        if !self.delegates.is_empty() {
            body["delegates"] = json!(self.delegates);
        }
        let asked = async {
            let answer = ask_json(&self.client, post(&self.url, &source.bearer, &body)?).await?;
            let bearer = text(&answer, "accessToken")?.to_owned();
            Ok(Temporary { credential: GcpCredential { bearer }, expires: Some(time(text(&answer, "expireTime")?)?) })
        };
        let account = account_in(&self.url);
        asked.await.map_err(within(format!("a token for the service account {account} of {} at {}", self.of, self.url)))
    }
}

/// The service account of the machine.
pub(super) struct Metadata {
    client: Client,
    host: String,
}

impl Metadata {
    pub(super) fn new(client: &Client, host: Option<&str>) -> Self {
        Self { client: client.clone(), host: host.unwrap_or("metadata.google.internal").to_owned() }
    }
}

#[async_trait::async_trait]
impl Fetch for Metadata {
    type Credential = GcpCredential;

    async fn fetch(&self) -> Fetched {
        let url = format!("http://{}/computeMetadata/v1/instance/service-accounts/default/token", self.host);
        let asked = async { token(&ask_json(&self.client, get(&url, &[("metadata-flavor", "Google")])?).await?) };
        asked.await.map_err(within(format!("a token for the service account of this machine at {}", self.host)))
    }
}
