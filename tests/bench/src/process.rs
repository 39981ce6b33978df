//! Processes: the server as a child that is always ended, and what `/proc` says of it and of ourselves.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use crate::backends;

/// A server that is not up by then will never be.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of the log for the case that the server does not come up.
const MAX_LOG: usize = 64 << 10;

/// The kernel's unit of times in `/proc/PID/stat`: `USER_HZ`, 100 on x86 and Arm.
const TICK: Duration = Duration::from_millis(10);

/// What the server says when it is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartLine {
    pub(crate) address: SocketAddr,
    pub(crate) milliseconds_to_ready: u64,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    started: Receiver<Result<StartLine, String>>,
}

impl Server {
    /// `corymb serve` on `port` of this machine, 0 for any, with its cache below `cache` and no other variables than
    /// those by which ONNX Runtime's library is found.
    pub(crate) fn start(binary: &Path, port: u16, cache: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.args(["serve", "--host", "127.0.0.1", "--log-format", "json", "--port"]).arg(port.to_string());
        command.args(arguments).env_clear().env("XDG_CACHE_HOME", cache);
        command.envs(backends::LIBRARY_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        let (sender, started) = channel();
        let mut server = Self { child, started };
        let stderr = server.child.stderr.take().context("the server's log is not a pipe")?;
        std::thread::spawn(move || follow(stderr, &sender));
        Ok(server)
    }

    /// Waits until the server is up.
    pub(crate) fn ready(&self) -> anyhow::Result<StartLine> {
        match self.started.recv_timeout(START_LIMIT) {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(log)) => anyhow::bail!("the server ended before it was up; its log:\n{log}"),
            Err(_) => anyhow::bail!(
                "the server has not said that it is up after {START_LIMIT:?}; it says so at log level info"
            ),
        }
    }

    /// Whether the process is still there.
    pub(crate) fn runs(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait().context("look after the server")?.is_none())
    }

    /// CPU time of all threads so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.child.id())
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        Memory::of(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log to its end, so that the server never waits for the pipe; tells of the start line, or of its absence.
fn follow(stderr: ChildStderr, started: &Sender<Result<StartLine, String>>) {
    let mut reader = BufReader::with_capacity(1 << 16, stderr);
    let (mut log, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            let _ = started.send(Err(log));
            return;
        }
        if let Some(start) = start_line(&line) {
            let _ = started.send(Ok(start));
            break;
        }
        if log.len() < MAX_LOG {
            log.push_str(&line);
        }
    }
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
}

fn start_line(line: &str) -> Option<StartLine> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event["message"] != "serving" {
        return None;
    }
    let milliseconds_to_ready = event["milliseconds_to_ready"].as_u64()?;
    Some(StartLine { address: event["address"].as_str()?.parse().ok()?, milliseconds_to_ready })
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    cpu("self")
}

/// CPU time of another process so far.
pub(crate) fn cpu_of(process: u32) -> anyhow::Result<Duration> {
    cpu(&process.to_string())
}

/// User and system time of a process, its threads included.
fn cpu(process: &str) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the program's name in parentheses, which may hold anything; then come state, parent, …
    let (_, fields) = stat.rsplit_once(')').with_context(|| format!("{path} is not as expected"))?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let ticks = ticks.sum::<Result<u32, _>>().with_context(|| format!("{path} is not as expected"))?;
    Ok(TICK * ticks)
}

/// What a process holds, in KiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// Resident pages.
    pub(crate) resident_kib: u64,
    /// Of these, the heap and stacks.
    pub(crate) anonymous_kib: u64,
    /// Of these, mapped files, the program's own code and data among them: reclaimable.
    pub(crate) file_kib: u64,
    /// The most that was ever resident.
    pub(crate) peak_kib: u64,
}

impl Memory {
    fn of(process: &str) -> anyhow::Result<Self> {
        let path = format!("/proc/{process}/status");
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let kib = |key: &str| {
            let line = status.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
            let value = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
            value.with_context(|| format!("{path} has no {key}"))
        };
        Ok(Self {
            resident_kib: kib("VmRSS")?,
            anonymous_kib: kib("RssAnon")?,
            file_kib: kib("RssFile")?,
            peak_kib: kib("VmHWM")?,
        })
    }
}
