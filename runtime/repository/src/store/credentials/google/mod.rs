//! Google Cloud Storage: its application default credentials.

mod accounts;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use corymb_core::files;
use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder, GoogleConfigKey};

use crate::store::client::{Client, Environment, is_true, set};
use crate::store::credentials::google::accounts::{Metadata, provider};
use crate::store::credentials::identity::{Absent, Identity};
use crate::store::credentials::renewed::Renewed;
use crate::store::credentials::{MAX_FILE, Opened, address, given, kserve, once, wrong};
use crate::store::fault::Fault;
use crate::uri::BucketPlace;

const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const EMULATOR: &str = "STORAGE_EMULATOR_HOST";
const UNSIGNED: &str = "GOOGLE_SKIP_SIGNATURE";
/// What `object_store` takes by itself.
const OWN: [&str; 2] = ["GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY"];
/// Files of service accounts, which it would read, too, but of any size.
const ACCOUNTS: [&str; 2] = ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"];
const HELP: &str = "set GOOGLE_APPLICATION_CREDENTIALS or run `gcloud auth application-default login`";

/// The store of a bucket of Google's, and who asks it.
pub(super) async fn store(place: &BucketPlace, client: &Client, environment: &Environment) -> Result<Opened, Fault> {
    let mut builder = GoogleCloudStorageBuilder::new();
    let read_here = |name: &str| name == FILE || ACCOUNTS.contains(&name);
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("GOOGLE_") && !read_here(name)) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let mut declined = is_true(set(environment, UNSIGNED)).then_some(UNSIGNED);
    if let Some(emulator) = set(environment, EMULATOR) {
        let url = if emulator.contains("://") { emulator.to_owned() } else { format!("http://{emulator}") };
        let url = address(EMULATOR, url.trim_end_matches('/'))?;
        builder = builder.with_config(GoogleConfigKey::BaseUrl, url);
        declined = Some(EMULATOR);
    }
    let builder = builder.with_bucket_name(&place.bucket).with_retry(once()).with_http_connector(client.clone());
    let (builder, identity) = match declined {
        Some(variable) => (unsigned(builder), Identity::Declined(variable.to_owned())),
        None => chain(builder, client, environment).await?,
    };
    let store = builder.build().map_err(|error| wrong(&error))?;
    Ok(Opened::of(store, identity))
}

/// Without a provider of our own `object_store` would look into the home of the process.
fn unsigned(builder: GoogleCloudStorageBuilder) -> GoogleCloudStorageBuilder {
    let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
    builder.with_credentials(Arc::new(nobody)).with_skip_signature(true)
}

/// Who asks, in the order of Google's own tools.
async fn chain(
    builder: GoogleCloudStorageBuilder,
    client: &Client,
    environment: &Environment,
) -> Result<(GoogleCloudStorageBuilder, Identity), Fault> {
    if let Some(variable) = OWN.into_iter().find(|name| set(environment, name).is_some()) {
        return Ok((builder, Identity::Found(format!("signed with {variable}"))));
    }
    if let Some((variable, path)) = ACCOUNTS.into_iter().find_map(|name| Some((name, set(environment, name)?))) {
        let of = format!("{variable} {path}");
        let key = files::read_text(&PathBuf::from(path), MAX_FILE);
        let key = key.map_err(|error| Fault::refused(format!("{of}: {error}")))?;
        return Ok((builder.with_service_account_key(key), Identity::Found(format!("signed with {of}"))));
    }
    if let Some(account) = kserve::google(environment)? {
        let identity = Identity::Found("signed as the service account of STORAGE_CONFIG".to_owned());
        return Ok((builder.with_service_account_key(account), identity));
    }
    let found = |provider, words: String| Ok((builder.clone().with_credentials(provider), Identity::Found(words)));
    if let Some(path) = set(environment, FILE) {
        let of = format!("{FILE} {path}");
        let json = files::read_text(&PathBuf::from(path), MAX_FILE);
        let json = json.map_err(|error| Fault::refused(format!("{of}: {error}")))?;
        let (provider, words) = account(client, &json, &of)?;
        return found(provider, words);
    }
    let well_known = well_known(environment);
    let mut looked = vec![
        FILE.to_owned(),
        well_known.as_ref().map_or("~ (HOME is not set)".to_owned(), |path| path.display().to_string()),
    ];
    if let Some(path) = well_known.filter(|path| path.is_file()) {
        let of = path.display().to_string();
        match files::read_text(&path, MAX_FILE) {
            Ok(json) => {
                let (provider, words) = account(client, &json, &of)?;
                return found(provider, words);
            }
            Err(error) => looked = vec![FILE.to_owned(), format!("{of} ({error})")],
        }
    }
    let metadata: GcpCredentialProvider = Renewed::new(Metadata::new(client, set(environment, "GCE_METADATA_HOST")));
    if given(&metadata).await {
        return found(metadata, "signed as the service account of this machine (the metadata server)".to_owned());
    }
    looked.push("the metadata server".to_owned());
    Ok((unsigned(builder), Identity::Absent(Absent::credentials(looked, HELP))))
}

/// Whom a file is of, and in which words.
fn account(client: &Client, json: &str, of: &str) -> Result<(GcpCredentialProvider, String), Fault> {
    // The reader's own words might quote it.
    let json = serde_json::from_str(json).map_err(|_| Fault::refused(format!("{of}: it is not JSON")))?;
    let (provider, who) = provider(client, &json, of)?;
    Ok((provider, format!("signed as {who} of {of}")))
}

/// Where `gcloud` keeps what it was told.
fn well_known(environment: &Environment) -> Option<PathBuf> {
    let folder = set(environment, "CLOUDSDK_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(set(environment, "HOME")?).join(".config/gcloud")));
    folder.map(|folder| folder.join("application_default_credentials.json"))
}
