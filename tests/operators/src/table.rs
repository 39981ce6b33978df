//! What the outcomes of all cases say of each form, and the table of those that are verified.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::case::Case;
use crate::child::Outcome;
use crate::children::Result;

/// What is known of one form.
#[derive(Debug, Default)]
struct Known {
    right: usize,
    /// Whether a case is about a node of this form, and not about what it was rewritten into.
    itself: bool,
    /// What the cases say whose nodes were rewritten into nodes of this form, among others.
    rewritten_right: usize,
    rewritten_faults: Vec<String>,
    /// The names of cases that were not answered, or wrongly, each with what happened.
    faults: Vec<String>,
    refusal: Option<String>,
}

impl Known {
    /// Where cases are about nodes of this form, they alone decide; else those that were rewritten into it.
    fn is_verified(&self) -> bool {
        let (right, faults) =
            if self.itself { (self.right, &self.faults) } else { (self.rewritten_right, &self.rewritten_faults) };
        right > 0 && faults.is_empty()
    }

    fn faults(&self) -> &[String] {
        if self.itself { &self.faults } else { &self.rewritten_faults }
    }
}

/// What all cases together say.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    forms: BTreeMap<String, Known>,
    /// Cases whose node was rewritten into what is verified, and that were not right all the same: the rewrite is to blame.
    pub(crate) rewritten_wrongly: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Findings {
    pub(crate) fn of(cases: &[Case], results: &[Result]) -> Self {
        let mut findings = Self::default();
        for (case, result) in cases.iter().zip(results) {
            findings.add(case, result);
        }
        findings.explain(cases, results);
        findings.blame_rewrites(cases, results);
        findings
    }

    fn add(&mut self, case: &Case, result: &Result) {
        let fault = fault(case, result);
        let kind = match &result.outcome {
            Some(Outcome::Right) => "right",
            Some(Outcome::Refused(_)) => "refused at load",
            Some(Outcome::Wrong(_)) => "wrong",
            Some(Outcome::Failed(_)) | None => "failed",
        };
        *self.counts.entry(kind).or_default() += 1;
        *self.counts.entry("rewritten").or_default() += usize::from(result.rewritten);
        // A case whose shapes are open to the end stands for none of the forms that it may have, but speaks against all.
        let only = result.rewritten || result.lines.len() == 1;
        let right = only && matches!(result.outcome, Some(Outcome::Right));
        for line in &result.lines {
            let known = self.forms.entry(line.clone()).or_default();
            // What is refused is no evidence.
            known.itself |= !result.rewritten && !matches!(result.outcome, Some(Outcome::Refused(_)));
            let (count, faults) = if result.rewritten {
                (&mut known.rewritten_right, &mut known.rewritten_faults)
            } else {
                (&mut known.right, &mut known.faults)
            };
            *count += usize::from(right);
            faults.extend(fault.clone());
            if let Some(Outcome::Refused(why)) = &result.outcome {
                known.refusal = known.refusal.take().or_else(|| Some(why.clone()));
            }
        }
    }

    /// Of the nodes of a rewritten case that is not right those are to blame that are in no case that is; the others are not,
    /// where there are such.
    fn explain(&mut self, cases: &[Case], results: &[Result]) {
        let suspect = |known: &Known| {
            if known.itself { !known.faults.is_empty() } else { known.rewritten_right == 0 }
        };
        let suspects: BTreeSet<String> =
            self.forms.iter().filter(|(_, known)| suspect(known)).map(|(line, _)| line.clone()).collect();
        for known in self.forms.values_mut() {
            known.rewritten_faults.clear();
        }
        for (case, result) in cases.iter().zip(results).filter(|(_, result)| result.rewritten) {
            let Some(fault) = fault(case, result) else { continue };
            let explained = result.lines.iter().any(|line| suspects.contains(line));
            for line in result.lines.iter().filter(|line| !explained || suspects.contains(*line)) {
                self.forms.entry(line.clone()).or_default().rewritten_faults.push(fault.clone());
            }
        }
    }

    /// A rewritten case that is not right though each of its forms is verified: the rewrite is at fault.
    fn blame_rewrites(&mut self, cases: &[Case], results: &[Result]) {
        for (case, result) in cases.iter().zip(results).filter(|(_, result)| result.rewritten) {
            let how = match &result.outcome {
                Some(Outcome::Wrong(how)) => how,
                Some(Outcome::Failed(how)) if !case.may_fail => how,
                _ => continue,
            };
            if result.lines.iter().all(|line| self.forms.get(line).is_some_and(Known::is_verified)) {
                self.rewritten_wrongly.push(format!("{}: {how}", case.name));
            }
        }
    }

    fn verified(&self) -> impl Iterator<Item = &str> {
        self.forms.iter().filter(|(_, known)| known.is_verified()).map(|(line, _)| line.as_str())
    }

    /// Forms of which a case was not right.
    fn refuted(&self) -> impl Iterator<Item = &str> {
        self.forms.iter().filter(|(_, known)| !known.faults().is_empty()).map(|(line, _)| line.as_str())
    }

    /// The table, sorted: one line for a form, with the versions of the operator in which it is verified, and those in which
    /// it is refuted.
    pub(crate) fn table(&self) -> String {
        let mut versions: BTreeMap<(&str, &str), [BTreeSet<u64>; 2]> = BTreeMap::new();
        for (place, line) in self.verified().map(|line| (0, line)).chain(self.refuted().map(|line| (1, line))) {
            if let Some((operator, since, fields)) = columns(line) {
                versions.entry((operator, fields)).or_default()[place].extend(since.parse::<u64>());
            }
        }
        let mut text = String::new();
        for ((operator, fields), versions) in versions {
            let [verified, refuted] =
                versions.map(|versions| versions.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{operator}\t{verified}\t{refuted}\t{fields}");
        }
        text
    }

    /// How the table that is there differs from these findings.
    pub(crate) fn differences(&self, table: &str) -> Vec<String> {
        let listed = Listed::read(table);
        let found: [BTreeSet<&str>; 2] = [self.verified().collect(), self.refuted().collect()];
        let mut differences = Vec::new();
        for line in &listed.verified {
            match self.forms.get(line) {
                Some(known) if !known.faults().is_empty() => {
                    differences.push(format!("is not verified: {line}  ({})", known.faults()[0]));
                }
                Some(known) if !known.is_verified() => differences.push(format!("no case passes: {line}")),
                Some(_) => {}
                None => differences.push(format!("no case has this form: {line}")),
            }
        }
        for (kind, found, listed) in
            [("verified", &found[0], &listed.verified), ("refuted", &found[1], &listed.refuted)]
        {
            let missing = found.iter().filter(|line| !listed.contains(**line));
            differences.extend(missing.map(|line| format!("is {kind}, and not listed: {line}")));
        }
        let healed = listed.refuted.iter().filter(|line| !found[1].contains(line.as_str()));
        differences.extend(healed.map(|line| format!("is not refuted any more: {line}")));
        differences
    }

    pub(crate) fn summary(&self) -> String {
        let faulty = self.forms.values().filter(|known| !known.faults().is_empty()).count();
        let verified = self.verified().count();
        let counts = self.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ");
        let (forms, cases) =
            (self.forms.len(), self.counts.values().sum::<usize>() - self.counts.get("rewritten").unwrap_or(&0));
        format!(
            "{cases} cases: {counts}\n{forms} forms: {verified} verified, {faulty} with a case that is not right, {} that tract refuses",
            forms - verified - faulty
        )
    }

    /// Each form that is not verified, with the reason; then each case that is not right.
    pub(crate) fn report(&self, cases: &[Case], results: &[Result]) -> String {
        let mut text = String::new();
        for (line, known) in self.forms.iter().filter(|(_, known)| !known.is_verified()) {
            let why = known.faults().first().or(known.refusal.as_ref()).map_or("no case", String::as_str);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}  [{} right, {} not]  {why}", known.right, known.faults().len());
        }
        for (case, result) in cases.iter().zip(results) {
            let (kind, how) = match &result.outcome {
                Some(Outcome::Wrong(how)) => ("WRONG", how),
                Some(Outcome::Failed(how)) => ("FAILED", how),
                Some(Outcome::Refused(how)) => ("REFUSED", how),
                Some(Outcome::Right) | None => continue,
            };
            let _ = writeln!(text, "{kind} {}: {how}  {}", case.name, result.lines.join(" | "));
        }
        text
    }
}

