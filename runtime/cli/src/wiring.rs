//! Which backends, which plugin host, which exporters: the one place that names them.

use std::sync::Arc;

use anyhow::Context as _;
use corymb_backend_onnxruntime::OnnxRuntime;
pub(crate) use corymb_backend_onnxruntime::Search as LibrarySearch;
use corymb_backend_tract::Tract;
use corymb_core::{Backend, PluginHost};
use corymb_engine::{Engine, EngineOptions};
use corymb_plugin_host::Host;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

/// The backends that are compiled in, best first.
pub(crate) fn backends(libraries: LibrarySearch) -> Vec<Arc<dyn Backend>> {
    vec![Arc::new(OnnxRuntime::new(libraries)), Arc::new(Tract::default())]
}

/// What runs and compiles Wasm plugins.
pub(crate) fn plugin_host() -> anyhow::Result<Arc<Host>> {
    Ok(Arc::new(Host::new()?))
}

/// An engine without models.
pub(crate) fn engine(options: EngineOptions, libraries: LibrarySearch) -> anyhow::Result<Engine> {
    let plugins: Arc<dyn PluginHost> = plugin_host()?;
    let meter = opentelemetry::global::meter("corymb");
    Engine::new(options, backends(libraries), Some(plugins), &meter).context("start the compute pool")
}

/// The signals of this process: what records them, and the page that shows them.
pub(crate) struct Signals {
    provider: SdkMeterProvider,
    registry: Registry,
}

impl Signals {
    /// Makes every instrument of this process, from here on, record.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .context("start the Prometheus page")?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        opentelemetry::global::set_meter_provider(provider.clone());
        Ok(Self { provider, registry })
    }

    /// Renders the Prometheus page.
    pub(crate) fn page(&self) -> corymb_server::MetricsPage {
        let registry = self.registry.clone();
        Arc::new(move || match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "the metrics page could not be rendered");
                String::new()
            }
        })
    }

    /// Hands over what has been recorded. The last thing that a stopping process does.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "metrics could not be flushed");
        }
    }
}
