//! All lines of the table about one operator, and what they say of a form.

/// More fields than any operator has; the masks below have room for them and the version.
const MOST_NAMES: usize = 63;

/// Fields of a form by name; the text of one is `NAME=VALUE NAME=VALUE …`.
pub(super) type Fields<'a> = Vec<(&'a str, &'a str)>;

/// All that is known of one operator.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// The names of all fields that its forms have.
    names: Vec<&'static str>,
    rows: Vec<Row>,
}

/// One line.
#[derive(Debug, Default)]
struct Row {
    verified: Vec<i64>,
    refuted: Vec<i64>,
    /// By the places of the names; empty where the form has no such field.
    values: Vec<&'static str>,
}

/// Why a form is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// No case of this version of the operator was right.
    Version,
    /// These fields were never right together, or the only one never at all.
    Fields(Vec<String>),
    /// A case of this form, or of what it may be, was not right.
    Refuted,
}

pub(super) fn fields(text: &str) -> Fields<'_> {
    text.split(' ').filter_map(|field| field.split_once('=')).collect()
}

impl Operator {
    /// Of lines without the operator's name: verified versions, refuted versions, fields.
    pub(super) fn read(lines: &[&'static str]) -> Self {
        let mut operator = Self::default();
        for line in lines {
            let mut columns = line.split('\t');
            let mut next = || columns.next().unwrap_or_default();
            let (verified, refuted, text) = (versions(next()), versions(next()), next());
            let mut row = Row { verified, refuted, values: Vec::new() };
            for (name, value) in fields(text) {
                let place = operator.place(name);
                if row.values.len() <= place {
                    row.values.resize(place + 1, "");
                }
                row.values[place] = value;
            }
            operator.rows.push(row);
        }
        debug_assert!(operator.names.len() <= MOST_NAMES, "{} fields", operator.names.len());
        let names = operator.names.len();
        operator.rows.iter_mut().for_each(|row| row.values.resize(names, ""));
        operator
    }

    fn place(&mut self, name: &'static str) -> usize {
        self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }

    /// Why the form is not trusted in the version `since`; none where it is. A `?` in a value stands for whatever it may be.
    pub(super) fn doubt(&self, since: i64, text: &str) -> Option<Doubt> {
        self.doubt_without(since, text, None)
    }

    /// As [`Self::doubt`], as if one row were not there.
    fn doubt_without(&self, since: i64, text: &str, without: Option<usize>) -> Option<Doubt> {
        let given = fields(text);
        if let Some((name, _)) = given.iter().find(|(name, _)| !self.names.contains(name)) {
            return Some(Doubt::Fields(vec![(*name).to_owned()]));
        }
        // What is of an unknown dtype may be anything, texts and what tract does not read among them.
        if let Some((name, _)) =
            given.iter().find(|(name, value)| is_operand(name) && value.split('+').any(|class| class.starts_with('?')))
        {
            return Some(Doubt::Fields(vec![(*name).to_owned()]));
        }
        let value = |name: &&str| given.iter().find(|(given, _)| given == name).map_or("", |(_, value)| *value);
        let wanted: Vec<&str> = self.names.iter().map(value).collect();
        let rows = || self.rows.iter().enumerate().filter(|(place, _)| Some(*place) != without).map(|(_, row)| row);
        if !rows().any(|row| row.verified.contains(&since)) {
            return Some(Doubt::Version);
        }
        let same = || rows().filter(|row| row.agrees(&wanted) == self.all());
        if same().any(|row| row.refuted.contains(&since)) {
            return Some(Doubt::Refuted);
        }
        if same().any(|row| row.verified.contains(&since)) {
            return None;
        }
        // A mistake in one version of the operator is expected in those that nobody tried.
        if same().any(|row| !row.refuted.is_empty()) {
            return Some(Doubt::Refuted);
        }
        if let Some(pair) = self.uncovered(since, &wanted, rows()) {
            return Some(Doubt::Fields(pair));
        }
        let next_to_it = |row: &&Row| (self.all() & !row.agrees(&wanted)).count_ones() == 1;
        let unexplained = |row: &Row| self.uncovered(since, &row.values, rows()).is_none();
        let barred = rows().filter(|row| row.refuted.contains(&since)).filter(next_to_it).any(unexplained);
        barred.then_some(Doubt::Refuted)
    }

    /// The bits of all fields.
    fn all(&self) -> u64 {
        (1 << self.names.len().min(MOST_NAMES)) - 1
    }

    /// Two fields, or one, that are together in no form that was right; one, too, that is in none of the version `since`.
    fn uncovered<'a>(&self, since: i64, wanted: &[&str], rows: impl Iterator<Item = &'a Row>) -> Option<Vec<String>> {
        let version = self.names.len().min(MOST_NAMES);
        let mut together = vec![0_u64; version + 1];
        for row in rows.filter(|row| !row.verified.is_empty()) {
            let mask = row.agrees(wanted) | u64::from(row.verified.contains(&since)) << version;
            for (place, covered) in together.iter_mut().enumerate() {
                *covered |= if mask >> place & 1 == 1 { mask } else { 0 };
            }
        }
        let lacks = |one: usize, other: usize| together[one] >> other & 1 == 0;
        let said = |place: usize| wanted.get(place).is_some_and(|value| !value.is_empty());
        let name = |place: usize| self.names[place].to_owned();
        let alone = (0..version).filter(|&place| lacks(place, place) || lacks(place, version));
        if let Some(place) = alone.max_by_key(|&place| (said(place), std::cmp::Reverse(place))) {
            return Some(vec![name(place)]);
        }
        let pairs = (0..version).flat_map(|one| (0..one).map(move |other| (other, one)));
        let missing = pairs.filter(|&(one, other)| lacks(one, other));
        let (one, other) = missing.max_by_key(|&(one, other)| (said(one) && said(other), said(one) || said(other)))?;
        Some(vec![name(one), name(other)])
    }

