//! Models of a bucket, from the URI to the folder.

use std::time::Duration;

use md5::{Digest as _, Md5};

use crate::store::testing::{Reply, Server};
use crate::{ModelFolder, Offline, Repository, RepositoryOptions, SignaturePolicy};

const ONNX: &[u8] = include_bytes!("../../../../tests/fixtures/models/identity_fp32.onnx");

/// Opens the model of these files of a bucket.
async fn open(files: Vec<(&'static str, Vec<u8>)>) -> Result<Vec<ModelFolder>, String> {
    let reply = move |request: &_| {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
        Reply::bucket(request, &files)
    };
    let server = Server::start(reply).await;
    let cache = tempfile::tempdir().expect("a temporary folder");
    let repository = Repository::new(RepositoryOptions {
        cache: Some(cache.path().to_owned()),
        cache_size: None,
        download_timeout: Duration::from_secs(1),
        environment: server.of_s3(),
        progress: None,
        signatures: SignaturePolicy::default(),
        offline: Offline::Never,
    });
    repository.open("m", "s3://b/m").await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn files_whose_checksums_are_compared_are_there_whichever_version_they_are_of() {
    let md5 = |content: &[u8]| Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = |first: &[u8]| {
        let check =
            |file: &str, content: &[u8]| format!("parameters {{ key: 'MD5:{file}' value: '{}' }} ", md5(content));
        let all = [check("1/model.onnx", first), check("2/model.onnx", ONNX), check("LICENSE", b"free")].concat();
        format!("model_repository_agents {{ agents {{ name: 'checksum' {all} }} }}").into_bytes()
    };
    let files = |text: Vec<u8>| {
        vec![
            ("m/config.pbtxt", text),
            ("m/1/model.onnx", b"old".to_vec()),
            ("m/2/model.onnx", ONNX.to_vec()),
            ("m/LICENSE", b"free".to_vec()),
        ]
    };
    let opened = open(files(text(b"old"))).await.expect("right");
    assert_eq!(opened.iter().map(|version| version.version.as_str()).collect::<Vec<_>>(), ["2"]);
    let said = open(files(text(b"other"))).await.expect_err("wrong");
    assert!(said.contains("1/model.onnx: its md5 is ") && said.contains(&md5(b"other")), "{said}");
    let mut absent = files(text(b"old"));
    absent.pop();
    let said = open(absent).await.expect_err("absent");
    assert_eq!(said, "s3://b/m/LICENSE: there is no such object");
}
