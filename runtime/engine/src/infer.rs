//! One request from start to end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use corymb_core::{CancelFlag, PluginError, Request, Response, Step, Tensors};

use crate::batch::{Caller, Run};
use crate::error::EngineError;
use crate::pool::{Panicked, Progress, Stage};
use crate::shared::Shared;
use crate::spans::{self, Spans, in_span};
use crate::version::Version;

/// Plugins may call models whose plugins call models, so many times.
const MAX_DEPTH: u8 = 8;

/// Answers `request` by `version`. Dropping the future cancels what it began.
pub(crate) async fn infer(
    shared: &Arc<Shared>,
    version: &Arc<Version>,
    request: Request,
) -> Result<Response, EngineError> {
    let model = &version.model;
    if request.depth > MAX_DEPTH {
        return Err(EngineError::TooDeep { model: model.clone(), depth: request.depth, max: MAX_DEPTH });
    }
    let unfit = |error| EngineError::Signature { model: model.clone(), error };
    version.signature.check_inputs(&request.inputs).map_err(unfit)?;
    version.signature.check_outputs(request.outputs.iter().map(String::as_str)).map_err(unfit)?;

    let accepted = version.capacity.accept()?;
    let (id, wanted, deadline) = (request.id.clone(), request.outputs.clone(), request.deadline);
    let _cancel = CancelOnDrop(request.cancel.clone());
    let progress = Progress::of(Stage::Queue, priority(version, &request), &version.share);
    let mut answered = pin!(async {
        match &version.plugin {
            // The queue hands the run to a worker, or has the caller make it where that is cheaper.
            None => answer_by_model(version, request).await,
            // Boxed, so that the small model's way stays small: what holds a request is moved from hand to hand.
            Some(_) => Box::pin(answer_by_plugin(shared, version, request, &progress)).await,
        }
    });
    let mut response = match deadline {
        None => answered.as_mut().await?,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), answered.as_mut()).await.unwrap_or_else(|_| {
            Err(EngineError::DeadlineExceeded { model: model.clone(), stage: progress.stage().name() })
        })?,
    };
    drop(accepted);
    if !wanted.is_empty() {
        // In the order in which they were asked for.
        let mut all = std::mem::take(&mut response.outputs);
        response.outputs =
            wanted.into_iter().filter_map(|name| all.remove(&name).map(|tensor| (name, tensor))).collect();
    }
    Ok(Response { id, model: model.clone(), version: version.version.clone(), ..response })
}

/// As Triton counts: 1 is served first, 0 is as good as none.
fn priority(version: &Version, request: &Request) -> u64 {
    request.priority.filter(|priority| *priority > 0).unwrap_or(version.priority)
}

async fn answer_by_model(version: &Version, request: Request) -> Result<Response, EngineError> {
    let priority = priority(version, &request);
    let Request { inputs, outputs, cancel, deadline, .. } = request;
    let run = Run { inputs, outputs, cancel, deadline, priority, spans: Spans::current() };
    let outputs = run_model(version, run, Caller::Other).await?;
    Ok(Response { outputs, ..Response::default() })
}

/// Waits for a worker of the compute pool, within the bounds of the model's queue. One worker does the whole, so that
/// what it has in its caches is used, unless it has to wait in between.
async fn answer_by_plugin(
    shared: &Shared,
    version: &Arc<Version>,
    request: Request,
    progress: &Progress,
) -> Result<Response, EngineError> {
    let place = version.waiting.enter()?;
    let arrived = Instant::now();
    let work = {
        let (version, progress, turn) = (Arc::clone(version), progress.clone(), place.turn());
        let spans = Spans::current();
        async move {
            turn();
            version.signals.stage(Stage::Queue, arrived.elapsed());
            spans.ended(Stage::Queue, arrived.elapsed());
            in_span(spans.context(), wrapped(&version, request, &progress)).await
        }
    };
    let work = shared.pool.run(progress.clone(), work);
    tokio::pin!(work);
    let limit = version.waiting.limits().timeout;
    let result = match tokio::time::timeout(limit, &mut work).await {
        Ok(result) => result,
        Err(_) if progress.stage() == Stage::Queue => return Err(version.waiting.timed_out()),
        // The limit is of waiting: what runs is left to run.
        Err(_) => work.await,
    };
    result.unwrap_or_else(|Panicked(details)| {
        tracing::error!(model = version.model, panic = details, "the plugin host panicked");
        Err(EngineError::Internal { model: Some(version.model.clone()), details })
    })
}

/// Preprocess, model, postprocess.
async fn wrapped(version: &Version, request: Request, progress: &Progress) -> Result<Response, EngineError> {
    let Some(plugin) = &version.plugin else { return answer_by_model(version, request).await };
    progress.enter(Stage::Preprocess);
    let (cancel, deadline, priority) = (request.cancel.clone(), request.deadline, priority(version, &request));
    let worked = Instant::now();
    let step = timed(version, Stage::Preprocess, || plugin.preprocess(request)).await?;
    let (inputs, rest) = match step {
        Step::Answer(response) => return Ok(response),
        Step::Run { inputs, rest } => (inputs, rest),
    };
    let before = worked.elapsed();
    progress.enter(Stage::Infer);
    let run = Run { inputs, outputs: Vec::new(), cancel, deadline, priority, spans: Spans::current() };
    let outputs = run_model(version, run, Caller::Worker).await?;
    progress.enter(Stage::Postprocess);
    let worked = Instant::now();
    let response = timed(version, Stage::Postprocess, || rest.postprocess(outputs)).await;
    version.capacity.plugin_worked(before + worked.elapsed());
    response
}

async fn run_model(version: &Version, run: Run, caller: Caller) -> Result<Tensors, EngineError> {
    match &version.queue {
        Some(queue) => queue.run(run, caller).await,
        None => Err(EngineError::Internal {
            model: Some(version.model.clone()),
            details: "the plugin stands alone but asked to run a model".to_owned(),
        }),
    }
}

async fn timed<T, F: Future<Output = Result<T, PluginError>>>(
    version: &Version,
    stage: Stage,
    work: impl FnOnce() -> F,
) -> Result<T, EngineError> {
    let begin = Instant::now();
    let result = spans::stage(stage, work).await;
    version.signals.stage(stage, begin.elapsed());
    result.map_err(|error| match error {
        PluginError::Cancelled => EngineError::Cancelled,
        error => EngineError::Plugin { model: version.model.clone(), error },
    })
}

/// Tells running work that nobody waits any more.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
