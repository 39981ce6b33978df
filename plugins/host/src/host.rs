//! The plugin host: a component in (compiled before, or now), a checked and configured plugin out.

#[cfg(target_os = "linux")]
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use corymb_core::{
    FileSource, Heartbeat, MemoryPool, Models, Plugin, PluginError, PluginHost, PluginInfo, PluginOptions, Signature,
};
use futures::FutureExt as _;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::artifact::{self, Sha, hex, sha256};
use crate::bindings::model_to;
use crate::cache::{self, Cache};
#[cfg(target_os = "linux")]
use crate::compile::CompileLimits;
use crate::compile::{MAX_COMPONENT, check, check_size, compile, plugin_of, unchecked};
#[cfg(target_os = "linux")]
use crate::compiler::Compiler;
use crate::description::Description;
use crate::engine::{self, WAITING};
use crate::imports;
use crate::instance::{self, Instance, Template};
use crate::limits::{MAX_MESSAGE, TABLE_ELEMENTS, cut};
use crate::plugin::WasmPlugin;
use crate::pool::Pool;
use crate::state::{Call, Identity, State};
use crate::telemetry::InstrumentsByModel;
use crate::ticker;

/// The unit in which Wasm memory grows, in bytes.
const WASM_PAGE: u64 = 64 << 10;

/// Runs Wasm plugins. One per process: it holds the engine and the pool of instances that all plugins share.
pub struct Host {
    engine: Engine,
    linker: Linker<State>,
    pool: Arc<Pool<Instance>>,
    ticker: Heartbeat,
    /// What code for this machine is compatible with.
    compatibility: Sha,
    /// The same for code that any machine of this architecture can run; found out when such code turns up.
    baseline: OnceLock<Option<Sha>>,
    unpooled: Option<String>,
    instruments: InstrumentsByModel,
    #[cfg(target_os = "linux")]
    compiler: Option<Compiler>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    /// Starts the engine, its pool and its clock.
    ///
    /// # Errors
    /// [`PluginError::Load`] when this machine cannot run compiled Wasm.
    pub fn new() -> Result<Self, PluginError> {
        Self::for_workers(1)
    }

    /// As [`Host::new`], with room for as many calls at once as a server with so many workers makes.
    ///
    /// # Errors
    /// As [`Host::new`].
    pub fn for_workers(workers: usize) -> Result<Self, PluginError> {
        let failed =
            |error: &dyn std::fmt::Display| PluginError::Load(format!("cannot start the plugin engine: {error}"));
        let instances = engine::instances(workers);
        let (engine, unpooled) = engine::serving(instances).map_err(|error| failed(&error))?;
        let linker = instance::linker(&engine).map_err(|error| failed(&error))?;
        let ticker = ticker::start(&engine).map_err(|error| failed(&error))?;
        Ok(Self {
            compatibility: engine::compatibility(&engine),
            linker,
            pool: Pool::new(instances as usize, WAITING),
            ticker,
            baseline: OnceLock::new(),
            engine,
            unpooled,
            instruments: InstrumentsByModel::default(),
            #[cfg(target_os = "linux")]
            compiler: None,
        })
    }

    /// Why instances are allocated one by one, where no address space could be had for a pool of them.
    #[must_use]
    pub fn unpooled(&self) -> Option<&str> {
        self.unpooled.as_deref()
    }

