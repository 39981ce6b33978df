//! One fresh instance of a plugin: made for a request, configured, called, dropped with everything it touched.

use std::sync::Arc;
use std::time::Duration;

use corymb_core::{Heartbeat, MemoryPool, PluginError, Tensors};
use wasmtime::component::Linker;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::bindings::{
    self, Carry, NamedTensor, Orchestrator, OrchestratorPre, images, inference, logging, metrics, types,
};
use crate::limits::{HANDLES, HOSTCALL_BYTES, MAX_DETAILS, MAX_MESSAGE, Memory, Stop, cut};
use crate::pool::{Held, Pool};
use crate::state::{Call, Identity, State};
use crate::tensors;

/// Everything a plugin may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    type Own = wasmtime::component::HasSelf<State>;
    let mut linker = Linker::new(engine);
    types::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    tensors::add_to_linker(&mut linker)?;
    images::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    inference::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    logging::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    metrics::add_to_linker::<_, Own>(&mut linker, |state| state)?;
    Ok(linker)
}

/// What it takes to make instances of one loaded plugin.
pub(crate) struct Template {
    pub(crate) identity: Arc<Identity>,
    pub(crate) component: OrchestratorPre<State>,
    /// The manifest's `[plugin.config]` as JSON.
    pub(crate) config: String,
    pub(crate) model: Option<bindings::Model>,
    /// Bytes of linear memory that one instance may have.
    pub(crate) memory: usize,
    /// What all instances take memory from.
    pub(crate) shared: MemoryPool,
    pub(crate) pool: Arc<Pool<Instance>>,
    pub(crate) ticker: Heartbeat,
}

/// A configured instance, used by one request.
pub(crate) struct Instance {
    store: Store<State>,
    exports: Orchestrator,
    ticker: Heartbeat,
}

/// What `preprocess` answered, taken out of the instance.
pub(crate) enum Step {
    Run { inputs: Tensors, carry: Vec<u8>, carried: Tensors },
    Answer(bindings::Response, Tensors),
}

type Answered<T> = Result<Result<T, bindings::Error>, PluginError>;

impl Template {
    /// A configured instance for `call`, and what `configure` answered.
    pub(crate) async fn instance(&self, call: Call) -> Result<(Held<Instance>, bindings::Description), PluginError> {
        // Nothing is begun for a request that is late or gone already.
        call.check().map_err(|stop| self.identity.stopped(stop))?;
        let exhausted = || PluginError::Exhausted { plugin: self.identity.plugin.clone() };
        let permit = self.pool.acquire().ok_or_else(exhausted)?;
        let memory = Memory::new(self.memory, &self.shared);
        let mut store = Store::new(self.component.engine(), State::new(Arc::clone(&self.identity), call, memory));
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|store| {
            let State { call, configuring, .. } = store.data();
            call.check()?;
            // Whoever has waited longer goes first. What is being configured waits for nothing.
            Ok(if *configuring { UpdateDeadline::Continue(1) } else { UpdateDeadline::Yield(1) })
        });
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        // Besides the tensors' own handles there are those that are only lent for a call.
        store.set_max_component_handles(2 * HANDLES);
        let active = self.ticker.enter();
        let exports = self.component.instantiate_async(&mut store).await;
        let exports = exports.map_err(|error| self.identity.fault(&error))?;
        let mut instance = Instance { store, exports, ticker: self.ticker.clone() };
        let transform = instance.exports.corymb_plugin_transform();
        let configured = transform.call_configure(&mut instance.store, &self.config, self.model.as_ref()).await;
        drop(active);
        let description = configured
            .map_err(|error| self.identity.fault(&error))?
            .map_err(|error| PluginError::Answered(bindings::error_of(error)))?;
        instance.store.data_mut().configuring = false;
        Ok((permit.hold(instance), description))
    }
}

impl Instance {
    /// Starts another call of the same request.
    pub(crate) fn resume(&mut self, call: Call) {
        self.store.data_mut().call = call;
    }

    pub(crate) async fn preprocess(&mut self, request: &corymb_core::Request, inputs: Tensors) -> Answered<Step> {
        let identity = Arc::clone(&self.store.data().identity);
        let called = self.call_preprocess(request, inputs).await;
        called.map_err(|error| identity.fault(&error))
    }

