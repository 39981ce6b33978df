//! Archives of a server, from the URI to the files of the cache.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sha2::{Digest as _, Sha256};

use super::{Unpacking, fetch};
use crate::archive::Kind;
use crate::cache::Cache;
use crate::download::{Downloads, Silent};
use crate::opened;
use crate::store::testing::{Reply, Server};
use crate::store::{Client, Object, Source};
use crate::uri::ModelUri;

/// An archive of a few files.
fn tape() -> Vec<u8> {
    let mut tape = tar::Builder::new(Vec::new());
    for number in 0..20 {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(5000);
        let content = [b'a'; 5000];
        tape.append_data(&mut header, format!("model/file{number}"), &content[..]).expect("written");
    }
    tape.into_inner().expect("written")
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As another process would see the same cache.
fn downloads(folder: &Path) -> Downloads {
    let cache = Cache::open(folder, None).expect("a cache");
    Downloads::new(cache, Arc::new(Silent), Duration::from_secs(2))
}

/// Opens the archive; answers how many files there are.
async fn open(uri: &str, downloads: &Downloads) -> Result<usize, String> {
    let none = std::collections::BTreeMap::new();
    let client = Client::new(&none).expect("a client");
    let uri = ModelUri::parse(uri).expect("a URI");
    let opened = opened::open(&uri, downloads, &client, &none).await.map_err(|error| error.to_string())?;
    let files = opened.listing.expect("of an archive");
    for (path, object) in &files {
        let key = Cache::blob_key(&opened.source.shown(path), object);
        assert!(downloads.cache.find(&key).is_some(), "{path}");
    }
    Ok(files.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_unpack_one_archive_at_a_time() {
    let content = tape();
    let server = Server::start(move |request| Reply::file(request, &content, "v1")).await;
    for _ in 0..5 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (one, other) = (downloads(folder.path()), downloads(folder.path()));
        let uri = format!("{}/m.tar", server.url);
        let opens = (0..8).map(|number| {
            let (uri, downloads) = (uri.clone(), if number % 2 == 0 { one.clone() } else { other.clone() });
            tokio::spawn(async move { open(&uri, &downloads).await })
        });
        for opened in join_all(opens).await {
            assert_eq!(opened.expect("no panic"), Ok(20));
        }
        let blobs = std::fs::read_dir(folder.path().join("blobs")).expect("read").flatten();
        let blobs = blobs.filter(|entry| !entry.file_name().to_string_lossy().contains('.')).count();
        assert_eq!(blobs, 20, "the archive itself does not stay");
    }
}

#[tokio::test]
async fn an_archive_of_a_checksum_is_fetched_once() {
    let content = tape();
    let right = sha256(&content);
    let server = Server::start(move |request| Reply::file(request, &content, "v1")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let downloads = downloads(folder.path());
    let (plain, stated) = (format!("{}/m.tar", server.url), format!("{}/m.tar#sha256={right}", server.url));
    let probed = ["GET /m.tar bytes=0-0"];
    // One that was unpacked before anybody said what it must be is fetched for that once.
    assert_eq!(open(&plain, &downloads).await, Ok(20));
    assert!(server.requests().len() > 1);
    assert_eq!(open(&plain, &downloads).await, Ok(20));
    assert_eq!(server.requests(), probed);
    assert_eq!(open(&stated, &downloads).await, Ok(20));
    assert!(server.requests().len() > 1);
    for uri in [&stated, &plain] {
        assert_eq!(open(uri, &downloads).await, Ok(20));
        assert_eq!(server.requests(), probed);
    }
    let wrong = "0".repeat(64);
    let said = open(&format!("{plain}#sha256={wrong}"), &downloads).await.expect_err("another one");
    assert!(said.contains(&format!("its sha256 is {right}")) && said.contains(&wrong), "{said}");
    server.requests();
    assert_eq!(open(&stated, &downloads).await, Ok(20));
    assert_eq!(server.requests(), probed);
}

#[tokio::test]
async fn who_comes_second_takes_what_the_first_unpacked() {
    let content = tape();
    let server = Server::start(move |request| Reply::file(request, &content, "v1")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let downloads = downloads(folder.path());
    let none = std::collections::BTreeMap::new();
    let client = Client::new(&none).expect("a client");
    let place = ModelUri::parse(&server.url).expect("a URI").place;
    let source = Source::open(&place, &client, &none).await.expect("a server");
    let (object, answer) = downloads.probe(&source, "m.tar").await.expect("there");
    let (blob, _) = fetch(&downloads, &source, "m.tar", &object, answer, None).await.expect("there");
    let archives: Vec<File> = (0..8).map(|_| File::open(downloads.cache.blob(&blob.key)).expect("there")).collect();
    let uri = source.shown("m.tar");
    let made = |archive: &File| {
        let (files, _holds) =
            Unpacking::of(&downloads.cache, &uri, &object).run(archive, &blob, Kind::Tar).expect("unpacked");
        let inode = |(path, object): (&String, &Object)| {
            let file = downloads.cache.blob(&Cache::blob_key(&files.shown(path), object));
            std::fs::metadata(file).expect("there").ino()
        };
        files.files.iter().map(inode).collect::<Vec<u64>>()
    };
    let made = &made;
    let all: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = archives.iter().map(|archive| scope.spawn(move || made(archive))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(all.iter().all(|inodes| *inodes == all[0]), "it was unpacked more than once");
    // It may be gone before it is opened, and is fetched again.
    assert!(!downloads.cache.blob(&blob.key).exists());
    fetch(&downloads, &source, "m.tar", &object, None, None).await.expect("there");
}
