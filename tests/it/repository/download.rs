//! Downloads: shared, resumed, tried again or given up, and never in the way of a start or a stop.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::store::{Fault, Request, Store};
use super::{blobs, cache, failed, identity, listed, noise, pull, pulled, said, sha256};
use crate::harness::{Server, corymb};

#[test]
fn a_download_that_is_killed_goes_on_where_it_was() {
    // Three parts, the last one short.
    let content = noise(20_000_000);
    let store = Store::start(&[("m/big.onnx", &content)]);
    store.limit_rate(1_000_000);
    let cache = cache();
    let uri = format!("{}#sha256={}", store.url("m/big.onnx"), sha256(&content));
    let mut killed = 0;
    for round in 0..50_u64 {
        let mut child = pull(cache.path(), &uri, &[]).spawn().expect("the binary starts");
        std::thread::sleep(Duration::from_millis(40 + (round * 37) % 160));
        killed += usize::from(child.try_wait().expect("known").is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(blobs(cache.path()) <= 1);
    }
    assert!(killed > 10, "{killed} were killed while they downloaded");
    store.limit_rate(0);
    pulled(cache.path(), &uri);
    let delivered = store.delivered();
    println!("killed {killed} times; {delivered} bytes delivered of {}", content.len());
    assert!(delivered <= 2 * content.len() as u64, "{delivered} bytes were delivered of {}", content.len());
    let listed: Value = serde_json::from_str(&listed(cache.path())).expect("JSON");
    let path = Path::new(listed[0]["path"].as_str().expect("a path")).join("big.onnx");
    assert!(std::fs::read(path).expect("there") == content);
}

#[test]
fn two_processes_download_once_and_one_takes_over_from_the_other() {
    let content = noise(4_000_000);
    let store = Store::start(&[("m/big.onnx", &content)]);
    for kill in [false, true] {
        let cache = cache();
        store.limit_rate(4_000_000);
        let before = store.delivered();
        let mut first = pull(cache.path(), &store.url("m/big.onnx"), &[]).spawn().expect("the binary starts");
        let begun = Instant::now();
        while store.delivered() < before + 500_000 {
            assert!(begun.elapsed() < Duration::from_secs(30), "the download has not begun");
            std::thread::sleep(Duration::from_millis(5));
        }
        let second = pull(cache.path(), &store.url("m/big.onnx"), &[]).spawn().expect("the binary starts");
        if kill {
            first.kill().expect("killed");
        }
        let second = second.wait_with_output().expect("ended");
        assert!(second.status.success(), "{}", said(&second));
        assert_eq!(first.wait().expect("ended").success(), !kill);
        let delivered = store.delivered() - before;
        // When one is killed, what was on its way to it is lost.
        let limit = content.len() as u64 + if kill { 1_000_000 } else { 10 };
        assert!(delivered <= limit, "{delivered} bytes were delivered, kill: {kill}");
    }
}

/// A fault of the first requests for content; then all is well.
fn passing(count: usize, fault: Fault) -> impl Fn(&Request) -> Option<Fault> {
    move |request| (!request.is_probe && request.number < count).then_some(fault)
}

#[test]
fn what_passes_is_waited_for() {
    let content = noise(10_000_000);
    for (name, count, fault) in [
        ("errors", 3, Fault::Status(500, None)),
        ("busy", 2, Fault::Status(503, Some(1))),
        ("too many", 1, Fault::Status(429, Some(1))),
        ("cut", 3, Fault::Cut(300_000)),
        ("stalled", 1, Fault::Stall(100_000)),
        ("short parts", 5, Fault::Short(100_000)),
        ("no ranges", usize::MAX, Fault::IgnoreRange),
        ("a flipped bit", 1, Fault::Flip),
    ] {
        let store = Store::faulty(&[("m/big.onnx", &content)], passing(count, fault));
        let cache = cache();
        // Of a plain web server only the URI's checksum tells that a bit has flipped.
        let uri = store.url("m/big.onnx");
        if matches!(fault, Fault::Flip) {
            let error = failed(cache.path(), &format!("{uri}#sha256={}", sha256(&content)), &[]);
            assert!(error.contains("its sha256 is "), "{name}: {error}");
            assert_eq!(blobs(cache.path()), 0, "{name}");
        }
        pulled(cache.path(), &format!("{uri}#sha256={}", sha256(&content)));
        println!("{name}: {} bytes delivered", store.delivered());
    }
}

#[test]
fn an_object_that_changes_is_downloaded_anew_or_refused() {
    let content = noise(20_000_000);
    let once = |request: &Request| (!request.is_probe && request.number == 1).then_some(Fault::OtherTag);
    let store = Store::faulty(&[("m/big.onnx", &content)], once);
    let cache = cache();
    pulled(cache.path(), &format!("{}#sha256={}", store.url("m/big.onnx"), sha256(&content)));

    let always = |request: &Request| request.start.is_some_and(|start| start > 0).then_some(Fault::OtherTag);
    let store = Store::faulty(&[("m/big.onnx", &content)], always);
    let error = failed(cache.path(), &store.url("m/big.onnx"), &[]);
    assert!(error.contains("big.onnx: it was replaced while it was being downloaded"), "{error}");
}

#[test]
fn what_does_not_pass_is_said_at_once_in_the_last_line() {
    let store = Store::faulty(&[("m/a.onnx", b"x")], |request| match request.path.as_str() {
        "/m/denied.onnx" => Some(Fault::Status(403, None)),
        "/m/busy.onnx" => Some(Fault::Status(503, Some(600))),
        "/m/broken.onnx" => Some(Fault::Status(500, None)),
        _ => None,
    });
    let cache = cache();
    let error = |path: &str, more: &[&str]| failed(cache.path(), &store.url(path), more);
    assert!(error("m/absent.onnx", &[]).ends_with("/m/absent.onnx: the server answered 404 Not Found"));
    let denied = error("m/denied.onnx", &[]);
    assert!(denied.contains("/m/denied.onnx: the server answered 403 Forbidden; no user was found"), "{denied}");
    let busy = error("m/busy.onnx", &[]);
    assert!(busy.contains("it asks to wait 600 s, which is more than --download-timeout leaves"), "{busy}");
    let broken = error("m/broken.onnx", &["--download-timeout", "1s"]);
    assert!(
        broken.contains("nothing came for 1 s (--download-timeout); the last try: the server answered 500"),
        "{broken}"
    );
    let nowhere = failed(cache.path(), "http://nowhere.invalid/m.onnx", &["--download-timeout", "1s"]);
    assert!(nowhere.contains("http://nowhere.invalid/m.onnx: nothing came for 1 s"), "{nowhere}");
    let closed = failed(cache.path(), "http://127.0.0.1:9/m.onnx", &["--download-timeout", "1s"]);
    assert!(closed.contains("refused"), "{closed}");
    let scheme = failed(cache.path(), "ftp://h/m.onnx", &[]);
    assert!(scheme.contains("the scheme 'ftp' is not known; expected a path, file://, s3://"), "{scheme}");
    assert_eq!(blobs(cache.path()), 0);
}

#[test]
fn the_proxies_of_the_environment_are_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            // Before the answer, after which whoever asked may end.
            let _ = sender.send(line.trim_end().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let cache = cache();
    // No name server knows these hosts.
    let run = |uri: &str, variables: &[(&str, &str)]| {
        let output = pull(cache.path(), uri, &["--download-timeout", "1s"]).envs(variables.iter().copied()).output();
        let output = output.expect("the binary runs");
        assert_ne!(output.status.code(), Some(0), "{}", said(&output));
        said(&output)
    };
    let text = run("http://models.invalid/m.onnx", &[("HTTP_PROXY", &proxy)]);
    assert!(text.contains("http://models.invalid/m.onnx: the server answered 404 Not Found"), "{text}");
    assert_eq!(asked.try_recv().as_deref(), Ok("GET http://models.invalid/m.onnx HTTP/1.1"));
    run("https://models.invalid/m.onnx", &[("https_proxy", &proxy)]);
    assert_eq!(asked.try_recv().as_deref(), Ok("CONNECT models.invalid:443 HTTP/1.1"));
    run("http://models.invalid/m.onnx", &[("HTTP_PROXY", &proxy), ("NO_PROXY", "models.invalid")]);
    // A last try of the one before may come late.
    let mut since = asked.try_iter();
    assert!(since.all(|line| line.starts_with("CONNECT ") || line.is_empty()), "what NO_PROXY names is asked directly");
}

#[test]
fn a_stop_does_not_wait_for_a_download() {
    let store = Store::start(&[("m/big.onnx", &noise(4_000_000))]);
    store.limit_rate(100_000);
    let cache = cache();
    let uri = store.url("m/big.onnx");
    let mut serve = corymb(&["serve", "--host", "127.0.0.1", "--port", "0", "--model-dir", &uri, "--cache"]);
    let mut serve = serve.arg(cache.path()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let begun = Instant::now();
    while store.delivered() < 50_000 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the download has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").arg("-TERM").arg(serve.id().to_string()).status().expect("kill runs");
    assert!(sent.success());
    while serve.try_wait().expect("known").is_none() {
        assert!(store.delivered() < 3_000_000, "the download goes on after the signal to stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = serve.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("stopped before the models were there"), "{}", said(&output));
    assert_eq!(blobs(cache.path()), 0);
}

#[test]
fn who_listens_early_does_so_while_models_are_downloaded() {
    // A long text of documentation, as the format's field 6, makes a download that lasts until it is let go.
    let model = [identity(), vec![0x32, 0x80, 0x89, 0x7a], vec![b'a'; 2_000_000]].concat();
    let store = Store::start(&[("m/slow.onnx", &model)]);
    store.limit_rate(20_000);
    let cache = cache();
    let (uri, folder) = (store.url("m/slow.onnx"), cache.path().display().to_string());
    let server = Server::start_until(&["--listen-early", "--model-dir", &uri, "--cache", &folder], &[], "listening");
    assert_eq!(server.get("/v2/health/live").status, 200);
    assert_eq!(server.get("/v2/health/ready").status, 503);
    assert_eq!(server.get("/v2/models/slow").status, 503, "nobody knows yet whether there is such a model");
    store.limit_rate(0);
    server.event(|event| event["message"] == "serving");
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.get("/v2/models/slow").status, 200);
    assert_eq!(server.get("/v2/models/other").status, 404);
}
