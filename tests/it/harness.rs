//! Starts the binary, waits for its start line, speaks HTTP to it, reads its log, stops it.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use crate::group::ControlGroup;

/// Nothing that a test waits for takes longer on a machine that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// A command that has not ended by then never will.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

/// The model's folder that the binary has inside.
pub(crate) fn flowers() -> PathBuf {
    root().join("deploy/models/flowers")
}

/// A picture that the project owns.
pub(crate) fn picture() -> Vec<u8> {
    std::fs::read(flowers().join("warmup/image_bytes.jpg")).expect("the warm-up sample")
}

/// Says why a test has nothing to do here. Under `CI` that is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing under CI: {reason}");
    eprintln!("skipped: {reason}");
}

/// A control group of so many bytes and, where they are given, so many cores.
pub(crate) fn control_group(bytes: u64, cores: Option<u32>) -> Option<ControlGroup> {
    ControlGroup::new(bytes, cores).map_err(|reason| skip(&reason)).ok()
}

/// A virtual environment that holds the wheel `onnxruntime`: `CORYMB_TEST_ONNXRUNTIME`, else `VIRTUAL_ENV`.
pub(crate) fn onnxruntime_environment() -> Option<String> {
    let found = ["CORYMB_TEST_ONNXRUNTIME", "VIRTUAL_ENV"].into_iter().find_map(|name| {
        let prefix = std::env::var(name).ok()?;
        onnxruntime_library(Path::new(&prefix)).map(|_| prefix)
    });
    if found.is_none() {
        skip("no virtual environment with the package onnxruntime: name one by CORYMB_TEST_ONNXRUNTIME");
    }
    found
}

/// The library in a virtual environment.
pub(crate) fn onnxruntime_library(prefix: &Path) -> Option<PathBuf> {
    let pythons = prefix.join("lib").read_dir().ok()?.flatten();
    let folders = pythons.map(|python| python.path().join("site-packages/onnxruntime/capi"));
    let files = folders.filter_map(|folder| folder.read_dir().ok()).flatten().flatten().map(|file| file.path());
    let mut libraries = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libonnxruntime.so") || name.starts_with("libonnxruntime.1")
    });
    libraries.next()
}

/// A daisy in the form of the KFServing sample's request file: its names, its key with three blanks.
pub(crate) fn sample_request() -> Vec<u8> {
    let picture = base64::engine::general_purpose::STANDARD.encode(picture());
    format!(r#"{{"instances":[{{"image_bytes":{{"b64":"{picture}"}},"key":"   1"}}]}}"#).into_bytes()
}

/// Sets a flag when it is dropped, after a panic too: threads that run until it is set end with the test.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a std::sync::atomic::AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A command of the binary, in a world of its own: no variables but these, a cache that the tests share.
pub(crate) fn corymb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corymb"));
    isolated(&mut command).args(arguments);
    command
}

/// Corymb without arguments yet, in place of a shell that runs these commands before.
pub(crate) fn corymb_after(commands: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{commands} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_corymb")]);
    isolated(&mut command);
    command
}

/// The commands that have another user, who owns nothing, run Corymb, by way of `through`; none where this user may not do so. Limits
/// count all that a user runs, so each test has one of its own.
pub(crate) fn as_a_stranger(user: u32, through: &str) -> Option<String> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        skip("only root can run a program as another user");
    }
    // By a descriptor: the other user may have no way to the file.
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !has("setpriv") || !has("prlimit") {
        skip("no setpriv or prlimit (util-linux)");
        return None;
    }
    let user = format!("setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs");
    is_root.then(|| format!("exec 3<\"$0\" && exec {through} {user} /proc/self/fd/3 \"$@\""))
}

fn isolated(command: &mut Command) -> &mut Command {
    command.env_clear().env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null())
}

const SERVE: [&str; 7] = ["serve", "--host", "127.0.0.1", "--port", "0", "--log-format", "json"];

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    run_command(corymb(arguments))
}

/// The same with what was set for it.
pub(crate) fn run_command(mut command: Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let (stdout, stderr) = (drained(child.stdout.take()), drained(child.stderr.take()));
    let until = Instant::now() + COMMAND_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
        if Instant::now() > until {
            child.kill().expect("killed");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = |reader: JoinHandle<Vec<u8>>| reader.join().expect("what it wrote");
    Output { status, stdout: text(stdout), stderr: text(stderr) }
}

fn drained(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut stream = stream.expect("a pipe");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read to its end");
        bytes
    })
}

