//! What KServe says to who downloads a model, in the words of each provider's own tools.
//!
//! Names and meaning are those of `kserve_storage` 0.21 (`kserve_storage.py`), with one difference: there the storage
//! spec overwrites the providers' own variables, here those win, since who sets them on Corymb means Corymb.

use serde_json::{Map, Value, json};

use crate::store::client::{Environment, SPEC, is_true, set, spec, text};
use crate::store::credentials::address;
use crate::store::fault::Fault;

/// The environment for S3, and what of KServe's settings has no variable there.
pub(super) struct S3 {
    pub(super) environment: Environment,
    /// The variable that keys are from.
    pub(super) keys: &'static str,
    /// The variable that asks for requests without a signature.
    pub(super) unsigned: Option<&'static str>,
    /// The variable that asks not to verify certificates.
    pub(super) unverified: Option<&'static str>,
    /// Buckets are named by the host, not by the path.
    pub(super) virtual_hosts: bool,
    /// Requests go by AWS's nearest edge.
    pub(super) accelerated: bool,
}

/// The environment of S3's own variables.
pub(super) fn s3(environment: &Environment) -> Result<S3, Fault> {
    let spec = spec(environment, &["s3"])?;
    let mut usual = environment.clone();
    let own_keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].iter().any(|name| set(environment, name).is_some());
    let mut keys = "AWS_ACCESS_KEY_ID";
    if let Some((id, secret)) = text(&spec, "access_key_id").zip(text(&spec, "secret_access_key")).filter(|_| !own_keys)
    {
        usual.insert("AWS_ACCESS_KEY_ID".to_owned(), id);
        usual.insert("AWS_SECRET_ACCESS_KEY".to_owned(), secret);
        // It belongs to other keys.
        usual.remove("AWS_SESSION_TOKEN");
        keys = SPEC[0];
    }
    fill(&mut usual, &["AWS_DEFAULT_REGION", "AWS_REGION"], text(&spec, "region"));
    if let Some(endpoint) = endpoint(&spec, environment)? {
        fill(&mut usual, &["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"], Some(endpoint));
    }
    let is_no = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "0" | "false");
    let unsigned = if is_true(set(environment, "AWS_SKIP_SIGNATURE")) {
        Some("AWS_SKIP_SIGNATURE")
    } else if is_true(set(environment, "awsAnonymousCredential")) {
        Some("awsAnonymousCredential")
    } else {
        is_true(text(&spec, "anonymous").as_deref()).then_some(SPEC[0])
    };
    let unverified = match set(environment, "S3_VERIFY_SSL") {
        Some(verify) => is_no(verify).then_some("S3_VERIFY_SSL"),
        None => text(&spec, "verify_ssl").is_some_and(|verify| is_no(&verify)).then_some(SPEC[0]),
    };
    // The first has a typing error, and is what KServe sets.
    let virtual_hosts =
        ["S3_USER_VIRTUAL_BUCKET", "S3_USE_VIRTUAL_BUCKET"].iter().any(|name| is_true(set(environment, name)));
    let accelerated = is_true(set(environment, "S3_USE_ACCELERATE"));
    Ok(S3 { environment: usual, keys, unsigned, unverified, virtual_hosts, accelerated })
}

/// The address in the storage spec, else in `S3_ENDPOINT`, where it may lack the scheme.
fn endpoint(spec: &Map<String, Value>, environment: &Environment) -> Result<Option<String>, Fault> {
    if let Some(url) = text(spec, "endpoint_url") {
        return address("endpoint_url of STORAGE_CONFIG", &url).map(|url| Some(url.to_owned()));
    }
    let Some(endpoint) = set(environment, "S3_ENDPOINT") else { return Ok(None) };
    let plain = set(environment, "S3_USE_HTTPS").is_some_and(|value| !is_true(Some(value)));
    let scheme = if plain { "http" } else { "https" };
    let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("{scheme}://{endpoint}") };
    let _ = address("S3_ENDPOINT", &url)?;
    Ok(Some(url))
}

