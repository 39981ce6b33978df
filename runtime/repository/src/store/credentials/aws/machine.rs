//! Credentials of the machine or the container that this process runs on.

use std::path::PathBuf;

use corymb_core::files;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use url::{Host, Url};

use crate::store::client::{Client, Environment, is_true, set};
use crate::store::credentials::aws::credential;
use crate::store::credentials::exchange::{ask_json, get, text, time, within};
use crate::store::credentials::renewed::{Fetch, Renewed, Temporary};
use crate::store::credentials::{MAX_FILE, expanded, once, wrong};
use crate::store::fault::Fault;

/// Where the tasks of ECS are given credentials.
const TASKS: &str = "http://169.254.170.2";
const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// The role of the machine, by EC2's metadata server; none where that is switched off.
pub(super) fn instance(client: &Client, environment: &Environment) -> Result<Option<AwsCredentialProvider>, Fault> {
    if is_true(set(environment, "AWS_EC2_METADATA_DISABLED")) {
        return Ok(None);
    }
    let mut builder = AmazonS3Builder::new();
    let endpoint = set(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT").or(set(environment, "AWS_METADATA_ENDPOINT"));
    if let Some(endpoint) = endpoint {
        builder = builder.with_metadata_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(fallback) = set(environment, "AWS_IMDSV1_FALLBACK") {
        builder = builder.with_config(AmazonS3ConfigKey::ImdsV1Fallback, fallback);
    }
    // Its provider is not to be had alone.
    let store = builder.with_bucket_name("none").with_retry(once()).with_http_connector(client.clone()).build();
    Ok(Some(store.map_err(|error| wrong(&error))?.credentials().clone()))
}

/// The role of a task of ECS or a pod of EKS, and the variable that says where to ask; none where no variable does.
pub(super) fn container(
    client: &Client,
    environment: &Environment,
) -> Result<Option<(AwsCredentialProvider, &'static str)>, Fault> {
    let (url, variable) = match (set(environment, RELATIVE), set(environment, FULL)) {
        (Some(path), _) => (format!("{TASKS}/{}", path.trim_start_matches('/')), RELATIVE),
        (None, Some(url)) => (url.to_owned(), FULL),
        (None, None) => return Ok(None),
    };
    if !may_be_asked(&url) {
        let reason = format!("{variable} must be https://, or http:// of this machine, of a task or of a pod");
        return Err(Fault::refused(reason));
    }
    let token = set(environment, TOKEN).map(str::to_owned);
    let token_file = set(environment, TOKEN_FILE).map(|path| expanded(path, environment));
    let container = Container { client: client.clone(), url, variable, token, token_file };
    Ok(Some((Renewed::new(container), variable)))
}

/// As AWS's own tools have it: nobody on the way may read the answer.
fn may_be_asked(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback() || matches!(ip.octets(), [169, 254, 170, 2 | 23]),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && near)
}

struct Container {
    client: Client,
    url: String,
    variable: &'static str,
    token: Option<String>,
    /// Read anew each time, since the cluster replaces it.
    token_file: Option<PathBuf>,
}

#[async_trait::async_trait]
impl Fetch for Container {
    type Credential = AwsCredential;

    async fn fetch(&self) -> Result<Temporary<AwsCredential>, Fault> {
        let token = match &self.token_file {
            Some(file) => {
                let unreadable = |error| Fault::refused(format!("{TOKEN_FILE} {}: {error}", file.display()));
                Some(files::read_text(file, MAX_FILE).map_err(unreadable)?)
            }
            None => self.token.clone(),
        };
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.trim())).collect();
        let asked = async {
            let answer = ask_json(&self.client, get(&self.url, &headers)?).await?;
            let (id, secret) = (text(&answer, "AccessKeyId")?, text(&answer, "SecretAccessKey")?);
            let credential = credential("its answer", id, secret, Some(text(&answer, "Token")?))?;
            Ok(Temporary { credential, expires: Some(time(text(&answer, "Expiration")?)?) })
        };
        asked.await.map_err(within(format!("the credentials that {} names", self.variable)))
    }
}

#[cfg(test)]
mod tests {
    use super::may_be_asked;

    #[test]
    fn credentials_do_not_travel_in_the_open() {
        for url in ["http://127.0.0.1:1/a", "http://169.254.170.23/v1", "http://[fd00:ec2::23]/v1", "https://h/a"] {
            assert!(may_be_asked(url), "{url}");
        }
        for url in ["http://h/a", "http://10.0.0.1/a", "ftp://localhost/a", "nonsense"] {
            assert!(!may_be_asked(url), "{url}");
        }
    }
}