/// The forms that a table lists.
struct Listed {
    verified: BTreeSet<String>,
    refuted: BTreeSet<String>,
}

impl Listed {
    fn read(table: &str) -> Self {
        let [verified, refuted] = [1, 2].map(|column| table.lines().flat_map(|line| lines(line, column)).collect());
        Self { verified, refuted }
    }
}

/// Where the cases of a part of the suite contradict the table. A part says nothing of what it does not hold, and does not
/// tell which node of a rewritten case is to blame.
pub(crate) fn contradictions(cases: &[Case], results: &[Result], table: &str) -> Vec<String> {
    let listed = Listed::read(table);
    let is_verified = |line: &String| listed.verified.contains(line);
    let contradiction = |(case, result): (&Case, &Result)| {
        let lines = result.lines.as_slice();
        match (fault(case, result), lines) {
            (Some(fault), _) if result.rewritten => {
                lines.iter().all(is_verified).then(|| format!("a rewrite is at fault: {fault}"))
            }
            (Some(fault), _) => {
                lines.iter().find(|line| is_verified(line)).map(|line| format!("is not verified: {line}  ({fault})"))
            }
            (None, [line]) if !result.rewritten && matches!(result.outcome, Some(Outcome::Right)) => {
                let is_known = is_verified(line) || listed.refuted.contains(line);
                (!is_known).then(|| format!("is right, and not listed: {line}  ({})", case.name))
            }
            _ => None,
        }
    };
    cases.iter().zip(results).filter_map(contradiction).collect()
}

