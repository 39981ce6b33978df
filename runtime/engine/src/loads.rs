//! The loads of one model, past and present: each has a state of its own, so a version may be loaded anew beside itself.

use std::sync::Arc;

use crate::error::{EngineError, quoted};
use crate::lifecycle::State;
use crate::signals::Series;

/// Loads that came to nothing or are over, of which a model remembers so many.
const REMEMBERED: usize = 16;

/// One version of a model and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// The version.
    pub version: String,
    /// Where it stands: while it answers that it is ready, whatever another load of it does.
    pub state: State,
    /// Its share of the requests that name no version, where they are divided.
    pub share: Option<u64>,
    /// Why the latest load of it failed while an earlier one goes on answering.
    pub failure: Option<String>,
}

/// In order of their beginning.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    all: Vec<Load>,
    begun: u64,
}

#[derive(Debug)]
struct Load {
    id: u64,
    version: String,
    state: State,
    /// Said, but not begun.
    announced: bool,
    /// What is recorded of its version: from its beginning until it is gone. A load that failed keeps it for as long as it is
    /// remembered.
    series: Option<Arc<Series>>,
}

impl Load {
    fn is_dead(&self) -> bool {
        matches!(self.state, State::Gone | State::Failed(_))
    }

    fn is_coming(&self) -> bool {
        matches!(self.state, State::Loading | State::WarmingUp)
    }

    /// What is said of a version is said of the load that matters most.
    fn weight(&self) -> u8 {
        match self.state {
            State::Ready => 3,
            State::Loading | State::WarmingUp => 2,
            State::Draining => 1,
            State::Gone | State::Failed(_) => 0,
        }
    }
}

impl Loads {
    pub(crate) fn announce(&mut self, version: &str) {
        if !self.all.iter().any(|load| load.announced && load.version == version) {
            self.push(version, true);
        }
    }

    /// Makes known that there is a model, of which no version is known yet, and that nobody has asked for.
    pub(crate) fn rest(&mut self) {
        if self.all.is_empty() {
            let id = self.push("1", true);
            self.all.iter_mut().filter(|load| load.id == id).for_each(|load| load.state = State::Gone);
        }
    }

    /// Nothing is known of its files but that they cannot be loaded, and so not of which version they are: it is said of the last that
    /// was known.
    pub(crate) fn fail_at_rest(&mut self, reason: &str) {
        let version = self.all.last().map_or_else(|| "1".to_owned(), |load| load.version.clone());
        let id = self.push(&version, true);
        self.advance(id, State::Failed(reason.to_owned()));
    }

    /// The number of the load of `version` that begins.
    pub(crate) fn begin(&mut self, version: &str) -> u64 {
        self.all.retain(|load| !load.announced || !load.is_dead());
        let announced = self.all.iter_mut().find(|load| load.announced && load.version == version);
        if let Some(load) = announced {
            load.announced = false;
            return load.id;
        }
        self.push(version, false)
    }

    /// What the load of that number records: what other loads of its version record, else what `make` makes.
    pub(crate) fn series(&mut self, id: u64, make: impl FnOnce() -> Arc<Series>) -> Arc<Series> {
        let Some(at) = self.all.iter().position(|load| load.id == id) else { return make() };
        let series = self.series_of(&self.all[at].version).unwrap_or_else(make);
        Arc::clone(self.all[at].series.insert(series))
    }

    /// What the loads that are not gone record.
    pub(crate) fn all_series(&self) -> Vec<Arc<Series>> {
        self.all.iter().filter_map(|load| load.series.clone()).collect()
    }

    fn series_of(&self, version: &str) -> Option<Arc<Series>> {
        let loads = self.all.iter().filter(|load| load.version == version);
        loads.filter_map(|load| load.series.as_ref()).next().map(Arc::clone)
    }

    /// Loads so far, those that were announced included.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// A load that could not even begin.
    pub(crate) fn fail(&mut self, version: &str, reason: &str) {
        let id = self.push(version, false);
        self.advance(id, State::Failed(reason.to_owned()));
    }

    /// Forgets why loads of this version failed.
    pub(crate) fn forgive(&mut self, version: &str) {
        self.all.retain(|load| load.version != version || !matches!(load.state, State::Failed(_)));
    }

    fn push(&mut self, version: &str, announced: bool) -> u64 {
        // Before what is dead is forgotten: failures of one version after the other are counted, not each as the first.
        let series = self.series_of(version);
        self.all.retain(|load| load.version != version || !load.is_dead());
        let dead = self.all.iter().filter(|load| load.is_dead()).count();
        if dead >= REMEMBERED
            && let Some(oldest) = self.all.iter().position(Load::is_dead)
        {
            self.all.remove(oldest);
        }
        self.begun += 1;
        self.all.push(Load { id: self.begun, version: version.to_owned(), state: State::Loading, announced, series });
        self.begun
    }

    /// What the state machine does not allow is left undone.
    pub(crate) fn advance(&mut self, id: u64, next: State) {
        let Some(at) = self.all.iter().position(|load| load.id == id) else { return };
        if !self.all[at].state.may_become(&next) {
            return;
        }
        let version = self.all[at].version.clone();
        let others = |load: &Load| load.id != id && load.version == version;
        match next {
            // Where the version is loaded anew, this load of it is forgotten.
            State::Gone if self.all.iter().any(others) => {
                self.all.remove(at);
            }
            State::Gone => {
                self.all[at].state = next;
                self.all[at].series = None;
            }
            // Nobody asks any more why it could not be loaded anew.
            State::Ready | State::Draining => {
                self.all[at].state = next;
                self.all.retain(|load| !others(load) || !load.is_dead());
            }
            next => self.all[at].state = next,
        }
    }

