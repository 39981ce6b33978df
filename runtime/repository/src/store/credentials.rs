//! Who asks: each provider's usual chain from what the environment says, unsigned where nobody is found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corymb_core::files;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{CredentialProvider, ObjectStore, RetryConfig};
use url::Url;

use crate::store::client::{Client, Signing};
use crate::store::fault::{Fault, causes};
use crate::uri::{BucketPlace, Provider};

/// A metadata server that has not answered by then is not there.
const METADATA_PATIENCE: Duration = Duration::from_secs(1);

type Environment = BTreeMap<String, String>;

/// The store of a bucket.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Whether its requests are signed.
    pub(crate) signed: bool,
    /// How those of S3 are.
    pub(crate) signing: Option<Signing>,
}

impl From<(Arc<dyn ObjectStore>, bool)> for Opened {
    fn from((store, signed): (Arc<dyn ObjectStore>, bool)) -> Self {
        Self { store, signed, signing: None }
    }
}

/// Opens the store of a bucket.
pub(crate) async fn store(place: &BucketPlace, client: &Client, environment: &Environment) -> Result<Opened, Fault> {
    match place.provider {
        Provider::S3 => s3(place, client, environment).await,
        Provider::Gcs => gcs(place, client, environment).await.map(Opened::from),
        Provider::Azure => azure(place, client, environment).await.map(Opened::from),
    }
}

/// We ask again ourselves, since the library does not look at `Retry-After` and gives up by its own clock.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
}

fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

fn wrong(error: &object_store::Error) -> Fault {
    Fault::refused(format!("the credentials cannot be used: {}", causes(error)))
}

/// Whether a metadata server gives credentials, within its time.
async fn given<T>(provider: &Arc<dyn CredentialProvider<Credential = T>>) -> bool
where
    T: std::fmt::Debug + Send + Sync + 'static,
{
    matches!(tokio::time::timeout(METADATA_PATIENCE, provider.get_credential()).await, Ok(Ok(_)))
}

async fn s3(place: &BucketPlace, client: &Client, environment: &Environment) -> Result<Opened, Fault> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let files = SharedFiles::read(environment);
    let own_key = set(environment, "AWS_ACCESS_KEY_ID").is_some();
    if let Some((id, secret, token)) = files.keys.filter(|_| !own_key) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        builder = token.map_or(builder.clone(), |token| builder.with_token(token));
    }
    if let Some(region) =
        files.region.filter(|_| set(environment, "AWS_REGION").or(set(environment, "AWS_DEFAULT_REGION")).is_none())
    {
        builder = builder.with_region(region);
    }
    let endpoint = set(environment, "AWS_ENDPOINT_URL_S3").or_else(|| set(environment, "AWS_ENDPOINT_URL"));
    let plain = set(environment, "AWS_ALLOW_HTTP");
    if endpoint.is_some_and(|url| url.starts_with("http://")) && plain.is_some() && !is_true(plain) {
        return Err(Fault::refused("AWS_ENDPOINT_URL is http:// and AWS_ALLOW_HTTP forbids it"));
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(address("AWS_ENDPOINT_URL", endpoint)?);
    }
    let builder = builder
        .with_bucket_name(&place.bucket)
        .with_allow_http(true)
        .with_retry(once())
        .with_http_connector(client.clone());
    let certain = own_key
        || SharedFiles::read(environment).keys.is_some()
        || [
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ]
        .iter()
        .any(|name| set(environment, name).is_some());
    let asked_not_to = is_true(set(environment, "AWS_SKIP_SIGNATURE"));
    let store = builder.clone().build().map_err(|error| wrong(&error))?;
    if !asked_not_to && (certain || given(store.credentials()).await) {
        // The builder's own default.
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let signing = Signing { credentials: Arc::clone(store.credentials()), region };
        return Ok(Opened { store: Arc::new(store), signed: true, signing: Some(signing) });
    }
    let store = builder.with_skip_signature(true).build().map_err(|error| wrong(&error))?;
    Ok(Opened { store: Arc::new(store), signed: false, signing: None })
}

