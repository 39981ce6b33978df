//! `corymb serve`: configuration, bind, load, listen, serve, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use corymb_engine::{Engine, Live, Seen, Sources};
use corymb_hardware::Hardware;
use corymb_repository::{ModelFolder, Repository};
use corymb_server::Server;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, ServeFlags, environment};
use crate::wiring::{LogBridge, Signals};
use crate::{logs, sources, wiring};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;

/// What is left for models when the server's own drain has used up its time.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Serves until a signal to stop.
pub(crate) fn serve(flags: ServeFlags, start: Instant) -> anyhow::Result<()> {
    let hardware = Hardware::read();
    let config = Config::build(flags, &environment(), &hardware)?;
    let bridge = LogBridge::default();
    let _log = logs::start(config.log_format, &config.log_level, bridge.clone())?;
    for warning in config.warnings.iter().chain(&hardware.notes) {
        tracing::warn!("{warning}");
    }
    let threads = &config.threads;
    tracing::info!(
        cores = threads.cores,
        limited_by = threads.limited_by,
        workers = threads.workers,
        io_threads = threads.io_threads,
        "threads planned"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.io_threads)
        .thread_name("io")
        .enable_all()
        .build()
        .context("start the I/O threads")?;
    let result = runtime.block_on(run(config, &bridge, start));
    // A model that is still loading is not waited for.
    runtime.shutdown_background();
    result
}

async fn run(mut config: Config, bridge: &LogBridge, start: Instant) -> anyhow::Result<()> {
    let stop = StopSignals::listen()?;
    let sockets = bind(&config)?;
    let signals = Signals::start(&config.telemetry, bridge)?;
    config.server.metrics = Some(signals.page());
    config.server.tracing = signals.tracing();
    serve_knative_stats(&config)?;
    let repository = Arc::new(sources::repository(&config.sources)?);
    let mut sources = sources::live(&config.sources, &config.admin_root);
    // What is inside the binary is there at once. Who listens early listens before the other sources have been asked.
    let opened = if config.listen_early && !config.sources.is_empty() {
        None
    } else {
        tokio::select! {
            opened = open(&config, &repository, &sources) => Some(opened?),
            () = stop.first() => {
                tracing::info!("stopped before the models were there");
                return Ok(());
            }
        }
    };
    let libraries = wiring::library_search(&config.sources, &environment());
    let engine = wiring::engine(config.engine.clone(), libraries, config.run_bytes)?;
    let opening = opened.is_none().then(|| engine.opening());
    if let Some((_, folders)) = &opened {
        engine.announce(folders);
        // It was checked when it was opened.
        sources.embedded = folders.first().filter(|_| config.sources.is_empty()).cloned();
    }
    let watched = sources.clone();
    let live = Live::new(engine.clone(), Arc::clone(&repository), sources);
    config.server.admin = config.admin.then(|| live.clone());
    let drain_timeout = config.server.drain_timeout;
    let server = Server::new(engine.clone(), config.server.clone());

    let loading = async {
        let (seen, folders) = match opened {
            Some(opened) => opened,
            None => {
                let opened = open(&config, &repository, &watched).await?;
                engine.announce(&opened.1);
                opened
            }
        };
        drop(opening);
        let served: Vec<String> = folders.iter().map(|folder| folder.name.clone()).collect();
        load(&engine, folders, &config).await?;
        if let Some(period) = config.poll {
            tokio::spawn(async move { live.watch(period, seen, &served).await });
        }
        anyhow::Ok(())
    };
    let drained = if config.listen_early {
        let listeners = listen(sockets)?;
        let addresses = addresses(&listeners)?;
        tracing::info!(address = addresses, "listening; models are loading");
        let serving = server.serve(listeners, stop.first(), stop.second());
        tokio::pin!(serving);
        tokio::select! {
            drained = &mut serving => drained,
            loaded = loading => {
                loaded?;
                announce_ready(&engine, &addresses, start);
                serving.await
            }
        }
    } else {
        tokio::select! {
            loaded = loading => loaded?,
            () = stop.first() => {
                tracing::info!("stopped before the models were ready");
                return Ok(());
            }
        }
        let listeners = listen(sockets)?;
        announce_ready(&engine, &addresses(&listeners)?, start);
        server.serve(listeners, stop.first(), stop.second()).await
    };

    let left = drain_timeout.saturating_sub(drained.took).max(LAST_GRACE);
    engine.shut_down(left).await;
    tracing::info!(requests_cut = drained.cut, milliseconds = drained.took.as_millis() as u64, "stopped");
    signals.flush();
    Ok(())
}

