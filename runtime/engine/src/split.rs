//! Who answers requests that name no version: the newest, or several by their shares.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use corymb_repository::VersionsSection;

/// How requests that name no version are divided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// The newest answers all.
    #[default]
    Newest,
    /// Of a hundred requests so many go to the newest, the others to the one before it.
    Canary(u8),
    /// By version; one that is not named gets nothing.
    Weights(BTreeMap<String, u32>),
}

impl Split {
    /// What the manifest beside numbered folders says.
    pub(crate) fn of(section: &VersionsSection) -> Self {
        match section.canary {
            Some(canary) => Self::Canary(canary),
            None if section.weights.is_empty() => Self::Newest,
            None => Self::Weights(section.weights.clone()),
        }
    }

    /// Why requests cannot be divided so among these, which are ascending.
    pub(crate) fn fault(&self, versions: &[String]) -> Option<String> {
        let served = || match versions {
            [] => "none is served".to_owned(),
            [one] => format!("only {one} is served"),
            several => format!("{} are served", several.join(", ")),
        };
        match self {
            Self::Newest => None,
            Self::Canary(_) => (versions.len() < 2)
                .then(|| format!("`canary` divides requests between two versions, and {}", served())),
            Self::Weights(weights) => {
                let stray = weights.iter().find(|(name, weight)| **weight > 0 && !versions.contains(name));
                stray.map(|(name, _)| format!("`weights` names version {name}, and {}", served()))
            }
        }
    }

    /// The share of each version; `versions` are ascending. None where the newest answers all.
    pub(crate) fn shares(&self, versions: &[&str]) -> Option<Vec<u32>> {
        let shares: Vec<u32> = match self {
            Self::Newest => return None,
            Self::Canary(canary) => {
                let newest = versions.len().checked_sub(1)?;
                let before = newest.checked_sub(1)?;
                let share = |index| match index {
                    index if index == newest => u32::from(*canary),
                    index if index == before => 100 - u32::from(*canary).min(100),
                    _ => 0,
                };
                (0..versions.len()).map(share).collect()
            }
            Self::Weights(weights) => {
                versions.iter().map(|version| weights.get(*version).copied().unwrap_or(0)).collect()
            }
        };
        // Of those that are named none is there: better the newest than nobody.
        shares.iter().any(|share| *share > 0).then_some(shares)
    }
}

/// `VERSION=WEIGHT,…`
impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not understood; expected weights by version, e.g. '1=90,2=10'");
        let one = |part: &str| {
            let (version, weight) = part.split_once('=')?;
            let version: u64 = version.trim().parse().ok()?;
            Some((version.to_string(), weight.trim().parse().ok()?))
        };
        let weights = text.split(',').map(|part| one(part).ok_or_else(wrong)).collect::<Result<BTreeMap<_, _>, _>>()?;
        if weights.values().all(|weight: &u32| *weight == 0) {
            return Err(format!("the weights '{text}' are all 0; expected one that is more"));
        }
        Ok(Self::Weights(weights))
    }
}

/// Shares, ready to be drawn from.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Where the share of each version ends.
    ends: Vec<u64>,
    total: u64,
}

impl Shares {
    pub(crate) fn new(shares: &[u32]) -> Self {
        let mut total = 0;
        let ends = shares.iter().map(|share| {
            total += u64::from(*share);
            total
        });
        Self { ends: ends.collect(), total }
    }

    /// As they were given.
    pub(crate) fn all(&self) -> impl Iterator<Item = u64> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.ends.iter().zip(starts).map(|(end, start)| end - start)
    }

    /// The index of who is drawn.
    pub(crate) fn draw(&self, draws: &Draws) -> usize {
        let point = (u128::from(draws.next()) * u128::from(self.total)) >> 32;
        self.ends.iter().position(|end| u128::from(*end) > point).unwrap_or_default()
    }
}

/// Points spread evenly: any run of them divides as the shares say, to within a few requests, and drawing is one
/// addition.
#[derive(Debug, Default)]
pub(crate) struct Draws(AtomicU32);

impl Draws {
    fn next(&self) -> u32 {
        // The golden ratio of the circle: the next point always falls into the largest gap.
        self.0.fetch_add(0x9e37_79b9, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(pairs: &[(&str, u32)]) -> Split {
        Split::Weights(pairs.iter().map(|(version, weight)| ((*version).to_owned(), *weight)).collect())
    }

    #[test]
    fn shares_follow_the_versions_that_are_there() {
        let versions = ["1", "2", "10"];
        assert_eq!(Split::Newest.shares(&versions), None);
        assert_eq!(Split::Canary(5).shares(&versions), Some(vec![0, 95, 5]));
        assert_eq!(Split::Canary(0).shares(&versions), Some(vec![0, 100, 0]));
        assert_eq!(Split::Canary(5).shares(&["1"]), None, "who is alone answers all");
        assert_eq!(Split::Canary(5).shares(&[]), None);
        assert_eq!(weights(&[("1", 3), ("10", 1), ("11", 9)]).shares(&versions), Some(vec![3, 0, 1]));
        assert_eq!(weights(&[("11", 9)]).shares(&versions), None);
    }

    #[test]
    fn versions_that_are_not_served_are_named() {
        let versions = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let two = versions(&["1", "2"]);
        assert_eq!(Split::Canary(5).fault(&two), None);
        assert_eq!(weights(&[("1", 3), ("9", 0)]).fault(&two), None);
        let fault = weights(&[("1", 3), ("9", 1)]).fault(&two).expect("9 is not there");
        assert_eq!(fault, "`weights` names version 9, and 1, 2 are served");
        let fault = Split::Canary(5).fault(&versions(&["2"])).expect("one alone");
        assert_eq!(fault, "`canary` divides requests between two versions, and only 2 is served");
    }

    #[test]
    fn drawing_divides_as_the_shares_say() {
        let draws = Draws::default();
        let shares = Shares::new(&[0, 90, 10]);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[shares.draw(&draws)] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((990..=1010).contains(&counts[2]), "{counts:?}");
        assert!(Shares::new(&[0, u32::MAX, u32::MAX]).draw(&draws) > 0);
        assert_eq!(shares.all().collect::<Vec<_>>(), [0, 90, 10]);
    }

    #[test]
    fn weights_are_read_from_a_text() {
        assert_eq!("1=90, 02=10".parse(), Ok(weights(&[("1", 90), ("2", 10)])));
        for wrong in ["", "1", "1=x", "a=1", "1=-1", "1=1,"] {
            let error = wrong.parse::<Split>().expect_err(wrong);
            assert!(error.contains("expected weights by version"), "{error}");
        }
        assert!("1=0".parse::<Split>().expect_err("no share").contains("all 0"));
    }
}
