//! Which certificates are trusted: the built-in ones, the system's, and those that variables name.
//!
//! `rustls-native-certs` reads the environment of the process by itself, which is handed to us as values; so the files
//! of Linux distributions are read here.

use std::path::{Path, PathBuf};

use corymb_core::files;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::store::client::environment::{Environment, set};
use crate::store::client::kserve::{SPEC, bundle_of_kserve, certificate_of_kserve};
use crate::store::fault::Fault;

/// The certificates of this file are trusted instead of the built-in ones and the system's.
const INSTEAD: &str = "SSL_CERT_FILE";
/// Files, or folders of files, whose certificates are trusted, too.
const BESIDE: [&str; 5] = ["SSL_CERT_DIR", "AWS_CA_BUNDLE", "S3_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];
/// Where distributions keep all certificates in one file; the first that is there counts.
const SYSTEM: [&str; 5] = [
    // Debian, Ubuntu, Arch, Alpine
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    // openSUSE
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The largest file of certificates that is read: the usual ones have a quarter of a megabyte.
const MAX: u64 = 8 << 20;
/// The most files of a folder that are read.
const MAX_FILES: usize = 1000;

/// The certificates to trust, of whichever server.
pub(super) fn roots(environment: &Environment) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    match set(environment, INSTEAD) {
        Some(file) => add_file(&mut roots, INSTEAD, Path::new(file))?,
        None => {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            let system = SYSTEM.iter().find_map(|file| files::read(Path::new(file), MAX).ok());
            // What of the system's file cannot be used is no reason not to start.
            let _ = add(&mut roots, &system.unwrap_or_default());
        }
    }
    for variable in BESIDE {
        let Some(value) = set(environment, variable) else { continue };
        // OpenSSL takes several folders.
        let several = variable == "SSL_CERT_DIR";
        let paths = value.split(|letter| several && letter == ':').filter(|path| !path.is_empty()).map(Path::new);
        for path in paths {
            let is_folder = path.is_dir() || several;
            if is_folder { add_folder(&mut roots, variable, path)? } else { add_file(&mut roots, variable, path)? }
        }
    }
    if let Some((variable, path)) = bundle_of_kserve(environment)?.filter(|(variable, _)| *variable != SPEC[0]) {
        add_file(&mut roots, variable, &path)?;
    }
    Ok(roots)
}

/// Those and what KServe's storage spec names, which is of S3 alone; none where it names none.
pub(super) fn roots_of_s3(environment: &Environment, roots: &RootCertStore) -> Result<Option<RootCertStore>, Fault> {
    let bundle = bundle_of_kserve(environment)?.filter(|(variable, _)| *variable == SPEC[0]);
    let certificate = certificate_of_kserve(environment)?;
    if bundle.is_none() && certificate.is_none() {
        return Ok(None);
    }
    let mut roots = roots.clone();
    if let Some((variable, path)) = bundle {
        add_file(&mut roots, variable, &path)?;
    }
    if let Some(text) = certificate
        && !add(&mut roots, text.as_bytes())?
    {
        return Err(Fault::refused("STORAGE_CONFIG: no certificate in its 'certificate'"));
    }
    Ok(Some(roots))
}

fn unreadable(variable: &str, path: &Path, reason: impl std::fmt::Display) -> Fault {
    Fault::refused(format!("{variable} {}: {reason}", path.display()))
}

fn add_file(roots: &mut RootCertStore, variable: &str, path: &Path) -> Result<(), Fault> {
    let bytes = files::read(path, MAX).map_err(|error| unreadable(variable, path, error))?;
    let found = add(roots, &bytes).map_err(|fault| unreadable(variable, path, fault))?;
    if found { Ok(()) } else { Err(unreadable(variable, path, "no certificate in it")) }
}

/// Adds the files of a folder that have certificates: OpenSSL's folders hold other files, too.
fn add_folder(roots: &mut RootCertStore, variable: &str, path: &Path) -> Result<(), Fault> {
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(variable, path, error))?;
    // A certificate is there under its name and under its hash, as a link.
    let mut paths: Vec<PathBuf> = entries.flatten().filter_map(|entry| entry.path().canonicalize().ok()).collect();
    paths.sort();
    paths.dedup();
    if paths.len() > MAX_FILES {
        return Err(unreadable(variable, path, format!("more than {MAX_FILES} files")));
    }
    for bytes in paths.iter().filter_map(|path| files::read(path, MAX).ok()) {
        let _ = add(roots, &bytes);
    }
    Ok(())
}