/// Finds the models, downloading what is not here; and what is known of their sources, where these are polled.
async fn open(config: &Config, repository: &Repository, sources: &Sources) -> anyhow::Result<(Seen, Vec<ModelFolder>)> {
    // Before they are opened: what changes in between is seen afterwards.
    let seen = if config.poll.is_some() { Seen::first(repository, sources).await } else { Seen::default() };
    Ok((seen, sources::open(&config.sources, repository, config.admin).await?))
}

/// Knative reads the pod from its first second to its last: this ends with the process.
fn serve_knative_stats(config: &Config) -> anyhow::Result<()> {
    let (Some(address), Some(stats)) = (config.knative_stats, config.server.knative_stats.clone()) else {
        return Ok(());
    };
    let listener = listen(vec![bind_one(address)?])?.swap_remove(0);
    tracing::info!(address = %listener.local_addr()?, "answering Knative's autoscaler");
    tokio::spawn(stats.serve(listener));
    Ok(())
}

/// A taken port fails at once, long before the models are loaded. A bound socket refuses connections until it listens.
fn bind(config: &Config) -> anyhow::Result<Vec<TcpSocket>> {
    std::iter::once(config.listen).chain(config.second).map(bind_one).collect()
}

fn bind_one(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok::<_, std::io::Error>(socket)
    };
    bound().with_context(|| format!("listen on {address}"))
}

fn listen(sockets: Vec<TcpSocket>) -> anyhow::Result<Vec<TcpListener>> {
    sockets.into_iter().map(|socket| socket.listen(BACKLOG).context("listen")).collect()
}

fn addresses(listeners: &[TcpListener]) -> anyhow::Result<String> {
    let all = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    Ok(all.collect::<std::io::Result<Vec<_>>>()?.join(", "))
}

/// Loads as many models at a time as there are cores. The first failure ends the start, unless it may go on.
async fn load(engine: &Engine, folders: Vec<ModelFolder>, config: &Config) -> anyhow::Result<()> {
    let keep_going = config.engine.keep_going;
    // Versions of a model stand side by side, ascending.
    let models: Vec<Vec<ModelFolder>> =
        folders.chunk_by(|one, two| one.name == two.name).map(<[ModelFolder]>::to_vec).collect();
    let loads = models.into_iter().map(|folders| async move {
        let name = folders[0].name.clone();
        match engine.update(&name, folders, None).await {
            // The engine has logged the reason; the model stays `failed`.
            Err(_) if keep_going => Ok(()),
            result => result.with_context(|| format!("load model '{name}'")),
        }
    });
    stream::iter(loads).buffer_unordered(config.engine.workers).try_collect().await
}

/// The one line that says the server is up.
fn announce_ready(engine: &Engine, addresses: &str, start: Instant) {
    let models = engine.models().into_iter().map(|model| match engine.describe(&model.name, None) {
        Ok(described) => {
            let backend = if described.backend.is_empty() { "plugin" } else { described.backend };
            format!("{} ({backend}, {})", described.name, described.device)
        }
        Err(_) => format!("{} (failed)", model.name),
    });
    let models = models.collect::<Vec<_>>().join(", ");
    tracing::info!(address = addresses, models, milliseconds_to_ready = start.elapsed().as_millis() as u64, "serving");
}

/// SIGTERM and SIGINT, counted.
struct StopSignals(watch::Receiver<u32>);

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let (count, receiver) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(receiver))
    }

    fn first(&self) -> impl Future<Output = ()> + use<> {
        Self::at_least(self.0.clone(), 1)
    }

    fn second(&self) -> impl Future<Output = ()> + use<> {
        Self::at_least(self.0.clone(), 2)
    }

    async fn at_least(mut receiver: watch::Receiver<u32>, number: u32) {
        // The sender lives as long as the process.
        let _ = receiver.wait_for(|count| *count >= number).await;
    }
}
