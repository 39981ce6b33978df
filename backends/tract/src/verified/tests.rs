//! The table on forms whose outcome is known, and what is said of those that it does not hold.

use super::*;
use crate::form::Field;

fn form(operator: &str, since: i64, fields: &[(&str, &[&str])]) -> Form {
    let field = |(name, values): &(&str, &[&str])| Field {
        name: (*name).to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    Form { operator: operator.to_owned(), since, fields: fields.iter().map(field).collect(), fit_is_open: false }
}

/// A form as a line of the table has it.
fn written(operator: &str, since: i64, text: &str) -> Form {
    let field = |(name, value): (&str, &str)| Field { name: name.to_owned(), values: vec![value.to_owned()] };
    Form {
        operator: operator.to_owned(),
        since,
        fields: operator::fields(text).into_iter().map(field).collect(),
        fit_is_open: false,
    }
}

const TABLE: &str = "Mod\t10,13\t\tx0=f32 x1=f32 @fmod=1
Mod\t13\t\tx0=i64 x1=i64
Mod\t13\t\tx0=f32 x1=f32 broadcast=1 @fmod=1
Mod\t\t13\tx0=f32 x1=f32 broadcast=0 @fmod=1
";

#[test]
fn what_is_not_verified_is_said_in_words() {
    let table = Table::read(TABLE);
    let floats = |broadcast: &[&str]| {
        form("Mod", 13, &[("x0", &["f32"]), ("x1", &["f32"]), ("broadcast", broadcast), ("@fmod", &["1"])])
    };
    assert_eq!(table.doubt(&floats(&["", "1"])), None);
    let low = "Mod whose A is broadcast is not verified on tract";
    assert_eq!(table.doubt(&floats(&["0"])).as_deref(), Some(low));
    // Open dimensions that may be broadcast are not believed to be none.
    assert_eq!(table.doubt(&floats(&["", "0"])).as_deref(), Some(low));
    let said = |text: &str| table.doubt(&written("Mod", 13, text)).expect("a doubt");
    assert_eq!(said("x0=f16 x1=f32 @fmod=1"), "Mod whose A is FP16 is not verified on tract");
    assert_eq!(said("x0=f32 x1=i64"), "Mod whose A is FP32 and whose B is INT64 is not verified on tract");
    assert_eq!(said("x0=i64 x1=i64 @kind=1"), "Mod with kind 1 is not verified on tract");
    assert_eq!(said("x0=? x1=i64"), "Mod whose A is of unknown dtype is not verified on tract");
    let many = Table::read("Concat\t13\t\tx=f32 count=2\n").doubt(&written("Concat", 13, "x=?+f32 count=2"));
    assert_eq!(many.as_deref(), Some("Concat of operands of unknown dtype is not verified on tract"));
    let unknown = "Mod whose operands are of unknown shape is not verified on tract";
    assert_eq!(said("x0=f32 x1=f32 broadcast=? @fmod=1"), unknown);
    assert_eq!(table.doubt(&written("Det", 11, "x0=f32")).as_deref(), Some("Det is not verified on tract"));
    let newer = table.doubt(&written("Mod", 22, "x0=i64 x1=i64"));
    assert_eq!(newer.as_deref(), Some("Mod as of operator set 22 is not verified on tract"));
}

#[test]
fn what_covers_all_pairs_is_trusted_unless_a_fault_beside_it_is_not_explained() {
    const COVERED: &str = "Op\t1\t\tx0=f32 @a=1
Op\t1\t\tx0=f32 @b=1
Op\t1\t\tx0=f64 @a=1 @b=1
Op\t1\t\tx0=f64
Op\t1\t\tx0=f32
";
    let ask = |text: &'static str| Table::read(text).doubt(&written("Op", 1, "x0=f32 @a=1 @b=1"));
    assert_eq!(ask(COVERED), None);
    // A fault that has a pair of its own says nothing of the form beside it; one of three conditions may.
    let of_pair = format!("{COVERED}Op\t\t1\tx0=f32 @a=1 @b=2\n").leak();
    assert_eq!(ask(of_pair), None);
    let others = "Op\t1\t\tx0=f16 @a=1\nOp\t1\t\tx0=f16 @b=1\nOp\t1\t\tx0=f16\nOp\t\t1\tx0=f16 @a=1 @b=1\n";
    assert!(ask(format!("{COVERED}{others}").leak()).is_some());
}

#[test]
fn what_is_unknown_must_be_right_whatever_it_is() {
    let table = Table::read(TABLE);
    let ask = |text: &str| table.doubt(&written("Mod", 13, text));
    assert!(ask("x0=f32 x1=f32 broadcast=? @fmod=1").is_some());
    let ranks = Table::read("MatMul\t13\t\tx0=f32 x1=f32 rank=2x2\nMatMul\t\t13\tx0=f32 x1=f32 rank=3x1\n");
    let ask = |rank: &str| ranks.doubt(&written("MatMul", 13, &format!("x0=f32 x1=f32 rank={rank}")));
    assert_eq!(ask("2x?"), None);
    assert!(ask("?x?").is_some());
    assert!(ask("4x?").is_some());
}

/// Each was answered wrongly, or with an error, by the version of tract that the table was made with.
#[test]
fn known_mistakes_are_not_in_the_table() {
    let table = Table::embedded();
    let (lines, since) = (table.lines.values().map(Vec::len).sum::<usize>(), 13);
    assert!(lines > 10_000, "{lines}");
    for (operator, since, fields) in [
        ("Mod", since, "x0=f32 x1=f32 broadcast=0 @fmod=1"),
        ("GlobalAveragePool", 1, "x0=f16 rank=4"),
        ("ReduceMean", 18, "x0=f16 x1=i64c"),
        ("ReduceL2", since, "x0=i64"),
        ("IsInf", 10, "x0=f64"),
        ("SpaceToDepth", since, "x0=f32 @mode=CRD"),
        ("Attention", 23, "x0=f32 x1=f32 x2=f32 x3=bool rank=4"),
        ("ReduceSumSquare", since, "x0=i64"),
        ("RNN", 14, "x0=f32 x1=f32c x2=f32c @direction=reverse @hidden_size=+"),
    ] {
        assert!(table.doubt(&written(operator, since, fields)).is_some(), "{operator} {since} {fields}");
    }
    for (operator, since, fields) in [
        ("Conv", 11, "x0=f32 x1=f32c x2=f32c rank=4 @pads=symmetric"),
        ("Clip", since, "x0=f32 x1=f32c x2=f32c"),
        ("Softmax", since, "x0=f32 @axis=last"),
        ("MatMul", since, "x0=f32 x1=f32c broadcast=1 rank=3x2"),
        ("Einsum", 12, "x=f32 count=2 @equation=ab,bc->ac"),
    ] {
        assert_eq!(table.doubt(&written(operator, since, fields)), None, "{operator} {since} {fields}");
    }
}

#[test]
fn every_field_of_the_table_has_words() {
    let mut seen = std::collections::HashSet::new();
    for (operator, lines) in &Table::embedded().lines {
        for line in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            let versions = format!("{},{}", columns[0], columns[1]);
            let since = versions.split(',').find_map(|version| version.parse().ok()).expect("a version");
            for (name, value) in operator::fields(columns[2]).into_iter().filter(|field| !field.1.contains('?')) {
                if seen.insert((*operator, name, value)) {
                    let said = words::words(&written(operator, since, ""), name, value);
                    let letters = said.split([' ', ',']).filter(|word| word.len() == 1);
                    let is_code = |word: &str| ["c", "s", "m", "n", "*", "+", "-", "~", "e", "L", "f"].contains(&word);
                    let codes: Vec<&str> = letters.filter(|word| is_code(word)).collect();
                    let strange = said.contains("  ") || said.ends_with(' ') || !codes.is_empty();
                    assert!(!strange, "{operator} {name}={value}: '{said}'");
                }
            }
        }
    }
}
