//! Objects of S3 that were uploaded in parts, from a store that is busy at times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use md5::{Digest as _, Md5};

use crate::cache::Cache;
use crate::download::{Downloads, Silent};
use crate::store::testing::{Reply, Server};
use crate::store::{Algorithm, Check, Client, Source};
use crate::uri::ModelUri;

/// Of each part but the last.
const PART: usize = 600;

/// The checksum of the parts that the download computed, of a store that is busy `times` times when it is asked of a part.
async fn checked(times: usize) -> Option<String> {
    let content = vec![7; 1000];
    let digests: Vec<u8> = content.chunks(PART).flat_map(Md5::digest).collect();
    let tag: String = Md5::digest(digests).iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "-2";
    let (asked, stated) = (AtomicUsize::new(0), tag.clone());
    let server = Server::start(move |request| match request.line.split_once("partNumber=") {
        Some(_) if asked.fetch_add(1, Ordering::Relaxed) < times => Reply::of(503),
        Some((_, "1")) => Reply { body: content[..PART].to_owned(), ..Reply::of(200) },
        Some(_) => Reply { body: content[PART..].to_owned(), ..Reply::of(200) },
        None => Reply::file(request, &content, &tag),
    })
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::open(folder.path(), None).expect("a cache");
    let downloads = Downloads::new(cache, Arc::new(Silent), Duration::from_millis(300));
    let environment = server.of_s3();
    let client = Client::new(&environment).expect("a client");
    let place = ModelUri::parse("s3://b/m").expect("a URI").place;
    let source = Source::open(&place, &client, &environment).await.expect("a bucket");
    let (object, answer) = downloads.probe(&source, "net.onnx").await.expect("there");
    let blob = downloads.fetch(&source, "net.onnx", object, answer, None).await.expect("downloaded");
    let found = blob.record.digests.0.get(&Check { algorithm: Algorithm::Md5, part: Some(PART as u64) }).cloned();
    found.inspect(|found| assert_eq!(*found, stated))
}

#[tokio::test]
async fn parts_are_asked_for_until_the_store_answers() {
    for times in [0, 1, 3] {
        assert!(checked(times).await.is_some(), "{times}");
    }
    // Yet not for ever.
    assert_eq!(checked(usize::MAX).await, None);
}
