//! `h2load` (Debian: `nghttp2-client`) as the load: an event loop in C, which costs less CPU than the servers do.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

/// One request, sent again and again on each connection, the next when the last is answered.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'a str,
    /// HTTP/2 without TLS otherwise.
    pub(crate) http1: bool,
    pub(crate) headers: &'a [(&'a str, String)],
    pub(crate) body: &'a Path,
}

/// What one run found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Answered with a status of 2xx.
    pub(crate) requests: usize,
    /// Of these, per second.
    pub(crate) rate: f64,
}

/// Whether the program is there.
pub(crate) fn check() -> anyhow::Result<()> {
    let version = Command::new("h2load").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = version.is_ok_and(|status| status.success());
    anyhow::ensure!(there, "h2load is not here; Debian has it in the package nghttp2-client");
    Ok(())
}

/// Keeps `connections` requests in flight for a time. With `log`, each request's time is written there, which costs.
pub(crate) fn run(ask: &Ask<'_>, connections: usize, time: Duration, log: Option<&Path>) -> anyhow::Result<Sent> {
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-m", "1", "-c", &connections.to_string()]);
    command.args(["-D", &format!("{}ms", time.as_millis().max(1))]).arg("-d").arg(ask.body);
    if ask.http1 {
        command.arg("--h1");
    }
    for (name, value) in ask.headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    if let Some(log) = log {
        command.arg("--log-file").arg(log);
    }
    command.arg(format!("http://{}{}", ask.address, ask.path));
    let output = command.stdin(Stdio::null()).output().context("run h2load")?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "h2load failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    sent(&text).with_context(|| format!("h2load says:\n{text}"))
}

/// From the summary; an error when a request was not answered with 2xx.
fn sent(summary: &str) -> anyhow::Result<Sent> {
    let line = |start: &str| summary.lines().find_map(|line| line.strip_prefix(start));
    // "requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout"
    let requests = line("requests: ").context("no line of requests")?;
    let number = |word: &str| {
        let part = requests.split(", ").find_map(|part| part.strip_suffix(word)?.trim().parse::<usize>().ok());
        part.with_context(|| format!("no number of {word}"))
    };
    let (done, succeeded) = (number("done")?, number("succeeded")?);
    anyhow::ensure!(done > 0, "no request was answered");
    anyhow::ensure!(succeeded == done && number("errored")? == 0, "not all requests were answered with 2xx");
    // "finished in 1.00s, 1092.00 req/s, 28.34KB/s"
    let finished = line("finished in ").context("no line of the time")?;
    let rate = finished.split(", ").find_map(|part| part.strip_suffix(" req/s")?.parse().ok());
    Ok(Sent { requests: succeeded, rate: rate.context("no rate")? })
}

/// The times of a log of [`run`].
pub(crate) fn latencies(log: &Path) -> anyhow::Result<Vec<Duration>> {
    // Start in microseconds since the epoch, status, microseconds until the end of the answer; by tabulators.
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let time = |line: &str| Some(Duration::from_micros(line.split('\t').nth(2)?.parse().ok()?));
    text.lines().map(|line| time(line).with_context(|| format!("a line of h2load's log: {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        let summary = |succeeded: usize| {
            format!(
                "finished in 1.00s, 1092.50 req/s, 28.34KB/s\n\
                 requests: 12 total, 14 started, 12 done, {succeeded} succeeded, 0 failed, 0 errored, 0 timeout\n"
            )
        };
        let read = sent(&summary(12)).expect("a summary");
        assert_eq!((read.requests, read.rate), (12, 1092.5));
        assert!(sent(&summary(11)).is_err());
        assert!(sent("").is_err());
    }
}
