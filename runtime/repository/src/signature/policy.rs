//! Which models must be signed, and by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::signature::Trust;

/// Without any rule every model is opened, signed or not, and no signature is looked at.
#[derive(Clone, Debug, Default)]
pub struct SignaturePolicy {
    all: Option<Arc<Trust>>,
    named: BTreeMap<String, Arc<Trust>>,
}

impl SignaturePolicy {
    /// Every model that has no rule of its own must be signed by somebody of `trust`, or of another such call's.
    pub fn demand(&mut self, trust: Trust) {
        add(&mut self.all, trust);
    }

    /// The model `name` must be signed by somebody of `trust`, or of another such call's, and by nobody else's leave.
    pub fn demand_of(&mut self, name: &str, trust: Trust) {
        let mut own = self.named.remove(name);
        add(&mut own, trust);
        self.named.extend(own.map(|own| (name.to_owned(), own)));
    }

    /// Whether it has no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.named.is_empty()
    }

    /// Who must have signed the model `name`; none where nobody needs to.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<Arc<Trust>> {
        self.named.get(name).or(self.all.as_ref()).cloned()
    }

    /// The names with a rule of their own: one that no model has is a mistake.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.named.keys().map(String::as_str).collect()
    }
}

fn add(place: &mut Option<Arc<Trust>>, trust: Trust) {
    let before = place.take().map(Arc::unwrap_or_clone).unwrap_or_default();
    *place = Some(Arc::new(before.and(trust)));
}
