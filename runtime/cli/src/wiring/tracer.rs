//! Which requests are traced: the sampler, asked before there is a span, and the tracer that starts those that are.

use std::cell::Cell;

use corymb_server::Tracing;
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, SdkTracer, SdkTracerProvider, ShouldSample,
    TracerProviderBuilder,
};

use crate::config::telemetry::{Root, Sampling};

thread_local! {
    /// The trace that the next root span of this thread begins.
    static TRACE: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Lets the server name a trace before its first span is made: the sampler has decided by that name, and the log has it.
#[derive(Debug, Default)]
struct Named(RandomIdGenerator);

impl IdGenerator for Named {
    fn new_trace_id(&self) -> TraceId {
        TRACE.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// Samples by the rule, starts spans in the SDK.
#[derive(Debug)]
pub(super) struct Tracer {
    sampler: Sampler,
    tracer: SdkTracer,
}

/// A provider that records whatever is started: whether it should be is decided before.
pub(super) fn provider() -> TracerProviderBuilder {
    SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_id_generator(Named::default())
}

impl Tracer {
    pub(super) fn new(sampling: Sampling, provider: &SdkTracerProvider) -> Self {
        let root = match sampling.root {
            Root::All => Sampler::AlwaysOn,
            Root::None => Sampler::AlwaysOff,
            Root::Ratio(ratio) => Sampler::TraceIdRatioBased(ratio),
        };
        let sampler = if sampling.parent_based { Sampler::ParentBased(Box::new(root)) } else { root };
        Self { sampler, tracer: provider.tracer("corymb") }
    }
}

impl Tracing for Tracer {
    fn sampled(&self, parent: Option<&SpanContext>, trace: TraceId) -> bool {
        let parent = parent.map(|parent| Context::new().with_remote_span_context(parent.clone()));
        let result = self.sampler.should_sample(parent.as_ref(), trace, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn start(&self, parent: Option<SpanContext>, trace: TraceId, span: SpanBuilder) -> Context {
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => {
                TRACE.set(Some(trace));
                Context::new()
            }
        };
        let span = self.tracer.build_with_context(span, &context);
        context.with_span(span)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceFlags, TraceState};

    use super::*;

    fn tracer(root: Root, parent_based: bool) -> Tracer {
        Tracer::new(Sampling { root, parent_based }, &provider().build())
    }

    fn parent(sampled: bool) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(sampled);
        SpanContext::new(TraceId::from(7), SpanId::from(8), flags, true, TraceState::NONE)
    }

    #[test]
    fn a_parent_decides_where_it_may() {
        let (yes, no) = (parent(true), parent(false));
        assert!(tracer(Root::None, true).sampled(Some(&yes), TraceId::from(7)));
        assert!(!tracer(Root::All, true).sampled(Some(&no), TraceId::from(7)));
        assert!(tracer(Root::All, false).sampled(Some(&no), TraceId::from(7)));
        assert!(!tracer(Root::None, false).sampled(Some(&yes), TraceId::from(7)));
    }

    #[test]
    fn a_share_of_the_others_is_sampled() {
        let tracer = tracer(Root::Ratio(0.25), true);
        let ids = RandomIdGenerator::default();
        let sampled = (0..4000).filter(|_| tracer.sampled(None, ids.new_trace_id())).count();
        assert!((800..1200).contains(&sampled), "{sampled} of 4000");
    }

    #[test]
    fn spans_belong_to_the_trace_that_was_named() {
        let tracer = tracer(Root::All, true);
        let root = tracer.start(None, TraceId::from(5), SpanBuilder::from_name("root"));
        assert_eq!(root.span().span_context().trace_id(), TraceId::from(5));
        assert!(root.span().is_recording() && root.span().span_context().is_sampled());
        let below = tracer.start(Some(parent(true)), TraceId::from(7), SpanBuilder::from_name("below"));
        assert_eq!(below.span().span_context().trace_id(), TraceId::from(7));
        let next = tracer.tracer.build_with_context(SpanBuilder::from_name("next"), &Context::new());
        use opentelemetry::trace::Span as _;
        assert_ne!(next.span_context().trace_id(), TraceId::from(5), "a name is used once");
    }
}
