//! That the tables of cases have every operator that a rule is for, both where rows stay apart and where they do not.

use std::collections::BTreeSet;

use super::language::Case;
use super::{classical, elementwise, layout, network, products, runtime, selection, sizes};

/// Operators for which rows never stay apart.
const ALWAYS_MIXES: &[&str] = &[
    "NonZero",
    "Unique",
    "NonMaxSuppression",
    "RoiAlign",
    "MaxRoiPool",
    "MaxUnpool",
    "StringSplit",
    "ms.DynamicQuantizeMatMul",
    "ms.DynamicQuantizeLSTM",
    "DynamicQuantizeLinear",
];
/// Operators that no operand makes mix.
const NEVER_MIXES: &[&str] = &["Constant", "CastLike", "Shape", "Size"];

/// The names in the table of a file of rules.
fn named(source: &str, prefix: &str) -> BTreeSet<String> {
    let table = source.split_once("fn rule(").expect("a table").1.split_once("_ => return None").expect("its end").0;
    let names = table.split('"').skip(1).step_by(2);
    names.map(|name| format!("{prefix}{name}")).collect()
}

/// The operator of a case, without its operator set.
pub(super) fn plain(case: &Case) -> String {
    case.0.split_once(':').map_or(case.0, |(operator, _)| operator).to_owned()
}

/// The operators that there is a rule for.
pub(super) fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for source in [
        include_str!("../rules/elementwise.rs"),
        include_str!("../rules/layout.rs"),
        include_str!("../rules/indexing.rs"),
        include_str!("../rules/reduction.rs"),
        include_str!("../rules/contraction.rs"),
        include_str!("../rules/window.rs"),
        include_str!("../rules/network.rs"),
    ] {
        known.extend(named(source, ""));
    }
    known.extend(named(include_str!("../rules/classical.rs"), "ml."));
    known.extend(named(include_str!("../rules/contributed.rs"), "ms."));
    known
}

pub(super) fn cases() -> impl Iterator<Item = &'static Case> {
    let tables = [
        classical::CASES,
        elementwise::CASES,
        layout::CASES,
        network::CASES,
        products::CASES,
        runtime::CASES,
        selection::INDICES,
        selection::REDUCED,
        sizes::CASES,
    ];
    tables.into_iter().flatten()
}

#[test]
fn every_operator_with_a_rule_is_in_the_tables() {
    let known = known();
    // These have a test of their own, of both kinds.
    let listed = elementwise::UNARY.iter().chain(elementwise::SEVERAL).chain(selection::REDUCTIONS);
    let listed: BTreeSet<&str> = listed.copied().collect();
    let refused = |case: &&Case| case.3.starts_with("mixes") || case.3.starts_with("unknown");
    let apart: BTreeSet<String> = cases().filter(|case| !refused(case)).map(plain).collect();
    let together: BTreeSet<String> = cases().filter(refused).map(plain).collect();
    let wanted = |exempt: &[&str], found: &BTreeSet<String>| -> Vec<String> {
        let missing = known.iter().filter(|name| {
            !exempt.contains(&name.as_str()) && !listed.contains(name.as_str()) && !found.contains(*name)
        });
        missing.cloned().collect()
    };
    assert_eq!(wanted(ALWAYS_MIXES, &apart), Vec::<String>::new(), "no case where rows stay apart");
    assert_eq!(wanted(NEVER_MIXES, &together), Vec::<String>::new(), "no case where they do not");
    for name in listed {
        assert!(known.contains(name), "{name} has no rule");
    }
}