    /// Compiles components in processes of their own from now on: this program with `arguments`, with which it
    /// [compiles](crate::compile_apart) within limits.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn compiling_apart(
        mut self,
        arguments: impl Fn(CompileLimits) -> Vec<OsString> + Send + Sync + 'static,
    ) -> Self {
        self.compiler = Some(Compiler(Box::new(arguments)));
        self
    }

    /// The compiled form of a component, to be shipped beside it as `NAME.cwasm`: for any machine of this architecture,
    /// whatever extensions this one has.
    ///
    /// # Errors
    /// [`PluginError::Load`] when it is not a plugin of the contract, imports what it may not, or is too large.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>, PluginError> {
        let engine = engine::baseline().map_err(|error| format!("cannot start the compiler: {error:#}"));
        let compiled = engine.and_then(|engine| compile(&engine, component, check));
        compiled.map_err(|reason| PluginError::Load(cut(reason, MAX_MESSAGE)))
    }

    /// Compiles a plugin into a cache, for machines like this one; returns whether its compiled form was there, or beside it, already.
    ///
    /// # Errors
    /// [`PluginError::Load`] when it is no plugin, or when the cache does not keep it.
    pub fn compile_into(&self, file: &FileSource, cache: &Path, pool: &MemoryPool) -> Result<bool, PluginError> {
        let refused = |reason: String| PluginError::Load(cut(reason, MAX_MESSAGE));
        let (_, was_there) = self.component(file, Some(cache), pool).map_err(refused)?;
        if !was_there && !self.component(file, Some(cache), pool).map_err(refused)?.1 {
            return Err(refused(format!("it was compiled, but cannot be kept in {}", cache.display())));
        }
        Ok(was_there)
    }

    /// The component, and whether its compiled form came from disk.
    fn component(
        &self,
        file: &FileSource,
        cache: Option<&Path>,
        pool: &MemoryPool,
    ) -> Result<(Component, bool), String> {
        let bytes = file.read_up_to(MAX_COMPONENT as u64).map_err(|error| format!("cannot read it: {error}"))?;
        check_size(&bytes)?;
        let digest = sha256(&bytes);
        if let FileSource::Path(path) = file
            && let Some(component) = self.shipped(&path.with_extension("cwasm"), &digest)
        {
            return Ok((component, true));
        }
        let cache = cache.and_then(open_cache);
        let name = format!("{}-{}.cwasm", hex(&digest), hex(&self.compatibility[..8]));
        if let Some(cache) = &cache
            && let Some(component) = self.cached(cache, &name, &digest)
        {
            return Ok((component, true));
        }
        let compiled = self.compiled(&bytes, pool)?;
        let code = artifact::verify(&compiled, &digest, &[self.compatibility]).map_err(|error| error.to_string())?;
        let component = artifact::load(&self.engine, code).map_err(|error| format!("{error:#}"))?;
        if let Some(cache) = &cache
            && let Err(error) = cache.write(&name, &compiled)
        {
            tracing::warn!(name, %error, "cannot store a compiled plugin");
        }
        Ok((component, false))
    }

    #[cfg(target_os = "linux")]
    fn compiled(&self, component: &[u8], pool: &MemoryPool) -> Result<Vec<u8>, String> {
        match &self.compiler {
            Some(compiler) => compiler.compile(component, pool),
            None => compile(&self.engine, component, unchecked),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn compiled(&self, component: &[u8], _: &MemoryPool) -> Result<Vec<u8>, String> {
        compile(&self.engine, component, unchecked)
    }

    /// From beside the component.
    fn shipped(&self, path: &Path, digest: &Sha) -> Option<Component> {
        let file = match cache::read_shipped(path) {
            Ok(file) => file?,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a compiled plugin is not used");
                return None;
            }
        };
        let baseline =
            self.baseline.get_or_init(|| engine::baseline().ok().map(|engine| engine::compatibility(&engine)));
        let compatible = [self.compatibility, baseline.unwrap_or(self.compatibility)];
        self.verified(&file, digest, &compatible, path)
    }

    /// From the cache.
    fn cached(&self, cache: &Cache, name: &str, digest: &Sha) -> Option<Component> {
        match cache.read(name) {
            Ok(file) => self.verified(&file?, digest, &[self.compatibility], Path::new(name)),
            Err(error) => {
                tracing::warn!(name, %error, "a compiled plugin is not used");
                None
            }
        }
    }

    fn verified(&self, file: &[u8], digest: &Sha, compatible: &[Sha], path: &Path) -> Option<Component> {
        let component = match artifact::verify(file, digest, compatible) {
            Ok(code) => artifact::load(&self.engine, code).map_err(|error| error.to_string()),
            Err(mismatch) => Err(mismatch.to_string()),
        };
        match component {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(file = %path.display(), error, "a compiled plugin is not used");
                None
            }
        }
    }

    /// Refuses what no instance could be made of.
    fn check_resources(component: &Component, memory: usize) -> Result<(), String> {
        let Some(required) = component.resources_required() else {
            return Err("it imports core modules, whose size is not known".to_owned());
        };
        let initial = required.max_initial_memory_size.unwrap_or_default().saturating_mul(WASM_PAGE);
        if initial > memory as u64 {
            return Err(format!("it starts with {initial} bytes of memory; {memory} are allowed"));
        }
        let elements = required.max_initial_table_size.unwrap_or_default();
        if elements > TABLE_ELEMENTS as u64 {
            return Err(format!("it starts with {elements} table elements; {TABLE_ELEMENTS} are allowed"));
        }
        Ok(())
    }
}

impl PluginHost for Host {
    fn load(
        &self,
        file: &FileSource,
        options: &PluginOptions,
        model: Option<&Signature>,
        models: Arc<dyn Models>,
    ) -> Result<Box<dyn Plugin>, PluginError> {
        let name = Path::new(&file.name()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let refused = |reason: String| PluginError::Load(cut(format!("plugin {name}: {reason}"), MAX_MESSAGE));
        let started = Instant::now();
        let (component, precompiled) =
            self.component(file, options.cache.as_deref(), &options.pool).map_err(refused)?;
        let load_time = started.elapsed();
        let world = imports::world(&component, &self.engine).map_err(refused)?;
        Self::check_resources(&component, options.memory).map_err(refused)?;
        let component = plugin_of(&component, &self.linker).map_err(refused)?;
        let identity = Identity {
            plugin: name.clone(),
            model: options.model.clone(),
            models,
            telemetry: self.instruments.telemetry(&options.model, &name),
        };
        let template = Template {
            identity: Arc::new(identity),
            component,
            config: options.config.clone(),
            model: model.map(|signature| model_to(&options.model, &options.version, signature)),
            memory: options.memory,
            shared: options.pool.clone(),
            pool: Arc::clone(&self.pool),
            ticker: self.ticker.clone(),
        };
        // `configure` may not wait for anything, so its future is done when it has been polled once.
        let configured = template.instance(Call::at_load(options.call_timeout)).now_or_never();
        let (_, description) = configured.ok_or_else(|| refused("configure waited for something".to_owned()))??;
        let description = Description::new(description, model).map_err(refused)?;
        let millis = u64::try_from(load_time.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(plugin = name, model = options.model, world, precompiled, ms = millis, "plugin loaded");
        let info = PluginInfo { name, world, precompiled, load_time };
        Ok(Box::new(WasmPlugin::new(template, description, info, options.call_timeout)))
    }
}

/// A cache that cannot be trusted is not used; the plugin is compiled then.
fn open_cache(folder: &Path) -> Option<Cache> {
    match Cache::open(folder) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "the folder for compiled plugins is not used");
            None
        }
    }
}