/// The address of a store that a variable gives: what is none is not asked.
fn address<'a>(variable: &str, text: &'a str) -> Result<&'a str, Fault> {
    let expected = || Fault::refused(format!("{variable} is '{text}'; expected a URL such as http://minio:9000"));
    let url = Url::parse(text).map_err(|_| expected())?;
    let is_whole = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    if is_whole { Ok(text) } else { Err(expected()) }
}

async fn gcs(
    place: &BucketPlace,
    client: &Client,
    environment: &Environment,
) -> Result<(Arc<dyn ObjectStore>, bool), Fault> {
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("GOOGLE_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let mut unsigned = is_true(set(environment, "GOOGLE_SKIP_SIGNATURE"));
    if let Some(emulator) = set(environment, "STORAGE_EMULATOR_HOST") {
        let url = if emulator.contains("://") { emulator.to_owned() } else { format!("http://{emulator}") };
        let url = address("STORAGE_EMULATOR_HOST", url.trim_end_matches('/'))?;
        builder = builder.with_config(GoogleConfigKey::BaseUrl, url);
        unsigned = true;
    }
    let builder = builder.with_bucket_name(&place.bucket).with_retry(once()).with_http_connector(client.clone());
    if !unsigned {
        let home = set(environment, "HOME").map(PathBuf::from);
        let well_known = home.map(|home| home.join(".config/gcloud/application_default_credentials.json"));
        let certain = [
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_BEARER_TOKEN",
        ]
        .iter()
        .any(|name| set(environment, name).is_some())
            || well_known.is_some_and(|path| path.is_file());
        let store = builder.clone().build().map_err(|error| wrong(&error))?;
        if certain || given(store.credentials()).await {
            return Ok((Arc::new(store), true));
        }
    }
    let store = builder.with_skip_signature(true).build().map_err(|error| wrong(&error))?;
    Ok((Arc::new(store), false))
}

async fn azure(
    place: &BucketPlace,
    client: &Client,
    environment: &Environment,
) -> Result<(Arc<dyn ObjectStore>, bool), Fault> {
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AZURE_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let connection = set(environment, "AZURE_STORAGE_CONNECTION_STRING").map(Connection::parse).unwrap_or_default();
    let account = azure_account(place, &connection, environment)?;
    // A key belongs to one account.
    let ours = connection.account.as_ref().is_none_or(|of| *of == account);
    let key = connection.key.filter(|_| ours).or_else(|| set(environment, "AZURE_STORAGE_KEY").map(str::to_owned));
    let signature = place.signature.clone().or(connection.signature.filter(|_| ours));
    if let Some(endpoint) = connection.endpoint.filter(|_| ours) {
        builder = builder.with_endpoint(endpoint);
    }
    let mut certain = [
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
    ]
    .iter()
    .any(|name| set(environment, name).is_some());
    if let Some(signature) = signature {
        builder = builder.with_config(AzureConfigKey::SasKey, signature);
        certain = true;
    } else if let Some(key) = key {
        builder = builder.with_access_key(key);
        certain = true;
    }
    let builder = builder
        .with_account(account)
        .with_container_name(&place.bucket)
        .with_allow_http(true)
        .with_retry(once())
        .with_http_connector(client.clone());
    let store = builder.clone().build().map_err(|error| wrong(&error))?;
    if certain || given(store.credentials()).await {
        return Ok((Arc::new(store), true));
    }
    let store = builder.with_skip_signature(true).build().map_err(|error| wrong(&error))?;
    Ok((Arc::new(store), false))
}

/// Whose containers they are: what stands nearest to the container counts.
fn azure_account(place: &BucketPlace, connection: &Connection, environment: &Environment) -> Result<String, Fault> {
    let of = |name: &str| set(environment, name).map(str::to_owned);
    let account = place.account.clone().or_else(|| connection.account.clone());
    let account = account.or_else(|| of("AZURE_STORAGE_ACCOUNT")).or_else(|| of("AZURE_STORAGE_ACCOUNT_NAME"));
    account.ok_or_else(|| {
        Fault::refused(
            "the account is not known: set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT, or write \
             https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH",
        )
    })
}

/// What an Azure connection string says: `Name=value;…`.
#[derive(Default)]
struct Connection {
    account: Option<String>,
    key: Option<String>,
    endpoint: Option<String>,
    signature: Option<String>,
}

impl Connection {
    fn parse(text: &str) -> Self {
        let mut connection = Self::default();
        let mut protocol = "https".to_owned();
        let mut suffix = None;
        for (name, value) in text.split(';').filter_map(|item| item.trim().split_once('=')) {
            let value = value.to_owned();
            match name.trim().to_ascii_lowercase().as_str() {
                "accountname" => connection.account = Some(value),
                "accountkey" => connection.key = Some(value),
                "blobendpoint" => connection.endpoint = Some(value.trim_end_matches('/').to_owned()),
                "sharedaccesssignature" => connection.signature = Some(value),
                "defaultendpointsprotocol" => protocol = value,
                "endpointsuffix" => suffix = Some(value),
                _ => {}
            }
        }
        if let (None, Some(account), Some(suffix)) = (&connection.endpoint, &connection.account, suffix) {
            connection.endpoint = Some(format!("{protocol}://{account}.blob.{suffix}"));
        }
        connection
    }
}

/// What AWS's shared files say of the profile: `~/.aws/credentials` and `~/.aws/config`.
#[derive(Default)]
struct SharedFiles {
    keys: Option<(String, String, Option<String>)>,
    region: Option<String>,
}

impl SharedFiles {
    /// The largest such file that is read.
    const MAX: u64 = 1 << 20;

    fn read(environment: &Environment) -> Self {
        let home = set(environment, "HOME").map(|home| PathBuf::from(home).join(".aws"));
        let file = |variable: &str, name: &str| {
            let path = set(environment, variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(name)))?;
            files::read_text(&path, Self::MAX).ok()
        };
        let profile = set(environment, "AWS_PROFILE").unwrap_or("default");
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials").unwrap_or_default();
        let config = file("AWS_CONFIG_FILE", "config").unwrap_or_default();
        let section = section(&credentials, &[profile]);
        let profile_section = format!("profile {profile}");
        let config = self::section(&config, &[profile, profile_section.as_str()]);
        let key = |name: &str| section.get(name).or_else(|| config.get(name)).cloned();
        let keys = key("aws_access_key_id").zip(key("aws_secret_access_key"));
        Self {
            keys: keys.map(|(id, secret)| (id, secret, key("aws_session_token"))),
            region: config.get("region").cloned(),
        }
    }
}

