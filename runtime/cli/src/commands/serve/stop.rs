//! The signals that stop the process, and those that do not.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Has a signal do nothing but a line in the log.
fn ignore(name: &'static str, kind: SignalKind) -> anyhow::Result<()> {
    let mut received = signal(kind).with_context(|| format!("listen for {name}"))?;
    tokio::spawn(async move {
        while received.recv().await.is_some() {
            tracing::info!(signal = name, "the signal has no effect: SIGTERM stops the server");
        }
    });
    Ok(())
}

/// A file has reached the limit of the process, by its number on Linux and the BSDs.
const SIGXFSZ: i32 = 25;

/// SIGTERM, SIGINT and SIGQUIT, counted.
pub(super) struct StopSignals(watch::Receiver<u32>);

impl StopSignals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut quit = signal(SignalKind::quit()).context("listen for SIGQUIT")?;
        // A terminal that closes, and what other servers do at these, must not end this one without a drain.
        ignore("SIGHUP", SignalKind::hangup())?;
        ignore("SIGUSR1", SignalKind::user_defined1())?;
        ignore("SIGUSR2", SignalKind::user_defined2())?;
        // Whoever started this process may have had them ignored, or end it: a process that this one has started is waited for,
        // and memory that may not grow is an error of what wants it.
        drop(signal(SignalKind::child()).context("listen for SIGCHLD")?);
        drop(signal(SignalKind::from_raw(SIGXFSZ)).context("listen for SIGXFSZ")?);
        let (count, receiver) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = quit.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(receiver))
    }

    pub(super) fn first(&self) -> impl Future<Output = ()> + use<> {
        Self::at_least(self.0.clone(), 1)
    }

    pub(super) fn second(&self) -> impl Future<Output = ()> + use<> {
        Self::at_least(self.0.clone(), 2)
    }

    /// The result of `work`; none when the first signal comes before it.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.first() => None,
        }
    }

    async fn at_least(mut receiver: watch::Receiver<u32>, number: u32) {
        // The sender lives as long as the process.
        let _ = receiver.wait_for(|count| *count >= number).await;
    }
}
