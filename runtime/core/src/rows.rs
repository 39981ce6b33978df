//! What is known of the rows of a request: where they are, and whether each one's answer depends on that row alone.

use std::fmt;

/// The axes along which the rows of requests lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchAxes {
    /// Of each input, in the signature's order. None: the input has no rows, and requests that share a run give the same.
    pub inputs: Vec<Option<usize>>,
    /// Of each output, in the signature's order. None: the output is the same whatever the rows are.
    pub outputs: Vec<Option<usize>>,
}

/// What a graph does with rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Independence {
    /// Each row's answer depends on that row alone, whatever the values are: proved from the graph.
    Proved,
    /// A node brings rows together, for some values or for all.
    Mixes(Culprit),
    /// Nothing is proved; the first node that is in the way.
    Unknown(Culprit),
}

/// The node that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Culprit {
    /// Its operator; empty where no node is to blame.
    pub operator: String,
    /// Its name, or that of its first result where it has none.
    pub node: String,
    /// What it does, in words to stand behind its name.
    pub reason: String,
}

impl Culprit {
    /// A reason that no single node has.
    #[must_use]
    pub fn of_model(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    /// The operator and the name of the node; none where no node is to blame.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        (!self.operator.is_empty()).then(|| format!("{} '{}'", self.operator, self.node))
    }
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// What is known of the rows of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowAnalysis {
    /// Whether they are independent.
    pub independence: Independence,
    /// Where they are: as proved, else by the shapes alone. None where requests cannot be joined at all.
    pub axes: Option<BatchAxes>,
}

impl RowAnalysis {
    /// Whether rows are independent without anybody's word.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.independence == Independence::Proved
    }
}

impl Default for RowAnalysis {
    /// Of a model that nobody has looked at.
    fn default() -> Self {
        Self { independence: Independence::Unknown(Culprit::of_model("the graph was not looked at")), axes: None }
    }
}