/// The keys of the sections of these names in an INI file.
fn section(text: &str, names: &[&str]) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = names.contains(&name.trim());
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            found.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_understood() {
        let text = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5==;BlobEndpoint=http://h:1/a;";
        let connection = Connection::parse(text);
        assert_eq!(connection.key.as_deref(), Some("a2V5=="));
        assert_eq!(connection.endpoint.as_deref(), Some("http://h:1/a"));
        let connection =
            Connection::parse("AccountName=a;EndpointSuffix=core.windows.net;SharedAccessSignature=sv=1&sig=x");
        assert_eq!(connection.endpoint.as_deref(), Some("https://a.blob.core.windows.net"));
        assert_eq!(connection.signature.as_deref(), Some("sv=1&sig=x"));
    }

    #[test]
    fn the_profile_of_shared_files_is_found() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let credentials = root.path().join("credentials");
        let text = "[default]\naws_access_key_id = A\n[work]\n# x\naws_access_key_id=B\naws_secret_access_key = S=\n";
        std::fs::write(&credentials, text).expect("written");
        let path = credentials.to_string_lossy().into_owned();
        let mut environment = Environment::from([("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path)]);
        assert!(SharedFiles::read(&environment).keys.is_none());
        environment.insert("AWS_PROFILE".to_owned(), "work".to_owned());
        let keys = SharedFiles::read(&environment).keys;
        assert_eq!(keys, Some(("B".to_owned(), "S=".to_owned(), None)));
    }
}
