//! S3: AWS's usual chain, and its relatives that speak the same.

mod files;
mod machine;
mod process;
mod profile;
mod role;
mod sign_on;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use url::Url;

pub(crate) use process::run;

use crate::store::client::{Client, Environment, Signing, is_true, set};
use crate::store::credentials::aws::files::{Profile, SharedFiles};
use crate::store::credentials::aws::machine::{container, instance};
use crate::store::credentials::aws::profile::Resolver;
use crate::store::credentials::aws::role::{Role, Sts, WebIdentity};
use crate::store::credentials::identity::{Absent, Identity};
use crate::store::credentials::renewed::Renewed;
use crate::store::credentials::{Opened, address, expanded, given, kserve, once, wrong};
use crate::store::fault::Fault;
use crate::uri::BucketPlace;

const ROLE: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const HELP: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";

/// The store of a bucket of S3, and who asks it.
pub(super) async fn store(place: &BucketPlace, client: &Client, environment: &Environment) -> Result<Opened, Fault> {
    let kserve = kserve::s3(environment)?;
    let files = SharedFiles::read(environment);
    let named =
        ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"].into_iter().find_map(|name| Some((name, set(environment, name)?)));
    let profile = files.profile(named.map_or("default", |(_, profile)| profile));
    if let (Some((variable, name)), None) = (named, &profile) {
        return Err(files.absent(variable, name));
    }
    let asked = Asked { environment: &kserve.environment, client, files: &files, profile: profile.as_ref() };
    let mut builder = asked.builder(&kserve, &place.bucket)?;
    let talking = match kserve.unverified {
        Some(variable) => client.unverified(variable)?,
        None => client.for_s3(),
    };
    builder = builder.with_bucket_name(&place.bucket).with_allow_http(true).with_retry(once());
    builder = builder.with_http_connector(talking);
    let (provider, identity) = match kserve.unsigned {
        Some(variable) => (None, Identity::Declined(variable.to_owned())),
        None => asked.chain(kserve.keys, named.is_some()).await?,
    };
    // The builder's own default.
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let signing = provider.clone().map(|credentials| Signing { credentials, region });
    let builder = match provider {
        Some(provider) => builder.with_skip_signature(false).with_credentials(provider),
        None => builder.with_skip_signature(true),
    };
    let store = builder.build().map_err(|error| wrong(&error))?;
    Ok(Opened { store: Arc::new(store), identity, signing })
}

/// What the answer depends on.
struct Asked<'a> {
    environment: &'a Environment,
    client: &'a Client,
    files: &'a SharedFiles,
    /// The one that counts.
    profile: Option<&'a Profile<'a>>,
}

