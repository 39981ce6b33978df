//! Images of containers: layers upon layers, and the model in them.

use serde_json::{Value, json};

use super::fake::{Content, Server};
use super::{Environment, GZIP, MANIFEST, Opener, PLAIN, annotated, failed, gzip, onnx, shared, tape};

/// KServe's kind: a system, the model upon it, and what was taken away later.
fn modelcar(content: &mut Content, tag: &str, labels: &[u8]) -> String {
    let (onnx, toml) = (onnx(), MANIFEST.as_bytes());
    let system = tape(&[
        ("bin/", b""),
        ("bin/sh", b"machine code"),
        ("bin/ls>/bin/sh", b""),
        ("dev/null", b""),
        ("etc/passwd", b"root"),
    ]);
    let model = tape(&[
        ("models/", b""),
        ("models/net.onnx", &onnx),
        ("models/model.toml", toml),
        ("models/old.txt", b"old"),
        ("models/cards/one.md", b"one"),
    ]);
    let last = tape(&[
        ("models/.wh.old.txt", b""),
        ("models/labels.txt", labels),
        ("models/cards/.wh..wh..opq", b""),
        ("models/cards/two.md", b"two!"),
        ("etc/.wh.passwd", b""),
    ]);
    let layers = [
        annotated(content, GZIP, &gzip(&system)),
        annotated(content, GZIP, &gzip(&model)),
        annotated(content, PLAIN, &last),
    ];
    content.manifest(tag, &layers)
}

#[tokio::test]
async fn the_models_of_an_image_are_unpacked_once() {
    let mut content = Content::default();
    modelcar(&mut content, "latest", b"a\n");
    let content = shared(content);
    let server = Server::of(&content).await;
    let uri = format!("oci://{}/car", server.host);
    let opener = Opener::new(&Environment::new());
    let expected = |labels: usize| {
        let (toml, onnx) = (MANIFEST.len(), onnx().len());
        format!("cards/two.md:4 labels.txt:{labels} model.toml:{toml} net.onnx:{onnx}")
    };
    assert_eq!(opener.files(&uri).await, expected(2));
    let blobs = |lines: Vec<String>| lines.iter().filter(|line| line.contains("/blobs/")).count();
    assert_eq!(blobs(server.lines()), 3);
    // Of the layers themselves nothing is left: two files of the lower one are hidden by the upper.
    assert_eq!(opener.blobs(), 6);
    assert_eq!(opener.files(&uri).await, expected(2));
    assert_eq!(blobs(server.lines()), 0);

    // Of a new image the layers that are not known are fetched.
    modelcar(&mut content.lock().expect("no panic"), "latest", b"a\nb\n");
    assert_eq!(opener.files(&uri).await, expected(4));
    assert_eq!(blobs(server.lines()), 1);
    // By another name of the same, its files are not known; the system's are not needed.
    let digest = modelcar(&mut content.lock().expect("no panic"), "v2", b"a\nb\n");
    assert_eq!(opener.files(&format!("{uri}@{digest}")).await, expected(4));
    assert_eq!(blobs(server.lines()), 2);
    // A file of it, by the name that messages give it.
    let file = format!("{uri}@{digest}/net.onnx");
    assert_eq!(opener.files(&file).await, format!("net.onnx:{}", onnx().len()));
    assert_eq!(blobs(server.lines()), 0);
}