    pub(crate) fn is_coming(&self) -> bool {
        self.all.iter().any(Load::is_coming)
    }

    pub(crate) fn is_settled(&self) -> bool {
        !self.is_coming() && !self.all.is_empty()
    }

    pub(crate) fn is_unloaded(&self) -> bool {
        !self.all.is_empty() && self.all.iter().all(|load| matches!(load.state, State::Draining | State::Gone))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.all.iter().any(|load| load.state == State::Draining)
    }

    /// Each version once, in order of number.
    pub(crate) fn statuses(&self) -> Vec<VersionStatus> {
        let mut statuses: Vec<VersionStatus> = Vec::new();
        for load in &self.all {
            if statuses.iter().any(|status| status.version == load.version) {
                continue;
            }
            let same = || self.all.iter().filter(|other| other.version == load.version);
            // Of several that matter alike the last.
            let shown = same().max_by_key(|load| load.weight()).unwrap_or(load);
            let failed = same().filter(|other| other.id != shown.id).find_map(|load| match &load.state {
                State::Failed(reason) => Some(reason.clone()),
                _ => None,
            });
            let (version, state) = (load.version.clone(), shown.state.clone());
            statuses.push(VersionStatus { version, state, share: None, failure: failed });
        }
        statuses.sort_by_key(|status| status.version.parse::<u64>().unwrap_or_default());
        statuses
    }

    /// Why nothing answers: neither `version`, nor any where none is named.
    pub(crate) fn refusal(&self, model: &str, version: Option<&str>) -> EngineError {
        let model = model.to_owned();
        let named = |load: &&Load| version.is_none_or(|version| load.version == version);
        let Some(load) = self.all.iter().filter(named).max_by_key(|load| (load.weight(), load.id)) else {
            return match version {
                Some(version) => self.unknown(model, version),
                None => EngineError::NotReady { model, state: "unloaded" },
            };
        };
        match (&load.state, version) {
            (State::Gone, Some(version)) => self.unknown(model, version),
            (State::Gone, None) => EngineError::Unloaded { model },
            (State::Draining, _) => EngineError::Draining { model, version: load.version.clone() },
            (state, _) => EngineError::NotReady { model, state: state.name() },
        }
    }

    fn unknown(&self, model: String, version: &str) -> EngineError {
        let others = self.all.iter().filter(|load| load.state != State::Gone).map(|load| load.version.as_str());
        EngineError::UnknownVersion { model, version: version.to_owned(), served: quoted(others) }
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::Code;

    use super::*;

    fn said(loads: &Loads) -> Vec<String> {
        let said = |status: VersionStatus| {
            let failure = status.failure.map(|failure| format!(" ({failure})")).unwrap_or_default();
            format!("{} {}{failure}", status.version, status.state)
        };
        loads.statuses().into_iter().map(said).collect()
    }

    fn ready(loads: &mut Loads, version: &str) -> u64 {
        let id = loads.begin(version);
        loads.advance(id, State::WarmingUp);
        loads.advance(id, State::Ready);
        id
    }

    #[test]
    fn a_version_may_be_loaded_beside_itself() {
        let mut loads = Loads::default();
        let first = ready(&mut loads, "1");
        let failed = loads.begin("1");
        assert_eq!(said(&loads), ["1 ready"]);
        loads.advance(failed, State::Failed("broken".into()));
        assert_eq!(said(&loads), ["1 ready (broken)"]);
        loads.fail("1", "no file");
        assert_eq!(said(&loads), ["1 ready (no file)"]);
        loads.forgive("1");
        assert_eq!(said(&loads), ["1 ready"]);
        ready(&mut loads, "1");
        loads.advance(first, State::Draining);
        assert_eq!(said(&loads), ["1 ready"]);
        loads.advance(first, State::Gone);
        assert_eq!((said(&loads), loads.all.len()), (vec!["1 ready".to_owned()], 1));
    }

    #[test]
    fn what_is_over_is_not_remembered_for_ever() {
        let mut loads = Loads::default();
        for number in 0..100 {
            let id = ready(&mut loads, &number.to_string());
            loads.advance(id, State::Draining);
            loads.advance(id, State::Gone);
        }
        assert_eq!(loads.all.len(), REMEMBERED);
        assert_eq!(said(&loads).last().map(String::as_str), Some("99 gone"));
    }

    #[test]
    fn refusals_say_what_is_the_matter() {
        let mut loads = Loads::default();
        let code = |loads: &Loads, version| loads.refusal("m", version).code();
        loads.announce("1");
        assert_eq!(code(&loads, None), Code::NotReady);
        let id = ready(&mut loads, "1");
        assert_eq!(code(&loads, Some("2")), Code::NotFound);
        loads.advance(id, State::Draining);
        assert_eq!(code(&loads, None), Code::Draining);
        loads.advance(id, State::Gone);
        assert!(loads.is_unloaded());
        assert_eq!(loads.refusal("m", None).to_string(), "model 'm' is not loaded");
        assert_eq!((code(&loads, None), code(&loads, Some("1"))), (Code::NotFound, Code::NotFound));
    }
}
