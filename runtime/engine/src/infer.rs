//! One request from start to end.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use corymb_core::{CancelFlag, Plugin, PluginError, Request, Response, Step, Tensors};

use crate::batch::Run;
use crate::error::EngineError;
use crate::pool::Stage;
use crate::shared::Shared;
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

    let (id, wanted, deadline) = (request.id.clone(), request.outputs.clone(), request.deadline);
    let _cancel = CancelOnDrop(request.cancel.clone());
    let mut response = match &version.plugin {
        None => {
            let run = Run { inputs: request.inputs, outputs: request.outputs, cancel: request.cancel };
            let outputs = by(deadline, model, "inference", run_model(version, run)).await?;
            Response { outputs, ..Response::default() }
        }
        Some(plugin) => {
            let cancel = request.cancel.clone();
            let step = by(deadline, model, "preprocessing", preprocess(shared, version, plugin, request)).await?;
            match step {
                Step::Answer(response) => response,
                Step::Run { inputs, rest } => {
                    let run = Run { inputs, outputs: Vec::new(), cancel };
                    let outputs = by(deadline, model, "inference", run_model(version, run)).await?;
                    let finish = rest.postprocess(outputs);
                    let work = on_pool(shared, version, Stage::Postprocess, finish);
                    by(deadline, model, "postprocessing", work).await?
                }
            }
        }
    };
    if !wanted.is_empty() {
        // In the order in which they were asked for.
        let mut all = std::mem::take(&mut response.outputs);
        response.outputs =
            wanted.into_iter().filter_map(|name| all.remove(&name).map(|tensor| (name, tensor))).collect();
    }
    Ok(Response { id, model: model.clone(), version: version.version.clone(), ..response })
}

/// Limits a stage to the request's deadline.
async fn by<T>(
    deadline: Option<Instant>,
    model: &str,
    stage: &'static str,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let Some(deadline) = deadline else { return work.await };
    let late = || EngineError::DeadlineExceeded { model: model.to_owned(), stage };
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(late()))
}

async fn preprocess(
    shared: &Shared,
    version: &Arc<Version>,
    plugin: &Arc<dyn Plugin>,
    request: Request,
) -> Result<Step, EngineError> {
    let plugin = Arc::clone(plugin);
    on_pool(shared, version, Stage::Preprocess, async move { plugin.preprocess(request).await }).await
}

async fn run_model(version: &Version, run: Run) -> Result<Tensors, EngineError> {
    match &version.queue {
        Some(queue) => queue.run(run).await,
        None => Err(EngineError::Internal {
            model: Some(version.model.clone()),
            details: "the plugin stands alone but asked to run a model".to_owned(),
        }),
    }
}

/// Polls a plugin's future on the compute pool, and records the time from its first poll to its end.
async fn on_pool<T: Send + 'static>(
    shared: &Shared,
    version: &Arc<Version>,
    stage: Stage,
    work: impl Future<Output = Result<T, PluginError>> + Send + 'static,
) -> Result<T, EngineError> {
    let timed = async move {
        let begin = Instant::now();
        let result = work.await;
        (result, begin.elapsed())
    };
    match shared.pool.run(stage, timed).await {
        Ok((result, time)) => {
            version.signals.stage(stage, time);
            result.map_err(|error| plugin_failed(&version.model, error))
        }
        Err(panicked) => {
            tracing::error!(model = version.model, panic = panicked.0, "the plugin host panicked");
            Err(EngineError::Internal { model: Some(version.model.clone()), details: panicked.0 })
        }
    }
}

fn plugin_failed(model: &str, error: PluginError) -> EngineError {
    match error {
        PluginError::Cancelled => EngineError::Cancelled,
        error => EngineError::Plugin { model: model.to_owned(), error },
    }
}

/// Tells running work that nobody waits any more.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
