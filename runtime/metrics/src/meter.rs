//! A meter that is another one, whose histograms of seconds keep exemplars.

use std::sync::Arc;

use opentelemetry::metrics::{
    AsyncInstrumentBuilder, Counter, Gauge, Histogram, HistogramBuilder, InstrumentBuilder, InstrumentProvider, Meter,
    ObservableCounter, ObservableGauge, ObservableUpDownCounter, UpDownCounter,
};

use crate::exemplars::Exemplars;

/// `inner` whose exemplars are kept in `exemplars`. Clones of the meter hold `inner`, its instruments do not.
pub(crate) fn keeping(inner: Meter, exemplars: Arc<Exemplars>) -> Meter {
    Meter::new(Arc::new(Keeping { inner, exemplars }))
}

struct Keeping {
    inner: Meter,
    exemplars: Arc<Exemplars>,
}

/// Methods that make the same instrument of the other meter.
macro_rules! handed_on {
    ($($name:ident: $instrument:ty),*) => {$(
        fn $name(&self, builder: InstrumentBuilder<'_, $instrument>) -> $instrument {
            let mut same = self.inner.$name(builder.name);
            (same.description, same.unit) = (builder.description, builder.unit);
            same.build()
        }
    )*};
}

macro_rules! handed_on_observable {
    ($($name:ident: $instrument:ty, $value:ty);*) => {$(
        fn $name(&self, builder: AsyncInstrumentBuilder<'_, $instrument, $value>) -> $instrument {
            let mut same = self.inner.$name(builder.name);
            (same.description, same.unit, same.callbacks) = (builder.description, builder.unit, builder.callbacks);
            same.build()
        }
    )*};
}

impl InstrumentProvider for Keeping {
    handed_on!(
        u64_counter: Counter<u64>,
        f64_counter: Counter<f64>,
        i64_up_down_counter: UpDownCounter<i64>,
        f64_up_down_counter: UpDownCounter<f64>,
        u64_gauge: Gauge<u64>,
        f64_gauge: Gauge<f64>,
        i64_gauge: Gauge<i64>
    );

    handed_on_observable!(
        u64_observable_counter: ObservableCounter<u64>, u64;
        f64_observable_counter: ObservableCounter<f64>, f64;
        i64_observable_up_down_counter: ObservableUpDownCounter<i64>, i64;
        f64_observable_up_down_counter: ObservableUpDownCounter<f64>, f64;
        u64_observable_gauge: ObservableGauge<u64>, u64;
        i64_observable_gauge: ObservableGauge<i64>, i64;
        f64_observable_gauge: ObservableGauge<f64>, f64
    );

    fn u64_histogram(&self, builder: HistogramBuilder<'_, Histogram<u64>>) -> Histogram<u64> {
        let mut same = self.inner.u64_histogram(builder.name);
        (same.description, same.unit, same.boundaries) = (builder.description, builder.unit, builder.boundaries);
        same.build()
    }

    fn f64_histogram(&self, builder: HistogramBuilder<'_, Histogram<f64>>) -> Histogram<f64> {
        let name = builder.name.clone();
        let bounds = builder.boundaries.clone().filter(|_| builder.unit.as_deref() == Some("s"));
        let mut same = self.inner.f64_histogram(builder.name);
        (same.description, same.unit, same.boundaries) = (builder.description, builder.unit, builder.boundaries);
        match bounds {
            Some(bounds) => self.exemplars.keeping(same.build(), &name, "seconds", bounds),
            None => same.build(),
        }
    }
}
