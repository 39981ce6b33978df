//! The parts of a traced request as spans, through the OpenTelemetry API. A request that is not traced makes none.
//!
//! What a request belongs to is the current context of the thread that works for it; the server sets it, and [`in_span`]
//! carries it along. The tree is: the server's span, below it decode, `predict` and encode; below `predict` queue,
//! preprocess, infer and postprocess; below a plugin's half what it asks of other models.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanBuilder, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, global};
use pin_project_lite::pin_project;

use crate::pool::Stage;

pin_project! {
    /// See [`in_span`].
    #[derive(Debug)]
    pub struct InSpan<F> {
        span: Option<Context>,
        #[pin]
        future: F,
    }
}

/// Polls `future` with `span` as its thread's current context; without a span, as it is. Not an `async fn`: that would
/// hold its argument twice, and these wrappers nest.
pub fn in_span<F: Future>(span: Option<Context>, future: F) -> InSpan<F> {
    InSpan { span, future }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _current = this.span.as_ref().map(|span| span.clone().attach());
        this.future.poll(task)
    }
}

/// Where the spans of one request go, if it is traced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(Option<Context>);

impl Spans {
    /// What the thread works for now.
    pub(crate) fn current() -> Self {
        Self(Context::map_current(|context| context.has_active_span().then(|| context.clone())))
    }

    pub(crate) fn context(&self) -> Option<Context> {
        self.0.clone()
    }

    /// A stage that has just ended, after `time`.
    pub(crate) fn ended(&self, stage: Stage, time: Duration) {
        let Some(parent) = &self.0 else { return };
        let end = SystemTime::now();
        let start = end.checked_sub(time).unwrap_or(end);
        start_below(parent, SpanBuilder::from_name(stage.name()).with_start_time(start)).span().end_with_timestamp(end);
    }

    fn begin(&self, span: impl FnOnce() -> SpanBuilder) -> Self {
        Self(self.0.as_ref().map(|parent| start_below(parent, span())))
    }

    fn end(&self, error: Option<&dyn std::fmt::Display>) {
        let Some(context) = &self.0 else { return };
        let span = context.span();
        if let Some(error) = error {
            span.set_status(Status::error(error.to_string()));
        }
        span.end();
    }
}

fn start_below(parent: &Context, span: SpanBuilder) -> Context {
    // The tracer is looked up for traced requests only, which are few.
    parent.with_span(global::tracer("corymb").build_with_context(span, parent))
}

/// Does `work` as a span that others can be below of. The work is made here, so that it is held once.
pub(crate) async fn as_span<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    span: impl FnOnce() -> SpanBuilder,
    work: impl FnOnce() -> F,
) -> Result<T, E> {
    let span = Spans::current().begin(span);
    let result = in_span(span.context(), work()).await;
    span.end(result.as_ref().err().map(|error| error as _));
    result
}

/// As [`as_span`], for a stage. Not an `async fn`, for the reason of [`in_span`].
pub(crate) fn stage<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    stage: Stage,
    work: impl FnOnce() -> F,
) -> impl Future<Output = Result<T, E>> {
    as_span(move || SpanBuilder::from_name(stage.name()), work)
}