/// What is to be held against the forms of a case.
fn fault(case: &Case, result: &Result) -> Option<String> {
    match &result.outcome {
        Some(Outcome::Wrong(how)) => Some(format!("{}: {how}", case.name)),
        Some(Outcome::Failed(_)) if case.may_fail => None,
        Some(Outcome::Failed(how)) => Some(format!("{}: {how}", case.name)),
        None => Some(format!("{}: was not run", case.name)),
        Some(Outcome::Right | Outcome::Refused(_)) => None,
    }
}

/// Operator, version and fields of a form.
fn columns(line: &str) -> Option<(&str, &str, &str)> {
    let (operator, rest) = line.split_once('\t')?;
    let (since, fields) = rest.split_once('\t')?;
    Some((operator, since, fields))
}

/// The forms of a line of the table: of the verified versions in column 1, of the refuted ones in column 2.
fn lines(line: &str, column: usize) -> Vec<String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [operator, _, _, fields] = columns[..] else { return Vec::new() };
    let versions = columns[column].split(',').filter(|version| !version.is_empty());
    versions.map(|since| format!("{operator}\t{since}\t{fields}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> Case {
        serde_json::from_value(serde_json::json!({"name": name, "model": "", "inputs": [], "outputs": []}))
            .expect("a case")
    }

    fn result(lines: &[&str], rewritten: bool, outcome: Outcome) -> Result {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Result { lines, rewritten, outcome: Some(outcome) }
    }

    #[test]
    fn every_case_must_pass_and_a_wrong_line_is_found() {
        let wrong = || Outcome::Wrong("2 for 1".to_owned());
        let cases = ["Mod a", "Mod b", "Add a", "Add b", "Attention a", "Attention b"].map(case);
        let results = [
            result(&["Mod\t13\tx0=f32"], false, Outcome::Right),
            result(&["Mod\t13\tx0=f32"], false, wrong()),
            result(&["Add\t7\tx0=f32"], false, Outcome::Right),
            result(&["Add\t14\tx0=f32"], false, Outcome::Right),
            result(&["Add\t14\tx0=f32", "Where\t9\tx0=bool"], true, Outcome::Right),
            result(&["Add\t14\tx0=f32"], true, wrong()),
        ];
        let findings = Findings::of(&cases, &results);
        let table = "Add\t7,14\t\tx0=f32\nMod\t\t13\tx0=f32\nWhere\t9\t\tx0=bool\n";
        assert_eq!(findings.table(), table);
        assert_eq!(findings.rewritten_wrongly, ["Attention b: 2 for 1"]);
        assert_eq!(findings.differences(table), [] as [&str; 0]);
        assert_eq!(contradictions(&cases[..5], &results[..5], table), [] as [&str; 0]);
        assert_eq!(contradictions(&cases, &results, table), ["a rewrite is at fault: Attention b: 2 for 1"]);
        let fault = "is not verified: Mod\t13\tx0=f32  (Mod b: 2 for 1)";
        let spoilt = table.replace("Mod\t\t13", "Mod\t13\t");
        assert_eq!(findings.differences(&spoilt), [fault, "is refuted, and not listed: Mod\t13\tx0=f32"]);
        assert_eq!(contradictions(&cases[..5], &results[..5], &spoilt), [fault]);
        let without = "Where\t9\t\tx0=bool\n";
        assert_eq!(findings.differences(without).len(), 3);
        let new = |line: &str, case: &str| format!("is right, and not listed: {line}  ({case})");
        let expected =
            [new("Mod\t13\tx0=f32", "Mod a"), new("Add\t7\tx0=f32", "Add a"), new("Add\t14\tx0=f32", "Add b")];
        assert_eq!(contradictions(&cases[..5], &results[..5], without), expected);
    }
}
