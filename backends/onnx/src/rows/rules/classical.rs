//! Operators of classical machine learning, whose rows are those of a table.

use super::super::broadcast::{Part, broadcast};
use super::super::node::{Node, Operands};
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{Outcome, Place, Value, mixes, unknown};
use super::{Rule, uniform};

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "Binarizer" | "LabelEncoder" | "CategoryMapper" => each,
        "Scaler" | "Imputer" | "Normalizer" => table,
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => classifier,
        "LinearRegressor" | "SVMRegressor" | "TreeEnsembleRegressor" | "TreeEnsemble" => regressor,
        "ArrayFeatureExtractor" => extractor,
        "FeatureVectorizer" => vectorizer,
        "OneHotEncoder" => encoder,
        _ => return None,
    })
}

fn each(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    broadcast(&[operands.required(0)?], symbols).map(|value| vec![value])
}

/// A matrix of rows by features. A list is one row of it.
fn matrix(operands: Operands<'_>) -> Outcome<(Polynomial, Option<Place>)> {
    let part = Part::of(operands.required(0)?)?;
    let [rows, _] = part.shape else {
        return if part.place.is_some() {
            mixes("takes a list for a single row")
        } else {
            unknown("its operand is not a matrix")
        };
    };
    match part.place {
        Some(place) if place.axis == 1 => mixes("takes the rows for features"),
        place => Ok((rows.clone(), place.cloned())),
    }
}

fn table(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let _ = matrix(operands)?;
    broadcast(&[operands.required(0)?], symbols).map(|value| vec![value])
}

fn classifier(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let (rows, place) = matrix(operands)?;
    let labels = Value::of(vec![rows.clone()], place.clone())?;
    Ok(vec![labels, Value::of(vec![rows, symbols.fresh(Kind::Size)], place)?])
}

fn regressor(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let (rows, place) = matrix(operands)?;
    Ok(vec![Value::of(vec![rows, symbols.fresh(Kind::Size)], place)?])
}

/// Picks along the last axis. What it picks from a list has an axis in front.
fn extractor(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let by = Part::of(operands.required(1)?)?;
    let Some(count) = Polynomial::product(by.shape) else { return unknown("how many elements it picks is not known") };
    match (part.place, by.place) {
        (None, None) => Ok(vec![Value::opaque()]),
        (Some(place), None) if place.axis + 1 == part.shape.len() => mixes("picks rows by their index"),
        (Some(place), None) => {
            let mut shape = part.shape.to_vec();
            shape.pop();
            shape.push(count);
            Ok(vec![Value::of(shape, Some(place.clone()))?])
        }
        // A list of labels, of which each row names one: the result is a single row of them.
        (None, Some(rows)) if part.shape.len() == 1 && by.shape[..rows.axis].iter().all(|size| size.is(1)) => {
            Ok(vec![Value::of(vec![Polynomial::constant(1), count], Some(rows.moved(1)))?])
        }
        _ => unknown("its indices do not go along with the rows"),
    }
}

fn vectorizer(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let parts: Vec<Part<'_>> = operands.all().map(Part::of).collect::<Outcome<_>>()?;
    let place = parts.iter().find_map(|part| part.place);
    let first = parts.first().and_then(|part| part.shape.first()).cloned();
    let Some(first) = first else { return unknown("it has no operand") };
    let together = parts.iter().all(|part| part.place == place && part.shape.len() == 2 && part.shape[0] == first);
    if !together || place.is_some_and(|place| place.axis != 0) {
        return unknown("its operands do not go along with the rows");
    }
    Ok(vec![Value::of(vec![first, symbols.fresh(Kind::Size)], place.cloned())?])
}

fn encoder(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    uniform(operands, 1, "categories")?;
    let part = Part::of(operands.required(0)?)?;
    let lists = (node.integers("cats_int64s").map_or(0, <[i64]>::len), node.strings("cats_strings"));
    let width = match lists {
        (0, 0) => symbols.fresh(Kind::Size),
        (numbers, texts) => Polynomial::constant((numbers + texts) as i64),
    };
    let shape = [part.shape, &[width]].concat();
    Ok(vec![Value::of(shape, part.place.cloned())?])
}
