//! What the host keeps for one instance: its tensors, the call in progress, and what is left of its budgets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corymb_core::{CancelFlag, Models, Request, Tensor, Tensors};
use wasmtime::component::{Resource, ResourceTable};

use crate::bindings::{Error, ErrorCode, NamedTensor, refusal};
use crate::host_tensor::HostTensor;
use crate::limits::{HANDLES, LOG_LINES, Memory, Stop, TENSOR_BYTES};
use crate::telemetry::Telemetry;

/// No call is given more, whatever the settings say, so that its end can be computed.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What all instances of one loaded plugin share.
pub(crate) struct Identity {
    /// The plugin's name.
    pub(crate) plugin: String,
    /// The model that it wraps or is.
    pub(crate) model: String,
    pub(crate) models: Arc<dyn Models>,
    pub(crate) telemetry: Telemetry,
}

/// One request on its way through a plugin: how long, for whom, how deep.
#[derive(Clone)]
pub(crate) struct Call {
    /// Time that this call was given.
    limit: Duration,
    /// When it is over.
    pub(crate) until: Instant,
    /// The request's own deadline.
    pub(crate) deadline: Option<Instant>,
    cancel: CancelFlag,
    /// As [`Request::depth`].
    pub(crate) depth: u8,
    /// Time that every call of this request may take where the deadline is not nearer.
    timeout: Duration,
}

impl Call {
    /// The first call for `request`.
    pub(crate) fn of(request: &Request, timeout: Duration) -> Self {
        Self::new(request.deadline, request.cancel.clone(), request.depth, timeout)
    }

    /// A call that no request asked for: `configure` when the plugin is loaded.
    pub(crate) fn at_load(timeout: Duration) -> Self {
        Self::new(None, CancelFlag::new(), 0, timeout)
    }

    /// The next call for the same request.
    pub(crate) fn next(&self) -> Self {
        Self::new(self.deadline, self.cancel.clone(), self.depth, self.timeout)
    }

    fn new(deadline: Option<Instant>, cancel: CancelFlag, depth: u8, timeout: Duration) -> Self {
        let now = Instant::now();
        let limit = deadline.map_or(timeout, |deadline| timeout.min(deadline.saturating_duration_since(now)));
        let limit = limit.min(LONGEST);
        Self { limit, until: now + limit, deadline, cancel, depth, timeout }
    }

    /// Whether the call may go on.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        if Instant::now() >= self.until {
            return Err(Stop::Deadline(self.limit));
        }
        Ok(())
    }
}

/// The data of one instance's store.
pub(crate) struct State {
    pub(crate) identity: Arc<Identity>,
    pub(crate) call: Call,
    pub(crate) memory: Memory,
    /// Lines that may still be logged.
    pub(crate) log_lines: u32,
    /// Whether it is still to be configured, which must not depend on other models.
    pub(crate) configuring: bool,
    table: ResourceTable,
    tensor_bytes: usize,
}

impl State {
    pub(crate) fn new(identity: Arc<Identity>, call: Call, memory: Memory) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self { identity, call, memory, log_lines: LOG_LINES, configuring: true, table, tensor_bytes: TENSOR_BYTES }
    }

    /// Takes `bytes` from what the request may still spend on tensors.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        match self.tensor_bytes.checked_sub(bytes) {
            Some(rest) => {
                self.tensor_bytes = rest;
                Ok(())
            }
            None => {
                self.identity.telemetry.limit_met();
                let rest = self.tensor_bytes;
                let message = format!("a tensor of {bytes} bytes; {rest} of {TENSOR_BYTES} are left to this request");
                Err(refusal(ErrorCode::TooLarge, message))
            }
        }
    }

    /// Bytes that the request may still spend on tensors.
    pub(crate) fn tensor_bytes_left(&self) -> usize {
        self.tensor_bytes
    }

    /// A new handle.
    pub(crate) fn push(&mut self, tensor: impl Into<HostTensor>) -> Result<Resource<HostTensor>, Stop> {
        let full = |_| Stop::Limit(format!("more than {HANDLES} tensor handles at once"));
        self.table.push(tensor.into()).map_err(full)
    }

    /// Handles for tensors that the guest receives.
    pub(crate) fn push_all(&mut self, tensors: Tensors) -> Result<Vec<NamedTensor>, Stop> {
        tensors.into_iter().map(|(name, tensor)| Ok(NamedTensor { name, tensor: self.push(tensor)? })).collect()
    }

    pub(crate) fn get(&self, handle: &Resource<HostTensor>) -> wasmtime::Result<&HostTensor> {
        Ok(self.table.get(handle)?)
    }

    pub(crate) fn get_mut(&mut self, handle: &Resource<HostTensor>) -> wasmtime::Result<&mut HostTensor> {
        Ok(self.table.get_mut(handle)?)
    }

    /// Takes over a tensor whose handle the guest gave up.
    pub(crate) fn take(&mut self, handle: Resource<HostTensor>) -> wasmtime::Result<Tensor> {
        Ok(self.table.delete(handle)?.share()?)
    }

    /// Takes over named tensors that the guest handed to the host.
    pub(crate) fn take_all(&mut self, tensors: Vec<NamedTensor>) -> wasmtime::Result<Tensors> {
        let mut taken = Tensors::new();
        for named in tensors {
            taken.push(named.name, self.take(named.tensor)?);
        }
        Ok(taken)
    }

    /// The guest dropped a handle.
    pub(crate) fn forget(&mut self, handle: Resource<HostTensor>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