/// The environment of Azure's own variables.
pub(super) fn azure(environment: &Environment) -> Result<Environment, Fault> {
    let spec = spec(environment, &["azure"])?;
    let mut usual = environment.clone();
    for (name, key) in [
        ("AZURE_STORAGE_ACCOUNT", "account_name"),
        ("AZURE_STORAGE_ACCESS_KEY", "access_key"),
        ("AZURE_STORAGE_CONNECTION_STRING", "connection_string"),
        ("AZURE_STORAGE_SAS_TOKEN", "sas_token"),
    ] {
        fill(&mut usual, &[name], text(&spec, key));
    }
    let az = |name: &str| set(environment, name).map(str::to_owned);
    fill(&mut usual, &["AZURE_TENANT_ID"], az("AZ_TENANT_ID").or_else(|| text(&spec, "tenant_id")));
    fill(&mut usual, &["AZURE_SUBSCRIPTION_ID"], az("AZ_SUBSCRIPTION_ID"));
    // A secret belongs to one application.
    if ["AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"].iter().all(|name| set(environment, name).is_none()) {
        fill(&mut usual, &["AZURE_CLIENT_ID"], az("AZ_CLIENT_ID").or_else(|| text(&spec, "client_id")));
        fill(&mut usual, &["AZURE_CLIENT_SECRET"], az("AZ_CLIENT_SECRET").or_else(|| text(&spec, "client_secret")));
    }
    Ok(usual)
}

/// The service account of a storage spec for Google, as the JSON of its file.
pub(super) fn google(environment: &Environment) -> Result<Option<String>, Fault> {
    let spec = spec(environment, &["gs", "gcs"])?;
    let Some((key, email)) = text(&spec, "private_key").zip(text(&spec, "client_email")) else { return Ok(None) };
    let id = text(&spec, "private_key_id").unwrap_or_default();
    let account = json!({
        "type": "service_account", "private_key": key, "private_key_id": id, "client_email": email,
    });
    Ok(Some(account.to_string()))
}

