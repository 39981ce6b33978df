//! Whom the client talks to over TLS.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{ServerConfig, ServerConnection, Stream};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Client, Environment};
use crate::store::bucket::Bucket;
use crate::store::fault::FaultKind;
use crate::uri::{BucketPlace, Provider};

/// A certificate for 127.0.0.1 of the authority in `test_ca.pem`, and its key.
const SERVER: &[u8] = include_bytes!("test_server.pem");

/// An empty bucket.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 19\r\nconnection: close\r\n\r\n<ListBucketResult/>";

/// A server that answers every request; its thread ends with the process.
fn server() -> url::Url {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(SERVER).map(|found| found.expect("valid")).collect();
    let key = PrivateKeyDer::from_pem_slice(SERVER).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(certificates, key).expect("a certificate"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut tls = Stream::new(&mut connection, &mut stream);
            let mut request = [0; 4096];
            if tls.read(&mut request).is_ok() {
                let _ = tls.write_all(ANSWER);
            }
        }
    });
    format!("https://{address}/").parse().expect("a URL")
}

#[tokio::test]
async fn certificates_are_verified_unless_somebody_asks_not_to() {
    let url = server();
    let plain = Client::new(&Environment::new()).expect("a client");
    let refused = plain.send(plain.get(url.clone())).await.expect_err("nobody known");
    assert!(refused.kind == FaultKind::Refused && refused.reason.contains("certificate"), "{refused}");
    let loose = plain.unverified("S3_VERIFY_SSL").expect("a client");
    assert!(loose.send(loose.get(url.clone())).await.is_ok_and(|answer| answer.status() == 200));
    // The other one stays as it is.
    assert!(plain.send(plain.get(url.clone())).await.is_err());

    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/client/test_ca.pem");
    let authority = authority.to_string_lossy().into_owned();
    for variable in ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"] {
        let environment = Environment::from([(variable.to_owned(), authority.clone())]);
        let client = Client::new(&environment).expect("a client");
        assert!(client.send(client.get(url.clone())).await.is_ok(), "{variable}");
    }
}

#[tokio::test]
async fn the_certificate_of_kserve_s_storage_spec_is_of_s3_alone() {
    let url = server();
    let authority = include_str!("test_ca.pem");
    let spec = serde_json::json!({"type": "s3", "certificate": authority, "endpoint_url": url.as_str()}).to_string();
    let variables = [("STORAGE_CONFIG", spec.as_str()), ("awsAnonymousCredential", "true")];
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let client = Client::new(&environment).expect("a client");
    assert!(client.send(client.get(url)).await.is_err());
    let (bucket, path) = ("b".to_owned(), String::new());
    let place = BucketPlace { provider: Provider::S3, bucket, account: None, signature: None, path };
    let bucket = Bucket::open(&place, &client, &environment).await.expect("opened");
    assert!(bucket.list().await.expect("trusted").is_empty());
}

#[tokio::test]
async fn s3_alone_is_not_verified_where_kserve_asks_for_it() {
    let url = server().to_string();
    let client = Client::new(&Environment::new()).expect("a client");
    let (bucket, path) = ("b".to_owned(), String::new());
    let place = BucketPlace { provider: Provider::S3, bucket, account: None, signature: None, path };
    for (verify, is_trusted) in [("0", true), ("false", true), ("1", false)] {
        let variables = [("S3_ENDPOINT", url.as_str()), ("S3_VERIFY_SSL", verify), ("awsAnonymousCredential", "true")];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let bucket = Bucket::open(&place, &client, &environment).await.expect("opened");
        assert_eq!(bucket.list().await.map(|listed| listed.len()).ok(), is_trusted.then_some(0), "{verify}");
    }
}