/// Adds the certificates in PEM, and answers whether there are any.
fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<bool, Fault> {
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| Fault::refused(error.to_string()))?;
        // One that cannot be used is no reason to refuse the others.
        found |= roots.add(certificate).is_ok();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::{Environment, roots, roots_of_s3};

    /// Of a certificate authority that only tests know.
    const CERTIFICATE: &str = include_str!("test_ca.pem");

    fn environment(variables: &[(&str, &Path)]) -> Environment {
        let text = |(name, path): &(&str, &Path)| ((*name).to_owned(), path.to_string_lossy().into_owned());
        variables.iter().map(text).collect()
    }

    #[test]
    fn variables_add_certificates_and_one_replaces_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, CERTIFICATE).expect("written");
        std::fs::write(folder.path().join("README"), "nothing").expect("written");
        let count = |variables: &[(&str, &Path)]| roots(&environment(variables)).expect("readable").len();
        let usual = count(&[]);
        assert!(usual >= webpki_roots::TLS_SERVER_ROOTS.len());
        for variable in ["AWS_CA_BUNDLE", "S3_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
            assert_eq!(count(&[(variable, &file)]), usual + 1, "{variable}");
        }
        assert_eq!(count(&[("SSL_CERT_DIR", folder.path())]), usual + 1);
        assert_eq!(count(&[("REQUESTS_CA_BUNDLE", folder.path())]), usual + 1);
        assert_eq!(count(&[("SSL_CERT_FILE", &file)]), 1);
        assert_eq!(count(&[("SSL_CERT_FILE", &file), ("AWS_CA_BUNDLE", &file)]), 2);
        let mounted = folder.path().join("cabundle.crt");
        std::fs::write(mounted, CERTIFICATE).expect("written");
        let mut kserve = environment(&[("CA_BUNDLE_VOLUME_MOUNT_POINT", folder.path())]);
        kserve.insert("CA_BUNDLE_CONFIGMAP_NAME".to_owned(), "ours".to_owned());
        assert_eq!(roots(&kserve).expect("readable").len(), usual + 1);
        let config = serde_json::json!({"type": "s3", "certificate": CERTIFICATE}).to_string();
        let inline = Environment::from([("STORAGE_CONFIG".to_owned(), config)]);
        let config = serde_json::json!({"type": "s3", "ca_bundle": file}).to_string();
        for spec in [inline, Environment::from([("STORAGE_CONFIG".to_owned(), config)])] {
            let all = roots(&spec).expect("readable");
            assert_eq!(all.len(), usual);
            assert_eq!(roots_of_s3(&spec, &all).expect("readable").map(|roots| roots.len()), Some(usual + 1));
        }
        assert!(roots_of_s3(&kserve, &roots(&kserve).expect("readable")).expect("readable").is_none());
    }

    #[test]
    fn files_that_cannot_be_read_are_named_with_their_variable() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (absent, empty) = (folder.path().join("absent"), folder.path().join("empty"));
        std::fs::write(&empty, "").expect("written");
        let refused =
            |variable: &str, path: &Path| roots(&environment(&[(variable, path)])).expect_err(variable).reason;
        for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
            let reason = refused(variable, &absent);
            assert!(reason.starts_with(&format!("{variable} {}: No such file", absent.display())), "{reason}");
        }
        let reason = refused("AWS_CA_BUNDLE", &empty);
        assert_eq!(reason, format!("AWS_CA_BUNDLE {}: no certificate in it", empty.display()));
    }

    #[test]
    fn loading_them_is_quick() {
        let start = Instant::now();
        let _ = roots(&Environment::new()).expect("readable");
        // Ten times what an optimised build may take.
        assert!(start.elapsed().as_millis() < 200, "{:?}", start.elapsed());
    }
}