impl Asked<'_> {
    /// Where the bucket is: its region and its server.
    fn builder(&self, kserve: &kserve::S3, bucket: &str) -> Result<AmazonS3Builder, Fault> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in self.environment.iter().filter(|(name, _)| name.starts_with("AWS_")) {
            // Servers are dealt with below.
            if let (Ok(key), false) = (name.to_ascii_lowercase().parse(), name.starts_with("AWS_ENDPOINT")) {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(region) = self.region() {
            builder = builder.with_config(AmazonS3ConfigKey::Region, region);
        }
        let endpoint = self.endpoint()?;
        if let Some(endpoint) = &endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if kserve.accelerated && endpoint.is_none() {
            let endpoint = format!("https://{bucket}.s3-accelerate.amazonaws.com");
            return Ok(builder.with_endpoint(endpoint).with_virtual_hosted_style_request(true));
        }
        if kserve.virtual_hosts {
            builder = builder.with_virtual_hosted_style_request(true);
            if let Some(endpoint) = &endpoint {
                builder = builder.with_endpoint(with_bucket(endpoint, bucket)?);
            }
        }
        Ok(builder)
    }

    /// By the variables, then by the profile.
    fn region(&self) -> Option<&str> {
        let own = set(self.environment, "AWS_REGION").or_else(|| set(self.environment, "AWS_DEFAULT_REGION"));
        own.or_else(|| self.profile?.get("region"))
    }

    /// The server that somebody names, the nearest to the bucket first; none for AWS's own.
    fn endpoint(&self) -> Result<Option<String>, Fault> {
        let of = |name: &str| set(self.environment, name);
        let ignored = is_true(
            of("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").or_else(|| self.setting("ignore_configured_endpoint_urls")),
        );
        if ignored {
            return Ok(None);
        }
        let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        let (endpoint, what) = match variables.into_iter().find_map(|name| Some((of(name)?, name.to_owned()))) {
            Some(named) => named,
            None => {
                let (Some(profile), Some(endpoint)) =
                    (self.profile, self.service("s3").or_else(|| self.setting("endpoint_url")))
                else {
                    return Ok(None);
                };
                (endpoint, format!("endpoint_url of {}", profile.shown("endpoint_url")))
            }
        };
        let plain = of("AWS_ALLOW_HTTP");
        if endpoint.starts_with("http://") && plain.is_some() && !is_true(plain) {
            return Err(Fault::refused(format!("{what} is http:// and AWS_ALLOW_HTTP forbids it")));
        }
        let endpoint = address(&what, endpoint)?.trim_end_matches('/');
        // The old address of all regions sends those who ask for a bucket elsewhere to another one.
        Ok(Some(endpoint.to_owned()).filter(|endpoint| endpoint != "https://s3.amazonaws.com"))
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.profile?.get(key)
    }

    /// The server of a service that the profile names by way of a section of services.
    fn service(&self, service: &str) -> Option<&str> {
        let services = self.files.services(self.setting("services")?)?;
        services.get(&format!("{service}.endpoint_url")).map(String::as_str)
    }

    /// `AWS_ENDPOINT_URL` does not count: in practice it is of a server that knows S3 alone.
    fn sts(&self) -> Sts {
        let region = self.region().unwrap_or("us-east-1").to_owned();
        let own = set(self.environment, "AWS_ENDPOINT_URL_STS").or_else(|| self.service("sts"));
        let endpoint = own.map_or_else(|| self::service("sts", &region), |url| url.trim_end_matches('/').to_owned());
        Sts { client: self.client.clone(), endpoint, region }
    }

    /// Who asks, in the order of AWS's own tools: keys of the environment, a role that the profile asks for, a token of the
    /// environment, what else the profile has, the container, the machine. `keys` is the variable that keys are from, `must` whether the profile
    /// was asked for, so that somebody must be found.
    async fn chain(&self, keys: &str, must: bool) -> Result<(Option<AwsCredentialProvider>, Identity), Fault> {
        let found = |provider, words| Ok((Some(provider), Identity::Found(words)));
        // Of AWS's tools only those that take the profile as an argument get to a role that is asked for with these keys.
        let is_of_role = must && self.setting("credential_source") == Some("Environment");
        if let Some(provider) = own_keys(self.environment, keys)?.filter(|_| !is_of_role) {
            return found(provider, format!("signed with the keys in {keys}"));
        }
        let resolver =
            Resolver { files: self.files, client: self.client, environment: self.environment, sts: self.sts() };
        if let Some((provider, words)) = self.profile.map(|profile| resolver.assumed(profile)).transpose()?.flatten() {
            return found(provider, words);
        }
        // A pod's role counts before the keys of a profile that came with its image.
        if let Some((provider, words)) = self.web_identity()? {
            return found(provider, words);
        }
        if let Some((provider, words)) = self.profile.map(|profile| resolver.profile(profile)).transpose()?.flatten() {
            return found(provider, words);
        }
        if let Some((provider, variable)) = container(self.client, self.environment)? {
            return found(provider, format!("signed with the credentials that {variable} names"));
        }
        let instance = instance(self.client, self.environment)?;
        if let Some(provider) = &instance
            && given(provider).await
        {
            return found(
                Arc::clone(provider),
                "signed with the role of this machine (the metadata server)".to_owned(),
            );
        }
        if let (Some(profile), true) = (self.profile, must) {
            let expected = "expected aws_access_key_id, role_arn, sso_session or credential_process";
            return Err(Fault::refused(format!("{} has no credentials; {expected}", profile.shown("region"))));
        }
        let [credentials, config] = self.files.shown();
        let mut looked = vec!["AWS_ACCESS_KEY_ID".to_owned(), credentials, config, TOKEN_FILE.to_owned()];
        looked.push("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI".to_owned());
        looked.extend(instance.map(|_| "the metadata server".to_owned()));
        Ok((None, Identity::Absent(Absent::credentials(looked, HELP))))
    }

    /// The role of a pod, by the token that its cluster gives it.
    fn web_identity(&self) -> Result<Option<(AwsCredentialProvider, String)>, Fault> {
        let Some(file) = set(self.environment, TOKEN_FILE) else { return Ok(None) };
        let Some(arn) = set(self.environment, ROLE) else {
            return Err(Fault::refused(format!("{TOKEN_FILE} is set and {ROLE} is not")));
        };
        let session = set(self.environment, "AWS_ROLE_SESSION_NAME").unwrap_or("corymb").to_owned();
        let role = Role { arn: arn.to_owned(), session, external_id: None, duration: None, of: ROLE.to_owned() };
        let token_file = expanded(file, self.environment);
        let words = format!("signed as the role {arn} with the token in {file} ({TOKEN_FILE})");
        Ok(Some((Renewed::new(WebIdentity { sts: self.sts(), role, token_file }), words)))
    }
}

