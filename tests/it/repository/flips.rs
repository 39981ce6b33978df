//! What arrives is compared with what the store states: a proxy turns one bit of every answer that carries a model.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::store::Store;
use super::{cache, listed, pull, said, sha256};

/// Bytes passed on at once.
const PIECE: usize = 64 << 10;

/// A proxy in front of a server.
pub(super) struct Flipping {
    pub(super) address: String,
    flips: Arc<AtomicBool>,
    flipped: Arc<AtomicUsize>,
}

impl Flipping {
    pub(super) fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (flips, flipped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (upstream, shared, count) = (upstream.to_owned(), Arc::clone(&flips), Arc::clone(&flipped));
        // It ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (upstream, flips, flipped) = (upstream.clone(), Arc::clone(&shared), Arc::clone(&count));
                std::thread::spawn(move || converse(&stream, &upstream, &flips, &flipped));
            }
        });
        Self { address, flips, flipped }
    }

    /// A place is fetched as it is, and refused while bits are turned, by the checksum of this name.
    pub(super) fn refuses(&self, uri: &str, variables: &[(&str, &str)], by: &str) {
        let fetch = |flips: bool| {
            let folder = cache();
            self.flips.store(flips, Ordering::SeqCst);
            let mut command = pull(folder.path(), uri, &[]);
            let output = command.envs(variables.iter().copied()).output().expect("the binary runs");
            self.flips.store(false, Ordering::SeqCst);
            (folder, output)
        };
        let (_, output) = fetch(false);
        assert!(output.status.success(), "{uri}: {}", said(&output));
        let before = self.flipped.load(Ordering::SeqCst);
        let (folder, output) = fetch(true);
        let line = said(&output);
        assert!(self.flipped.load(Ordering::SeqCst) > before, "{uri}: no answer was changed: {line}");
        assert_eq!(output.status.code(), Some(1), "{uri}: {line}");
        assert!(
            line.contains(&format!("model.onnx: its {by} is ")) && line.contains("; the store says "),
            "{uri}: {line}"
        );
        assert!(!listed(folder.path()).contains("model.onnx"), "{uri}: something is kept");
    }
}

/// A request or an answer without its body.
struct Head {
    lines: Vec<String>,
}

impl Head {
    fn read(reader: &mut BufReader<&TcpStream>) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                return Some(Self { lines });
            }
            lines.push(line);
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.lines.iter().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn length(&self) -> usize {
        self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    fn write(&self, mut to: &TcpStream, more: &str) -> std::io::Result<()> {
        to.write_all(format!("{}\r\n{more}\r\n", self.lines.join("\r\n")).as_bytes())
    }
}

/// One request and its answer, after which both connections end.
fn converse(client: &TcpStream, upstream: &str, flips: &AtomicBool, flipped: &AtomicUsize) -> Option<()> {
    let mut requests = BufReader::new(client);
    let mut request = Head::read(&mut requests)?;
    let mut body = vec![0; request.length()];
    requests.read_exact(&mut body).ok()?;
    request
        .lines
        .retain(|line| !["connection:", "host:"].iter().any(|name| line.to_ascii_lowercase().starts_with(name)));
    request.lines.push(format!("Host: {upstream}"));
    let server = TcpStream::connect(upstream).ok()?;
    request.write(&server, "Connection: close\r\n").ok()?;
    (&server).write_all(&body).ok()?;
    let mut answers = BufReader::new(&server);
    let mut answer = Head::read(&mut answers)?;
    answer.lines.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let first = request.lines.first()?;
    // The hub's list of a folder is no content, whatever the folder is called.
    let is_file = first.starts_with("GET") && first.contains("onnx") && !first.contains("/api/");
    let is_content = is_file && answer.lines.first()?.contains(" 20");
    let flip = is_content && flips.load(Ordering::SeqCst);
    answer.write(client, "Connection: close\r\n").ok()?;
    if first.starts_with("HEAD") {
        return None;
    }
    // A body without a length ends with its connection, and chunks begin with their length in a line.
    let mut skip = if answer.header("transfer-encoding").is_some() { 16 } else { 0 };
    let (mut piece, mut done) = (vec![0; PIECE], false);
    loop {
        let read = answers.read(&mut piece).ok()?;
        if read == 0 {
            return None;
        }
        if flip && !done && read > skip {
            piece[skip] ^= 1;
            (done, skip) = (true, 0);
            flipped.fetch_add(1, Ordering::SeqCst);
        }
        (&*client).write_all(&piece[..read]).ok()?;
    }
}

