//! Who asks: each provider's usual chain from what the environment says, unsigned where nobody is found.
//!
//! The providers' own crates do not fit. `aws-config` reads the environment of the process, does not say which of its
//! sources it took, and brings 56 crates with it; `google-cloud-auth` makes an HTTP client of its own, which would trust
//! other certificates than ours. `object_store` signs requests and reads the usual variables; what it does not know is
//! here, by way of our one client.

mod aws;
mod azure;
mod exchange;
mod google;
mod hub;
mod identity;
mod kserve;
#[cfg(test)]
mod refusals;
mod renewed;
#[cfg(test)]
pub(crate) mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::{CredentialProvider, ObjectStore, RetryConfig};
use url::Url;

pub(crate) use aws::run;
pub(crate) use hub::hub_token;
pub(crate) use identity::{Absent, Identity};

use crate::store::client::{Client, Environment, Signing, set};
use crate::store::fault::{Fault, causes};
use crate::uri::{BucketPlace, Provider};

/// A metadata server that has not answered by then is not there.
const METADATA_PATIENCE: Duration = Duration::from_secs(1);
/// The largest file of credentials or settings that is read.
const MAX_FILE: u64 = 1 << 20;

/// A store, and who asks it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) identity: Identity,
    /// How requests to S3 are signed, where they are.
    pub(crate) signing: Option<Signing>,
}

impl Opened {
    fn of(store: impl ObjectStore, identity: Identity) -> Self {
        Self { store: Arc::new(store), identity, signing: None }
    }
}

/// The store of a bucket, and who asks it.
pub(crate) async fn store(place: &BucketPlace, client: &Client, environment: &Environment) -> Result<Opened, Fault> {
    match place.provider {
        Provider::S3 => aws::store(place, client, environment).await,
        Provider::Gcs => google::store(place, client, environment).await,
        Provider::Azure => azure::store(place, client, environment).await,
    }
}

/// We ask again ourselves, since the library does not look at `Retry-After` and gives up by its own clock.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
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

/// The address of a server that a variable gives: what is none is not asked.
fn address<'a>(variable: &str, text: &'a str) -> Result<&'a str, Fault> {
    let expected = || Fault::refused(format!("{variable} is '{text}'; expected a URL such as http://minio:9000"));
    let url = Url::parse(text).map_err(|_| expected())?;
    let is_whole = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    if is_whole { Ok(text) } else { Err(expected()) }
}

/// A path as tools take it: `~/` is the home.
fn expanded(path: &str, environment: &Environment) -> PathBuf {
    match (path.strip_prefix("~/"), set(environment, "HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(path),
    }
}