/// The keys of the environment; `keys` is the variable that they are from.
fn own_keys(environment: &Environment, keys: &str) -> Result<Option<AwsCredentialProvider>, Fault> {
    let (id, secret) = (set(environment, "AWS_ACCESS_KEY_ID"), set(environment, "AWS_SECRET_ACCESS_KEY"));
    let token = set(environment, "AWS_SESSION_TOKEN").or_else(|| set(environment, "AWS_TOKEN"));
    match (id, secret) {
        (Some(id), Some(secret)) => {
            Ok(Some(Arc::new(StaticCredentialProvider::new(credential(keys, id, secret, token)?))))
        }
        (Some(_), None) => Err(Fault::refused("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")),
        (None, Some(_)) => Err(Fault::refused("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not")),
        (None, None) => Ok(None),
    }
}

/// Keys without the space around them that files and secrets of clusters bring along; `object_store` panics on what
/// cannot stand in a header.
fn credential(of: &str, id: &str, secret: &str, token: Option<&str>) -> Result<AwsCredential, Fault> {
    let plain = |what: &str, text: &str| {
        let text = text.trim();
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_plain {
            Ok(text.to_owned())
        } else {
            Err(Fault::refused(format!("the {what} of {of} has characters that none has")))
        }
    };
    let token = token.map(|token| plain("session token", token)).transpose()?;
    Ok(AwsCredential { key_id: plain("access key", id)?, secret_key: plain("secret key", secret)?, token })
}

/// Where AWS has a service.
fn service(name: &str, region: &str) -> String {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{name}.{region}.amazonaws.com{china}")
}

/// The address of a bucket that is named by the host.
fn with_bucket(endpoint: &str, bucket: &str) -> Result<String, Fault> {
    let named = Url::parse(endpoint).ok().and_then(|mut url| {
        let host = url.domain()?.to_owned();
        url.set_host(Some(&format!("{bucket}.{host}"))).ok()?;
        Some(url.as_str().trim_end_matches('/').to_owned())
    });
    named.ok_or_else(|| {
        Fault::refused(format!(
            "S3_USER_VIRTUAL_BUCKET puts the bucket before the host, which {endpoint} does not allow"
        ))
    })
}
