//! What tract is known to compute as ONNX Runtime and the specification do: the table that `tests/operators` makes.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::form::{Form, operand_name};

/// Forms of nodes of which every case of the suite passed: by operator and fields the versions of the operator.
pub(crate) struct Table(HashMap<(&'static str, &'static str), &'static str>);

impl Table {
    /// The table that is compiled in.
    pub(crate) fn embedded() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("../verified.tsv")));
        &TABLE
    }

    pub(crate) fn read(text: &'static str) -> Self {
        let columns = |line: &'static str| {
            let (operator, rest) = line.split_once('\t')?;
            let (versions, fields) = rest.split_once('\t')?;
            Some(((operator, fields), versions))
        };
        Self(text.lines().filter_map(columns).collect())
    }

    /// Whether everything that the form may stand for is verified.
    pub(crate) fn holds(&self, form: &Form) -> bool {
        form.variants().iter().all(|fields| self.has(&form.operator, form.since, fields))
    }

    fn has(&self, operator: &str, since: i64, fields: &str) -> bool {
        let versions = self.0.get(&(operator, fields)).copied().unwrap_or_default();
        versions.split(',').any(|version| version.parse() == Ok(since))
    }

    /// What of a form is not verified, in words: how it differs from the verified form that is most like it.
    pub(crate) fn condition(&self, form: &Form) -> String {
        let lacks = |fields: &String| !self.has(&form.operator, form.since, fields);
        let missing = form.variants().into_iter().find(lacks).unwrap_or_default();
        let own = Fields::of(&missing);
        let of_operator = self.0.iter().filter(|((operator, _), _)| *operator == form.operator);
        let all: Vec<(Fields<'_>, &str)> =
            of_operator.map(|((_, fields), versions)| (Fields::of(fields), *versions)).collect();
        let (operator, since) = (&form.operator, form.since);
        let in_version = |versions: &str| versions.split(',').any(|version| version.parse() == Ok(since));
        let same_version = all.iter().filter(|(_, versions)| in_version(versions)).map(|(fields, _)| fields);
        // Of several that are equally near the first by name, so that the words are always the same.
        let nearest = same_version.min_by_key(|other| (own.differences(other).len(), other.text));
        match nearest {
            None if all.is_empty() => format!("{operator} is not verified on tract"),
            None => format!("{operator} as of operator set {since} is not verified on tract"),
            Some(nearest) => {
                let said =
                    own.differences(nearest).iter().map(|name| own.words(form, name)).collect::<Vec<_>>().join(" and ");
                let said = if said.is_empty() { own.lacks(nearest) } else { said };
                format!("{operator} {said} is not verified on tract")
            }
        }
    }
}

/// The fields of a form.
struct Fields<'a> {
    text: &'a str,
    fields: HashMap<&'a str, &'a str>,
}

impl<'a> Fields<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, fields: text.split(' ').filter_map(|field| field.split_once('=')).collect() }
    }

    fn differences(&self, other: &Self) -> Vec<&'a str>
    where
        Self: 'a,
    {
        let mut names: Vec<&str> = self
            .fields
            .iter()
            .filter(|(name, value)| other.fields.get(*name) != Some(value))
            .map(|(name, _)| *name)
            .collect();
        names.sort_unstable();
        names
    }

    /// For a form that has nothing but what the other has too.
    fn lacks(&self, other: &Self) -> String {
        let mut names: Vec<&str> =
            other.fields.keys().filter(|name| !self.fields.contains_key(*name)).copied().collect();
        names.sort_unstable();
        let said = names.iter().map(|name| match name.strip_prefix('@') {
            Some(attribute) => format!("without {attribute}"),
            None => format!("without {name}"),
        });
        said.collect::<Vec<_>>().join(" and ")
    }

    fn words(&self, form: &Form, name: &str) -> String {
        words(form, name, self.fields.get(name).copied().unwrap_or_default())
    }
}

/// A field that is not verified, as it is said of an operator: "Mod *whose first operand is broadcast*".
fn words(form: &Form, name: &str, value: &str) -> String {
    match name {
        "broadcast" => match value {
            "0" => "whose first operand is broadcast".to_owned(),
            "1" => "whose second operand is broadcast".to_owned(),
            "01" => "both of whose operands are broadcast".to_owned(),
            "?" => "whose operands are of unknown shape".to_owned(),
            _ => "some of whose operands are broadcast".to_owned(),
        },
        "rank" if value.contains('?') => "whose operands are of unknown rank".to_owned(),
        "rank" => format!("on operands of rank {}", value.replace('x', " and ")),
        "outputs" => "all of whose outputs are asked for".to_owned(),
        "count" => format!("of {value} operands"),
        name => match (name.strip_prefix('@'), name.strip_prefix('x')) {
            (Some(attribute), _) => format!("with {}", attribute_words(attribute, value)),
            (None, Some("")) => format!("of {}", operand_words(value)),
            (None, Some(place)) => {
                let place = place.parse().unwrap_or(usize::MAX);
                let operand = operand_name(&form.operator, form.since, place).unwrap_or("operand");
                format!("whose {operand} is {}", operand_words(value))
            }
            (None, None) => format!("with {name} {value}"),
        },
    }
}

