//! The life of a version: one state machine.
//!
//! `Loading → WarmingUp → Ready → Draining → Gone`, or `Failed` from either of the first two. A version that is loaded again
//! under the same number begins a life of its own.

use std::fmt;

/// Where a version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Files are read, the plugin compiles, the backend optimises.
    Loading,
    /// Samples run through it, off the path of requests.
    WarmingUp,
    /// It answers.
    Ready,
    /// It takes no more requests and finishes those it has.
    Draining,
    /// Its memory has been given back.
    Gone,
    /// It never became ready, for this reason.
    Failed(String),
}

impl State {
    /// Whether a version may go from here to `next`.
    #[must_use]
    pub const fn may_become(&self, next: &Self) -> bool {
        matches!(
            (self, next),
            (Self::Loading, Self::WarmingUp | Self::Failed(_))
                | (Self::WarmingUp, Self::Ready | Self::Failed(_))
                | (Self::Ready, Self::Draining)
                | (Self::Draining, Self::Gone)
        )
    }

    /// The word without the reason.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::WarmingUp => "warming up",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Gone => "gone",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Self::Failed(reason) = self {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drawn_ways_are_open() {
        let failed = State::Failed("x".into());
        let all = [State::Loading, State::WarmingUp, State::Ready, State::Draining, State::Gone, failed];
        let open: Vec<_> = all
            .iter()
            .flat_map(|from| all.iter().filter(|to| from.may_become(to)).map(|to| (from.name(), to.name())))
            .collect();
        assert_eq!(
            open,
            [
                ("loading", "warming up"),
                ("loading", "failed"),
                ("warming up", "ready"),
                ("warming up", "failed"),
                ("ready", "draining"),
                ("draining", "gone"),
            ]
        );
    }
}