    async fn call_preprocess(
        &mut self,
        request: &corymb_core::Request,
        inputs: Tensors,
    ) -> wasmtime::Result<Result<Step, bindings::Error>> {
        self.store.set_epoch_deadline(1);
        let millis = |left: Duration| u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let request = bindings::Request {
            id: request.id.clone(),
            model: request.model.clone(),
            parameters: bindings::parameters_to(&request.parameters),
            inputs: self.store.data_mut().push_all(inputs)?,
            deadline: request.remaining().map(millis),
        };
        let active = self.ticker.enter();
        let transform = self.exports.corymb_plugin_transform();
        let step = transform.call_preprocess(&mut self.store, &request).await?;
        drop(active);
        let step = match step {
            Ok(step) => step,
            Err(error) => return Ok(Err(error)),
        };
        let state = self.store.data_mut();
        Ok(Ok(match step {
            bindings::Step::Run(prepared) => Step::Run {
                inputs: state.take_all(prepared.inputs)?,
                carry: prepared.carry.bytes,
                carried: state.take_all(prepared.carry.tensors)?,
            },
            bindings::Step::Answer(mut response) => {
                let outputs = state.take_all(std::mem::take(&mut response.outputs))?;
                Step::Answer(response, outputs)
            }
        }))
    }

    pub(crate) async fn postprocess(
        &mut self,
        outputs: Tensors,
        carry: Vec<u8>,
        carried: Tensors,
    ) -> Answered<(bindings::Response, Tensors)> {
        let identity = Arc::clone(&self.store.data().identity);
        let called = self.call_postprocess(outputs, carry, carried).await;
        called.map_err(|error| identity.fault(&error))
    }

    async fn call_postprocess(
        &mut self,
        outputs: Tensors,
        carry: Vec<u8>,
        carried: Tensors,
    ) -> wasmtime::Result<Result<(bindings::Response, Tensors), bindings::Error>> {
        self.store.set_epoch_deadline(1);
        let state = self.store.data_mut();
        let outputs: Vec<NamedTensor> = state.push_all(outputs)?;
        let carry = Carry { bytes: carry, tensors: state.push_all(carried)? };
        let active = self.ticker.enter();
        let transform = self.exports.corymb_plugin_transform();
        let response = transform.call_postprocess(&mut self.store, &outputs, &carry).await?;
        drop(active);
        let mut response = match response {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        let outputs = self.store.data_mut().take_all(std::mem::take(&mut response.outputs))?;
        Ok(Ok((response, outputs)))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let state = self.store.data();
        state.identity.telemetry.memory_used(state.memory.used());
    }
}

impl Identity {
    /// What an error of a call means: the host's own reason for stopping it, or the guest's trap.
    pub(crate) fn fault(&self, error: &wasmtime::Error) -> PluginError {
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return self.stopped(stop.clone());
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return PluginError::Exhausted { plugin: self.plugin.clone() };
        }
        // Wasmtime's own limits have no types of their own.
        let reason = error.root_cause().to_string();
        if reason.contains("fuel allocated for hostcalls") {
            return self.stopped(Stop::Limit(format!("{HOSTCALL_BYTES} bytes in one call of the host")));
        }
        if reason.contains("store handle limit") {
            return self.stopped(Stop::Limit(format!("more than {} handles at once", 2 * HANDLES)));
        }
        if format!("{error:#}").contains("mmap failed to reserve") {
            let what = "addresses for its memory, of which 4 GiB are set aside; raise `ulimit -v`";
            return self.stopped(Stop::Limit(what.to_owned()));
        }
        self.telemetry.trapped();
        PluginError::Trap { plugin: self.plugin.clone(), details: cut(format!("{error:?}"), MAX_DETAILS) }
    }

    /// The error of a call that the host stopped.
    pub(crate) fn stopped(&self, stop: Stop) -> PluginError {
        let plugin = self.plugin.clone();
        match stop {
            Stop::Deadline(limit) => {
                self.telemetry.limit_met();
                PluginError::Deadline { plugin, limit }
            }
            Stop::Cancelled => PluginError::Cancelled,
            Stop::Limit(what) => {
                self.telemetry.limit_met();
                PluginError::Limit { plugin, what }
            }
            Stop::Memory(shortage) => PluginError::Memory { plugin, shortage },
            Stop::Contract(what) => PluginError::Contract { plugin, what: cut(what, MAX_MESSAGE) },
        }
    }
}