fn attribute_words(attribute: &str, value: &str) -> String {
    match value {
        "*" => format!("this {attribute}"),
        "+" => format!("a positive {attribute}"),
        "-" | "*-" => format!("a negative {attribute}"),
        "[]" | "none" => format!("an empty {attribute}"),
        "?" => format!("an unknown {attribute}"),
        "first" | "middle" | "last" if attribute == "axis" => format!("its {value} axis as {attribute}"),
        _ => format!("{attribute} {value}"),
    }
}

fn operand_words(value: &str) -> String {
    let (dtype, constant) = value.split_at(value.find(['c', 's', '+']).unwrap_or(value.len()));
    let dtype = match dtype {
        "-" => return "left out".to_owned(),
        "?" => "of unknown dtype",
        "dim" => "a size",
        dtype => dtype,
    };
    match constant.strip_prefix('c') {
        Some("") => format!("constant {dtype}"),
        Some(rest) => {
            let mut kinds: Vec<&str> = Vec::new();
            for (letter, kind) in [('-', "negative"), ('0', "zero"), ('L', "very large"), ('e', "empty")] {
                kinds.extend(rest.contains(letter).then_some(kind));
            }
            format!("constant {} {dtype}", if kinds.is_empty() { rest.to_owned() } else { kinds.join(" or ") })
        }
        None if constant == "s" => format!("{dtype} that follows from shapes"),
        None => dtype.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Field;

    fn form(operator: &str, fields: &[(&str, &[&str])]) -> Form {
        let field = |(name, values): &(&str, &[&str])| Field {
            name: (*name).to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        Form { operator: operator.to_owned(), since: 13, fields: fields.iter().map(field).collect() }
    }

    const TABLE: &str =
        "Mod\t13\tx0=f32 x1=f32 @fmod=1\nMod\t13\tx0=i64 x1=i64\nMod\t13\tx0=f32 x1=f32 broadcast=1 @fmod=1\n";

    #[test]
    fn what_is_not_verified_is_said_in_words() {
        let table = Table::read(TABLE);
        let verified = form("Mod", &[("x0", &["f32"]), ("x1", &["f32"]), ("broadcast", &["", "1"]), ("@fmod", &["1"])]);
        assert!(table.holds(&verified));
        let low = form("Mod", &[("x0", &["f32"]), ("x1", &["f32"]), ("broadcast", &["0"]), ("@fmod", &["1"])]);
        assert!(!table.holds(&low));
        assert_eq!(table.condition(&low), "Mod whose first operand is broadcast is not verified on tract");
        // Open dimensions that may be broadcast are not believed to be none.
        let open = form("Mod", &[("x0", &["f32"]), ("x1", &["f32"]), ("broadcast", &["", "0"]), ("@fmod", &["1"])]);
        assert!(!table.holds(&open));
        let half = form("Mod", &[("x0", &["f16"]), ("x1", &["i64c-"])]);
        let said = table.condition(&half);
        assert_eq!(said, "Mod whose A is f16 and whose B is constant negative i64 is not verified on tract");
        assert_eq!(table.condition(&form("Det", &[])), "Det is not verified on tract");
    }

    /// Each was answered wrongly, or with an error, by the version of tract that the table was made with.
    #[test]
    fn known_mistakes_are_not_in_the_table() {
        let table = Table::embedded();
        let (lines, versions) = (table.0.len(), 13);
        assert!(lines > 10_000, "{lines}");
        for (operator, since, fields) in [
            ("Mod", versions, "x0=f32 x1=f32 broadcast=0 @fmod=1"),
            ("Einsum", 12, "x0=f32 @equation=ab->"),
            ("GlobalAveragePool", 1, "x0=f16 rank=4"),
            ("ReduceMean", 18, "x0=f16 x1=i64c"),
            ("ReduceL2", versions, "x0=i64"),
            ("GatherND", versions, "x0=f32 x1=i64 rank=2x2"),
            ("IsInf", 10, "x0=f64"),
            ("SpaceToDepth", versions, "x0=f32 @mode=CRD"),
            ("Attention", 23, "x0=f32 x1=f32 x2=f32 x3=bool rank=4"),
            ("RNN", 14, "x0=f32 x1=f32c x2=f32c @direction=reverse @hidden_size=+"),
        ] {
            assert!(!table.has(operator, since, fields), "{operator} {since} {fields}");
        }
        for (operator, since, fields) in [
            ("Conv", 11, "x0=f32 x1=f32c x2=f32c rank=4 @pads=symmetric"),
            ("Clip", versions, "x0=f32 x1=f32c x2=f32c"),
            ("Softmax", versions, "x0=f32 @axis=last"),
            ("MatMul", versions, "x0=f32 x1=f32c broadcast=1 rank=3x2"),
            ("Einsum", 12, "x0=f32 x1=f32 @equation=ab,bc->ac"),
        ] {
            assert!(table.has(operator, since, fields), "{operator} {since} {fields}");
        }
    }
}