#[test]
fn a_checksum_of_a_web_server_is_compared() {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    let model = super::identity();
    let digest = BASE64_STANDARD.encode(hex(&sha256(&model)));
    for (header, by) in [
        (format!("Digest: SHA-256={digest}"), "sha256"),
        (format!("Repr-Digest: sha-256=:{digest}:"), "sha256"),
        (format!("Repr-Digest: sha-512=:{}:", BASE64_STANDARD.encode(hex(&super::sum("sha512sum", &model)))), "sha512"),
        (format!("X-Checksum-Sha256: {}", sha256(&model)), "sha256"),
    ] {
        let server = plain(&model, &header);
        let proxy = Flipping::before(&server);
        proxy.refuses(&format!("http://{}/m/model.onnx", proxy.address), &[], by);
    }
    // Where nobody says what it is one line does.
    let server = plain(&model, "X-None: 1");
    let uri = format!("m=http://{server}/m/model.onnx");
    let folder = cache();
    let server = crate::harness::Server::start(&["--model", &uri, "--cache", &folder.path().to_string_lossy()]);
    let of = |event: &serde_json::Value| event["message"].as_str().unwrap_or_default().to_owned();
    let said: Vec<String> =
        server.events().iter().map(of).filter(|message| message.starts_with("not checked")).collect();
    assert_eq!(said, ["not checked: the store states no checksum of it, and nobody else does"]);
}

#[test]
fn the_hub_s_files_are_compared_with_what_it_lists() {
    let model = super::identity();
    let object = [format!("blob {}\0", model.len()).as_bytes(), &model].concat();
    let file = crate::harness::folder(&[("x", &object)]);
    let oid = std::process::Command::new("sha1sum").arg(file.path().join("x")).output().expect("coreutils").stdout;
    let oid = String::from_utf8_lossy(&oid).split_whitespace().next().expect("a digest").to_owned();
    let lfs = serde_json::json!({"oid": sha256(&model), "size": model.len(), "pointerSize": 1});
    let entry = |path: &str, large: bool| {
        let mut entry = serde_json::json!({"type": "file", "path": path, "size": model.len(), "oid": oid});
        if large {
            entry["lfs"] = lfs.clone();
        }
        entry
    };
    let info = serde_json::json!({"sha": "c0ffee"}).to_string();
    for (large, by) in [(false, "git"), (true, "sha256")] {
        let below = serde_json::json!([entry("onnx/model.onnx", large)]).to_string();
        let store = Store::start(&[
            ("api/models/o/n/revision/main", info.as_bytes()),
            ("api/models/o/n/tree/c0ffee", below.as_bytes()),
            ("api/models/o/n/tree/c0ffee/onnx", below.as_bytes()),
            ("o/n/resolve/c0ffee/onnx/model.onnx", &model),
        ]);
        let proxy = Flipping::before(&store.address);
        let endpoint = format!("http://{}", proxy.address);
        for uri in ["hf://o/n", "hf://o/n/onnx/model.onnx", &format!("{endpoint}/o/n/resolve/main/onnx/model.onnx")] {
            proxy.refuses(uri, &[("HF_ENDPOINT", endpoint.as_str())], by);
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
}

/// A server with one file, which states one header, and knows no ranges.
fn plain(content: &[u8], header: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (content, header) = (content.to_vec(), header.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            if Head::read(&mut reader).is_some() {
                let head =
                    format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\n{header}\r\nContent-Length: {}\r\n\r\n", content.len());
                let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&content));
            }
        }
    });
    address
}