/// Sets the first of the variables, when none of them says anything.
fn fill(environment: &mut Environment, names: &[&str], value: Option<String>) {
    let said = names.iter().any(|name| set(environment, name).is_some());
    if let (Some(value), Some(name), false) = (value, names.first(), said) {
        environment.insert((*name).to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, azure, google, s3};

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn usual<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
        environment.get(name).map(String::as_str)
    }

    #[test]
    fn an_endpoint_gets_the_scheme_that_is_asked_for() {
        for (variables, expected) in [
            (&[("S3_ENDPOINT", "minio:9000")][..], "https://minio:9000"),
            (&[("S3_ENDPOINT", "minio:9000"), ("S3_USE_HTTPS", "1")], "https://minio:9000"),
            (&[("S3_ENDPOINT", "minio:9000"), ("S3_USE_HTTPS", "0")], "http://minio:9000"),
            (&[("S3_ENDPOINT", "minio:9000"), ("S3_USE_HTTPS", "false")], "http://minio:9000"),
            (&[("S3_ENDPOINT", "http://minio:9000"), ("S3_USE_HTTPS", "1")], "http://minio:9000"),
            (&[("S3_ENDPOINT", "minio:9000"), ("AWS_ENDPOINT_URL", "http://own")], "http://own"),
        ] {
            let found = s3(&environment(variables)).expect("understood").environment;
            assert_eq!(usual(&found, "AWS_ENDPOINT_URL"), Some(expected));
        }
        let own = s3(&environment(&[("S3_ENDPOINT", "minio:9000"), ("AWS_ENDPOINT_URL_S3", "http://own")]));
        assert_eq!(usual(&own.expect("understood").environment, "AWS_ENDPOINT_URL"), None);
        let wrong = s3(&environment(&[("S3_ENDPOINT", "http://")])).err().expect("refused").reason;
        assert_eq!(wrong, "S3_ENDPOINT is 'http://'; expected a URL such as http://minio:9000");
    }

    #[test]
    fn switches_are_read() {
        let found = |variables: &[(&str, &str)]| s3(&environment(variables)).expect("understood");
        assert_eq!(found(&[("awsAnonymousCredential", "True")]).unsigned, Some("awsAnonymousCredential"));
        assert_eq!(found(&[("awsAnonymousCredential", "false")]).unsigned, None);
        assert_eq!(found(&[("S3_VERIFY_SSL", "0")]).unverified, Some("S3_VERIFY_SSL"));
        assert_eq!(found(&[("S3_VERIFY_SSL", "1")]).unverified, None);
        for name in ["S3_USER_VIRTUAL_BUCKET", "S3_USE_VIRTUAL_BUCKET"] {
            assert!(found(&[(name, "true")]).virtual_hosts);
        }
        assert!(found(&[("S3_USE_ACCELERATE", "true")]).accelerated && !found(&[]).accelerated);
    }

    #[test]
    fn the_storage_spec_fills_in() {
        let spec = r#"{"type": "s3", "access_key_id": "id", "secret_access_key": "hunter2", "region": "eu-west-1",
            "endpoint_url": "http://minio:9000", "bucket": "b", "verify_ssl": "0", "anonymous": "True"}"#;
        let given = environment(&[("STORAGE_CONFIG", spec), ("AWS_SESSION_TOKEN", "of others")]);
        let found = s3(&given).expect("understood");
        let of = |name| usual(&found.environment, name);
        assert_eq!((of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY")), (Some("id"), Some("hunter2")));
        assert_eq!((of("AWS_SESSION_TOKEN"), of("AWS_DEFAULT_REGION")), (None, Some("eu-west-1")));
        assert_eq!((of("AWS_ENDPOINT_URL"), found.keys), (Some("http://minio:9000"), "STORAGE_CONFIG"));
        assert_eq!((found.unsigned, found.unverified), (Some("STORAGE_CONFIG"), Some("STORAGE_CONFIG")));

        // What is AWS's own wins; keys are taken together.
        let own = [("STORAGE_CONFIG", spec), ("AWS_ACCESS_KEY_ID", "mine"), ("AWS_REGION", "us-west-2")];
        let found = s3(&environment(&own)).expect("understood");
        let of = |name| usual(&found.environment, name);
        assert_eq!((of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY")), (Some("mine"), None));
        assert_eq!((of("AWS_DEFAULT_REGION"), found.keys), (None, "AWS_ACCESS_KEY_ID"));
        let over = [("STORAGE_CONFIG", spec), ("STORAGE_OVERRIDE_CONFIG", r#"{"region": "us-east-2"}"#)];
        let found = s3(&environment(&over)).expect("understood");
        assert_eq!(usual(&found.environment, "AWS_DEFAULT_REGION"), Some("us-east-2"));
    }

    #[test]
    fn a_storage_spec_that_is_of_others_or_none_says_nothing() {
        let other = environment(&[("STORAGE_CONFIG", r#"{"type": "hdfs", "access_key_id": "id"}"#)]);
        assert_eq!(usual(&s3(&other).expect("understood").environment, "AWS_ACCESS_KEY_ID"), None);
        for wrong in ["{hunter2", "[\"hunter2\"]"] {
            let reason = s3(&environment(&[("STORAGE_CONFIG", wrong)])).err().expect("refused").reason;
            assert_eq!(reason, "STORAGE_CONFIG is not a JSON object");
        }
    }

    #[test]
    fn azure_and_google_have_theirs() {
        let old =
            [("AZ_TENANT_ID", "t"), ("AZ_CLIENT_ID", "c"), ("AZ_CLIENT_SECRET", "s"), ("AZ_SUBSCRIPTION_ID", "u")];
        let found = azure(&environment(&old)).expect("understood");
        for (name, value) in [
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_CLIENT_SECRET", "s"),
            ("AZURE_SUBSCRIPTION_ID", "u"),
        ] {
            assert_eq!(usual(&found, name), Some(value));
        }
        let mixed = [&old[..], &[("AZURE_CLIENT_ID", "own")]].concat();
        let found = azure(&environment(&mixed)).expect("understood");
        assert_eq!((usual(&found, "AZURE_CLIENT_ID"), usual(&found, "AZURE_CLIENT_SECRET")), (Some("own"), None));
        let spec = [("STORAGE_CONFIG", r#"{"type": "azure", "account_name": "a", "access_key": "k"}"#)];
        let found = azure(&environment(&spec)).expect("understood");
        assert_eq!(
            usual(&found, "AZURE_STORAGE_ACCOUNT").zip(usual(&found, "AZURE_STORAGE_ACCESS_KEY")),
            Some(("a", "k"))
        );
        let spec = [("STORAGE_CONFIG", r#"{"type": "gs", "private_key": "k", "client_email": "a@b"}"#)];
        let account = google(&environment(&spec)).expect("understood").expect("one");
        assert!(account.contains(r#""client_email":"a@b""#), "{account}");
    }
}
