//! KServe's storage spec, and the certificates that KServe mounts.
//!
//! Names and meaning are those of `kserve_storage` 0.21 (`kserve_storage.py`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::store::client::environment::{Environment, set};
use crate::store::fault::Fault;

/// The storage spec: JSON with a `type`, and what overrides it.
pub(crate) const SPEC: [&str; 2] = ["STORAGE_CONFIG", "STORAGE_OVERRIDE_CONFIG"];
/// Where KServe mounts certificates, unless it says otherwise.
const MOUNT: &str = "/etc/ssl/custom-certs";

/// The storage spec when it is of one of `types`, else an empty one.
pub(crate) fn spec(environment: &Environment, types: &[&str]) -> Result<Map<String, Value>, Fault> {
    let mut spec = Map::new();
    for variable in SPEC {
        let Some(json) = set(environment, variable) else { continue };
        // The reader's own words might quote it.
        let object =
            serde_json::from_str(json).map_err(|_| Fault::refused(format!("{variable} is not a JSON object")))?;
        spec.extend::<Map<String, Value>>(object);
    }
    let is_one = text(&spec, "type").is_some_and(|of| types.contains(&of.as_str()));
    Ok(if is_one { spec } else { Map::new() })
}

/// Values are strings in KServe, though switches are easily written without quotes.
pub(crate) fn text(spec: &Map<String, Value>, key: &str) -> Option<String> {
    match spec.get(key)? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Bool(_) | Value::Number(_) => Some(spec[key].to_string()),
        _ => None,
    }
}

/// The file of certificates that KServe mounts, and the variable that says so.
pub(crate) fn bundle_of_kserve(environment: &Environment) -> Result<Option<(&'static str, PathBuf)>, Fault> {
    let spec = spec(environment, &["s3"])?;
    if let Some(path) = text(&spec, "ca_bundle") {
        return Ok(Some((SPEC[0], PathBuf::from(path))));
    }
    let name = ["CA_BUNDLE_CONFIGMAP_NAME", "AWS_CA_BUNDLE_CONFIGMAP"]
        .into_iter()
        .find(|name| set(environment, name).is_some());
    let name = name.or_else(|| text(&spec, "cabundle_configmap").map(|_| SPEC[0]));
    let mount = Path::new(set(environment, "CA_BUNDLE_VOLUME_MOUNT_POINT").unwrap_or(MOUNT));
    Ok(name.map(|name| (name, mount.join("cabundle.crt"))))
}

/// The certificates that the storage spec holds, in PEM.
pub(crate) fn certificate_of_kserve(environment: &Environment) -> Result<Option<String>, Fault> {
    Ok(text(&spec(environment, &["s3"])?, "certificate"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Environment, bundle_of_kserve, certificate_of_kserve};

    #[test]
    fn certificates_are_mounted_named_or_written() {
        let of = |name: &str, value: &str| Environment::from([(name.to_owned(), value.to_owned())]);
        let usual = PathBuf::from("/etc/ssl/custom-certs/cabundle.crt");
        for name in ["CA_BUNDLE_CONFIGMAP_NAME", "AWS_CA_BUNDLE_CONFIGMAP"] {
            assert_eq!(bundle_of_kserve(&of(name, "ours")).expect("understood"), Some((name, usual.clone())));
        }
        let spec = of("STORAGE_CONFIG", r#"{"type": "s3", "cabundle_configmap": "ours", "certificate": "PEM"}"#);
        assert_eq!(bundle_of_kserve(&spec).expect("understood"), Some(("STORAGE_CONFIG", usual)));
        assert_eq!(certificate_of_kserve(&spec).expect("understood").as_deref(), Some("PEM"));
        let spec = of("STORAGE_CONFIG", r#"{"type": "s3", "ca_bundle": "/ca.pem"}"#);
        let expected = Some(("STORAGE_CONFIG", PathBuf::from("/ca.pem")));
        assert_eq!(bundle_of_kserve(&spec).expect("understood"), expected);
        assert_eq!(bundle_of_kserve(&Environment::new()).expect("understood"), None);
    }
}
