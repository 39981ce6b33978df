//! What is known of the values of a graph: by tract's analysis, and where that finds nothing by others.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::{DatumType, OutletId};
use tract_onnx::tract_hir::infer::{DimFact, Factoid as _, InferenceFact, InferenceModel, ShapeFactoid};

use crate::rewrite::Facts as Declared;

/// What tract's analysis knows of the values of a graph, by name.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a>(HashMap<&'a str, InferenceFact>);

impl<'a> Facts<'a> {
    /// Of a graph that has been analysed, and the values that the file names in it. `examples` are the same graph, analysed
    /// with sizes for its open dimensions: of a value whose rank tract does not find they tell it, if they agree. `declared`
    /// tells the dtype of one whose dtype tract does not find.
    pub(crate) fn of(
        model: &InferenceModel,
        values: &'a HashMap<String, OutletId>,
        examples: &[InferenceModel],
        declared: &Declared,
    ) -> Self {
        let fact = |(name, outlet): (&'a String, &OutletId)| {
            let mut fact = model.outlet_fact(*outlet).ok()?.clone();
            let others: Option<Vec<&InferenceFact>> =
                examples.iter().map(|example| example.outlet_fact(*outlet).ok()).collect();
            let others = others.unwrap_or_default();
            if fact.datum_type.concretize().is_none()
                && let Some(dtype) = declared.dtype(name).and_then(|dtype| DatumType::try_from(dtype).ok())
            {
                fact = fact.with_datum_type(dtype);
            }
            if fact.shape.rank().concretize().is_none()
                && let Some(rank) = agreed(others.iter().map(|other| other.shape.rank().concretize()))
                && let Ok(rank) = usize::try_from(rank)
            {
                fact = fact.with_shape(ShapeFactoid::closed(std::iter::repeat_n(DimFact::default(), rank).collect()));
            }
            Some((name.as_str(), fact))
        };
        Self(values.iter().filter_map(fact).collect())
    }

    /// Whether there is a value of unknown rank.
    pub(crate) fn are_open(&self) -> bool {
        self.0.values().any(|fact| fact.shape.rank().concretize().is_none())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&InferenceFact> {
        self.0.get(name)
    }
}

/// What all say that say anything, if it is one thing.
fn agreed<T: PartialEq>(said: impl Iterator<Item = Option<T>>) -> Option<T> {
    let mut said = said.flatten();
    let first = said.next()?;
    said.all(|other| other == first).then_some(first)
}