/// What becomes of a server's log once it is ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Read,
    Unread,
}

/// A running server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<Vec<String>>>,
    /// Behind a lock so that threads of a test may share the server.
    _lines: Mutex<Receiver<String>>,
}

impl Server {
    /// `corymb serve` with these arguments, on a port that the system picks; ready when this returns.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_until(arguments, variables, "serving")
    }

    /// As [`Server::start`], ready when the log says `message`.
    pub(crate) fn start_until(arguments: &[&str], variables: &[(&str, &str)], message: &str) -> Self {
        let mut command = corymb(&SERVE);
        command.args(arguments).envs(variables.iter().copied());
        Self::of(command, message, Log::Read)
    }

    /// As [`Server::start`], whose log nobody reads once it is ready.
    pub(crate) fn start_unread(arguments: &[&str]) -> Self {
        let mut command = corymb(&SERVE);
        command.args(arguments);
        Self::of(command, "serving", Log::Unread)
    }

    /// As [`Server::start_with`], in a control group.
    pub(crate) fn start_in(group: &ControlGroup, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = group.command(env!("CARGO_BIN_EXE_corymb"));
        isolated(&mut command).args(SERVE).args(arguments).envs(variables.iter().copied());
        Self::of(command, "serving", Log::Read)
    }

    /// As [`Server::start`], after commands of the shell, such as `ulimit`.
    pub(crate) fn start_after(commands: &str, arguments: &[&str]) -> Self {
        let mut command = corymb_after(commands);
        command.args(SERVE).args(arguments);
        Self::of(command, "serving", Log::Read)
    }

    fn of(mut command: Command, message: &str, kind: Log) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, lines) = channel();
        let stderr = child.stderr.take().expect("piped");
        std::thread::spawn({
            let (log, wanted) = (Arc::clone(&log), message.to_owned());
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    log.lock().expect("not poisoned").push(line.clone());
                    let is_last = kind == Log::Unread && line.contains(&format!("\"message\":\"{wanted}\""));
                    let _ = sender.send(line);
                    if is_last {
                        // The pipe stays open, and nobody reads it.
                        loop {
                            std::thread::park();
                        }
                    }
                }
            }
        });
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server did not come up; its log: {:#?}", log.lock().expect("not poisoned"));
            };
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                // Only the lines of a listening server name an address.
                let address = event["address"].as_str().unwrap_or_default().to_owned();
                return Self { child, address, log, _lines: Mutex::new(lines) };
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        send(&self.url(path), "GET", &[], &[])
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        send(&self.url(path), "POST", &[("content-type", content_type)], body)
    }

    /// Sends a signal by its name, e.g. `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().expect("kill runs");
        assert!(sent.success(), "the process is there");
    }

    /// The events of the log so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let log = self.log.lock().expect("not poisoned");
        log.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }

    /// Waits for an event of the log.
    pub(crate) fn event(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(event) = self.events().into_iter().find(&wanted) {
                return event;
            }
            assert!(Instant::now() < deadline, "no such event in {:#?}", self.events());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end of the process; answers its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server did not end; its log: {:#?}", self.events());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of `{"error": …}`; the body must have no other member.
    pub(crate) fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{json}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        json["error"].as_str().expect("a text").to_owned()
    }
}

/// An HTTP client that does not make errors of statuses.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT));
    config.max_redirects(0).build().into()
}

/// One request on a connection of its own.
pub(crate) fn send(url: &str, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_send(&agent(), url, method, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

pub(crate) fn try_send(
    agent: &ureq::Agent,
    url: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, ureq::Error> {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_vec()).expect("valid");
    let request = agent.configure_request(request).allow_non_standard_methods(true).build();
    let (parts, answer) = agent.run(request)?.into_parts();
    let mut bytes = Vec::new();
    answer.into_reader().take(1 << 30).read_to_end(&mut bytes).map_err(ureq::Error::Io)?;
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Ok(Answer { status: parts.status.as_u16(), headers: headers.collect(), body: bytes })
}

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("created");
        std::fs::write(path, content).expect("written");
    }
    root
}

/// A copy of the flowers model's folder, to be damaged.
pub(crate) fn flowers_copy() -> tempfile::TempDir {
    let read = |name: &str| std::fs::read(flowers().join(name)).expect(name);
    let names = ["model.toml", "model.onnx", "labels.txt", "flowers.wasm", "warmup/image_bytes.jpg"];
    let files = names.map(|name| (name, read(name)));
    folder(&files.each_ref().map(|(name, content)| (*name, content.as_slice())))
}