#[tokio::test]
async fn a_file_that_was_lost_is_fetched_anew() {
    let mut content = Content::default();
    modelcar(&mut content, "latest", b"a\n");
    let server = Server::of(&shared(content)).await;
    let uri = format!("oci://{}/car", server.host);
    let opener = Opener::new(&Environment::new());
    let expected = opener.files(&uri).await;
    for entry in std::fs::read_dir(opener.cache.path().join("models/blobs")).expect("a cache").flatten() {
        if entry.metadata().expect("there").len() == onnx().len() as u64 {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    server.lines();
    assert_eq!(opener.files(&uri).await, expected);
    assert_eq!(server.lines().iter().filter(|line| line.contains("/blobs/")).count(), 1);
}

#[tokio::test]
async fn an_image_without_models_is_searched_and_links_are_files() {
    let onnx = onnx();
    let mut content = Content::default();
    let one = tape(&[
        ("./", b""),
        ("srv/data/net.onnx", &onnx),
        ("srv/data/self>.", b""),
        ("srv/data/away>../../../../etc/passwd", b""),
        ("srv/data/again.onnx#srv/data/net.onnx", b""),
        ("dev/null", b""),
    ]);
    let two = tape(&[("srv/net/model.onnx>/srv/data/net.onnx", b""), ("srv/data/.wh.again.onnx", b"")]);
    let layers = [annotated(&mut content, PLAIN, &one), annotated(&mut content, GZIP, &gzip(&two))];
    content.manifest("two", &layers);
    let three = tape(&[("srv/.wh.data", b""), ("/srv/net/model.onnx", &onnx)]);
    let layers = [layers[0].clone(), layers[1].clone(), annotated(&mut content, PLAIN, &three)];
    content.manifest("three", &layers);
    let names: Vec<String> = (0..1_001).map(|number| format!("usr/{number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let system = annotated(&mut content, PLAIN, &tape(&files));
    content.manifest("system", &[system]);
    let empty = annotated(&mut content, PLAIN, &tape(&[("srv/", b"")]));
    content.manifest("empty", &[empty]);
    let server = Server::of(&shared(content)).await;
    let uri = |tag: &str| format!("oci://{}/net:{tag}", server.host);
    let opener = Opener::new(&Environment::new());
    // Two folders of models lie in it, and one name is given.
    let said = opener.open(&uri("two")).await.map(drop).expect_err("several");
    assert!(said.contains("several models lie below it (srv/data, srv/net)"), "{said}");
    let several = opener.open(&format!("{}/srv", uri("two"))).await.map(drop).expect_err("several");
    assert!(several.contains(&format!("as in `--model NAME={}/srv/data`", uri("two"))), "{several}");
    for (path, file) in [("srv/net", "model.onnx"), ("srv/data/net.onnx", "net.onnx")] {
        let uri = format!("{}/{path}", uri("two"));
        assert_eq!(opener.files(&uri).await, format!("{file}:{}", onnx.len()));
    }
    let said = failed(&Environment::new(), &format!("{}/bin", uri("two"))).await;
    assert_eq!(said, format!("{}/bin: there are no files in it", uri("two")));
    assert_eq!(opener.files(&uri("three")).await, format!("srv/net/model.onnx:{}", onnx.len()));
    let said = failed(&Environment::new(), &uri("system")).await;
    assert!(
        said.ends_with(": the archive has 1001 files, and the image no folder /models; at most 1000 are searched"),
        "{said}"
    );
    let said = failed(&Environment::new(), &uri("empty")).await;
    assert_eq!(said, format!("{}: there are no files in it", uri("empty")));
}

#[tokio::test]
async fn tapes_of_artefacts_and_of_zstandard_are_unpacked() {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    let onnx = onnx();
    let mut content = Content::default();
    let model = tape(&[("net.onnx", &onnx)]);
    let kit = [
        annotated(&mut content, "application/vnd.kitops.modelkit.model.v1.tar+gzip", &gzip(&model)),
        annotated(&mut content, "application/vnd.kitops.modelkit.datasets.v1.tar", b"no tape at all"),
        content.file("model.toml", b""),
    ];
    content.manifest("kit", &kit);
    let (front, back) = model.split_at(700);
    let compressed = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
    // Two frames, and one between them that is none of the content.
    let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
    let frames = [compressed(front), skipped, compressed(back)].concat();
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let layer = annotated(&mut content, zstd, &frames);
    content.manifest("zstd", &[layer]);
    let layer = annotated(&mut content, zstd, &frames[..frames.len() - 40]);
    content.manifest("cut", &[layer]);
    let packed = json!({"org.opencontainers.image.title": "net", "io.deis.oras.content.unpack": "true"});
    let oras = content.blob(GZIP, &gzip(&tape(&[("net/net.onnx", &onnx)])), &packed);
    content.manifest("oras", &[oras]);
    let server = Server::of(&shared(content)).await;
    let opener = Opener::new(&Environment::new());
    let uri = |tag: &str| format!("oci://{}/net:{tag}", server.host);
    assert_eq!(opener.files(&uri("kit")).await, format!("model.toml:0 net.onnx:{}", onnx.len()));
    assert_eq!(opener.files(&uri("zstd")).await, format!("net.onnx:{}", onnx.len()));
    assert!(opener.files(&uri("oras")).await.ends_with(&format!("net.onnx:{}", onnx.len())));
    let said = failed(&Environment::new(), &uri("cut")).await;
    assert!(said.contains("the archive "), "{said}");
}

#[tokio::test]
async fn layers_that_mean_harm_are_refused() {
    let bomb = gzip(&tape(&[("models/net.onnx", &vec![0; 80 << 20])]));
    for (layer, expected) in [
        (tape(&[("models/../../x", b"x")]), "'models/../../x' in the archive leads out of its folder by '..'"),
        (tape(&[("models/a>/etc", b""), ("models/a/b", b"x")]), "'models/a/b' in the archive lies behind 'models/a'"),
        (tape(&[("models/a", b"x"), ("models/a", b"y")]), "'models/a' in the archive occurs twice"),
        (tape(&[("models/a#etc/passwd", b"")]), "'models/a' in the archive is a hard link, but no file before it is"),
        (b"no tape".to_vec(), "the archive ends in the middle of its first header; it is cut short"),
    ] {
        let said = refusal(PLAIN, &layer).await;
        assert!(said.contains(expected), "{said}");
    }
    let said = refusal(GZIP, &bomb).await;
    assert!(
        said.contains("'models/net.onnx' in the archive makes its content more than 100 times its own size"),
        "{said}"
    );
}

async fn refusal(kind: &str, layer: &[u8]) -> String {
    let mut content = Content::default();
    let layer = annotated(&mut content, kind, layer);
    content.manifest("latest", &[layer]);
    let server = Server::of(&shared(content)).await;
    failed(&Environment::new(), &format!("oci://{}/net", server.host)).await
}

#[tokio::test]
async fn an_index_leads_to_an_image() {
    let mut content = Content::default();
    let digest = modelcar(&mut content, "own", b"a\n");
    let platform = |os: &str, architecture: &str| json!({"os": os, "architecture": architecture});
    let entry = |digest: &str, platform: Value| json!({"digest": digest, "size": 1, "platform": platform});
    let nowhere = format!("sha256:{}", "0".repeat(64));
    let entries = [entry(&nowhere, platform("unknown", "unknown")), entry(&digest, platform("linux", "amd64"))];
    content.tag("latest", &json!({"schemaVersion": 2, "manifests": entries}));
    let entries = ["s390x", "ppc64le"].map(|name| entry(&nowhere, platform("linux", name)));
    content.tag("others", &json!({"schemaVersion": 2, "manifests": entries}));
    let server = Server::of(&shared(content)).await;
    let uri = format!("oci://{}/car", server.host);
    Opener::new(&Environment::new()).open(&uri).await.expect("for this machine");
    let said = failed(&Environment::new(), &format!("{uri}:others")).await;
    assert!(said.contains("(linux/ppc64le, linux/s390x); name one by @sha256:DIGEST"), "{said}");
}

#[tokio::test]
async fn several_open_one_image_at_a_time_and_without_the_registry() {
    let mut content = Content::default();
    modelcar(&mut content, "latest", b"a\n");
    let server = Server::of(&shared(content)).await;
    let uri = format!("oci://{}/car", server.host);
    let opener = Opener::new(&Environment::new());
    let all = futures::future::join_all((0..8).map(|_| opener.open(&uri))).await;
    for opened in all {
        opened.expect("one image");
    }
    assert_eq!(opener.blobs(), 6);
    let alone = opener.offline();
    server.requests();
    alone.open("m", &uri).await.expect("as it was downloaded");
    assert!(server.requests().is_empty());
    let found = alone.look_into(&uri, None).await.expect("known").all().expect("a model");
    assert_eq!(found[0].name, "car");
}