    /// The names of the fields in which a form differs from the verified one of its version that is most like it.
    pub(super) fn differences(&self, since: i64, text: &str) -> Vec<&'static str> {
        let given = fields(text);
        let value = |name: &&str| given.iter().find(|(given, _)| given == name).map_or("", |(_, value)| *value);
        let wanted: Vec<&str> = self.names.iter().map(value).collect();
        let verified = self.rows.iter().filter(|row| row.verified.contains(&since));
        let differing = verified.map(|row| self.all() & !row.agrees(&wanted));
        let least = differing.min_by_key(|mask| (mask.count_ones(), *mask)).unwrap_or(0);
        let names = self.names.iter().enumerate();
        names.filter(|(place, _)| least >> place & 1 == 1).map(|(_, name)| *name).collect()
    }
}

impl Row {
    /// A bit for each field that is as wanted.
    fn agrees(&self, wanted: &[&str]) -> u64 {
        let pairs = wanted.iter().zip(&self.values).enumerate();
        pairs.map(|(place, (wanted, value))| u64::from(fits(wanted, value)) << place).sum()
    }
}

/// Whether a field is an operand's: `x`, `x0`, `x1` and so on.
fn is_operand(field: &str) -> bool {
    field.strip_prefix('x').is_some_and(|place| place.bytes().all(|digit| digit.is_ascii_digit()))
}

fn versions(text: &str) -> Vec<i64> {
    text.split(',').filter_map(|version| version.parse().ok()).collect()
}

/// Whether `value` is what `wanted` may stand for: each `?` of it stands for any text.
fn fits(wanted: &str, value: &str) -> bool {
    let Some((begin, rest)) = wanted.split_once('?') else { return wanted == value };
    let Some(mut value) = value.strip_prefix(begin) else { return false };
    let mut parts: Vec<&str> = rest.split('?').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = value.split_once(part) else { return false };
        value = after;
    }
    value.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verified::Table;

    /// Of the lines of an operator one in so many is asked for: enough for a share in percent.
    const SAMPLED: usize = 8;

    /// Lines are taken out of the table, each by itself, and asked for: what the others say of it.
    fn said_without(refuted: bool) -> (usize, usize) {
        let (mut doubted, mut all) = (0, 0);
        for lines in Table::embedded().lines.values() {
            let operator = Operator::read(lines);
            for (place, row) in operator.rows.iter().enumerate().step_by(SAMPLED) {
                let text = lines[place].split('\t').nth(2).expect("fields");
                for since in if refuted { &row.refuted } else { &row.verified } {
                    all += 1;
                    doubted += usize::from(operator.doubt_without(*since, text, Some(place)).is_some());
                }
            }
        }
        (doubted, all)
    }

    #[test]
    fn most_faults_are_known_by_the_forms_around_them() {
        let (doubted, all) = said_without(true);
        assert!(doubted * 100 >= all * 90, "{doubted} of {all} faults");
        let (doubted, all) = said_without(false);
        assert!(doubted * 100 <= all * 50, "{doubted} of {all} forms that are right");
    }
}
