//! Whether the rows of requests are divided and joined: proved from the graph, or trusted because the manifest says so.

use std::sync::Arc;

use corymb_core::{BatchAxes, Independence, RowAnalysis};

/// The line of a manifest that trusts a model.
const TRUST: &str = "batching.enabled = true";

/// What is done with the rows of one model, and what the metadata says of it.
#[derive(Clone, Debug)]
pub struct Division {
    /// `proved`, `trusted`, `mixes` or `unknown`.
    pub rows: &'static str,
    /// The node that is in the way of a proof; none where there is a proof, or where no node is to blame.
    pub node: Option<String>,
    /// What to do about it, with the line to write in the manifest; none where there is nothing to do.
    pub advice: Option<String>,
    /// Where the rows are; none where requests run as they are.
    pub axes: Option<Arc<BatchAxes>>,
}

impl Division {
    /// What follows from a graph and from `enabled` of the manifest's `[batching]`.
    ///
    /// # Errors
    /// Why runs cannot be shared, where the manifest wants them to be.
    pub fn of(rows: &RowAnalysis, enabled: Option<bool>) -> Result<Self, String> {
        let axes = rows.axes.clone().map(Arc::new);
        let (word, culprit) = match &rows.independence {
            Independence::Proved => return Ok(Self { rows: "proved", node: None, advice: None, axes }),
            Independence::Mixes(culprit) => ("mixes", culprit),
            Independence::Unknown(culprit) => ("unknown", culprit),
        };
        let node = culprit.name();
        match (enabled, axes) {
            (Some(true), None) => Err(format!(
                "the manifest says `{TRUST}`, but requests cannot be joined: not every output has an open first dimension \
                 for the rows, or no input has ({culprit})"
            )),
            (Some(true), axes) => {
                let advice = Some(format!("the manifest is trusted, not the graph ({culprit})"));
                Ok(Self { rows: "trusted", node, advice, axes })
            }
            (_, joinable) => {
                let advice = match (&rows.independence, joinable) {
                    (_, None) => culprit.to_string(),
                    (Independence::Mixes(_), Some(_)) => format!(
                        "{culprit}; write `{TRUST}` in model.toml only if answers may depend on the other rows of a run"
                    ),
                    (_, Some(_)) => {
                        format!(
                            "{culprit}; write `{TRUST}` in model.toml if each row's answer depends on that row alone"
                        )
                    }
                };
                Ok(Self { rows: word, node, advice: Some(advice), axes: None })
            }
        }
    }

    /// Of what has no model.
    pub(crate) fn none() -> Self {
        Self { rows: "", node: None, advice: None, axes: None }
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::Culprit;

    use super::*;

    fn analysis(independence: Independence, joinable: bool) -> RowAnalysis {
        let axes = BatchAxes { inputs: vec![("x".into(), Some(0))], outputs: vec![("y".into(), Some(0))] };
        RowAnalysis { independence, axes: joinable.then_some(axes) }
    }

    fn culprit() -> Culprit {
        Culprit { operator: "CumSum".into(), node: "sum".into(), reason: "adds up the rows".into() }
    }

    #[test]
    fn only_a_proof_or_a_manifest_divides_rows() {
        let proved = analysis(Independence::Proved, true);
        for enabled in [None, Some(true), Some(false)] {
            let division = Division::of(&proved, enabled).expect("fine");
            assert_eq!((division.rows, division.node, division.advice), ("proved", None, None));
            assert!(division.axes.is_some());
        }
        for (independence, word) in
            [(Independence::Mixes(culprit()), "mixes"), (Independence::Unknown(culprit()), "unknown")]
        {
            for enabled in [None, Some(false)] {
                let division = Division::of(&analysis(independence.clone(), true), enabled).expect("fine");
                assert_eq!((division.rows, division.node.as_deref()), (word, Some("CumSum 'sum'")));
                assert!(division.axes.is_none());
                assert!(division.advice.is_some_and(|advice| advice.contains("`batching.enabled = true`")));
            }
            let division = Division::of(&analysis(independence.clone(), true), Some(true)).expect("trusted");
            assert!(division.rows == "trusted" && division.axes.is_some());
            let refused = Division::of(&analysis(independence, false), Some(true)).expect_err("cannot be joined");
            assert!(refused.contains("CumSum 'sum': adds up the rows"), "{refused}");
        }
    }

    /// Advice that does not work is worse than none.
    #[test]
    fn what_is_advised_can_be_written() {
        for joinable in [false, true] {
            let rows = analysis(Independence::Unknown(culprit()), joinable);
            let advice = Division::of(&rows, None).expect("fine").advice.unwrap_or_default();
            assert_eq!(advice.contains(TRUST), joinable, "{advice}");
            let manifest = corymb_repository::Manifest::parse(TRUST).expect("a manifest");
            assert_eq!(Division::of(&rows, manifest.batching.enabled).is_ok(), joinable);
        }
    }
}
