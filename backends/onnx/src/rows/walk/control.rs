//! Branches, loops and scans: bodies that are followed with what is known of the values that come into them.

use std::borrow::Cow;

use super::super::node::{Node, Operands};
use super::super::polynomial::{Kind, Polynomial};
use super::super::value::{Outcome, Place, Refusal, Rows, Shape, Value, axis_of, mixes, unknown};
use super::{Given, Reason, Scope, Walk};

/// How often a loop's body is followed until what it carries does not change any more.
const MAX_ROUNDS: usize = 4;

impl Walk<'_> {
    pub(super) fn branches(
        &mut self,
        node: &Node<'_>,
        operands: Operands<'_>,
        scope: &Scope<'_>,
        given: &Given<'_>,
    ) -> Outcome<Vec<Value>> {
        // Each node has a number of its own, which names the sizes that it makes.
        let at = self.steps;
        let condition = operands.required(0)?;
        let (Some(yes), Some(no)) = (node.graph("then_branch"), node.graph("else_branch")) else {
            return unknown("a branch is missing");
        };
        if let Some([chosen]) = condition.constants().as_deref() {
            let taken = if *chosen != 0 { yes } else { no };
            return Ok(self.graph(taken, Vec::new(), Some(scope), given));
        }
        if !condition.is_same() {
            return mixes("one branch is taken for all rows, by a condition that comes from them");
        }
        let yes = self.graph(yes, Vec::new(), Some(scope), given);
        let no = self.graph(no, Vec::new(), Some(scope), given);
        yes.into_iter().zip(no).enumerate().map(|(index, (yes, no))| self.either(yes, no, (at, index))).collect()
    }

    /// What is known of a value that is one or the other: sizes that differ are a symbol of this place.
    fn either(&mut self, one: Value, two: Value, at: (usize, usize)) -> Outcome<Value> {
        if one == two {
            return Ok(one);
        }
        if matches!(one.rows, Rows::Lost(_)) {
            return Ok(one);
        }
        if matches!(two.rows, Rows::Lost(_)) {
            return Ok(two);
        }
        let place = match (one.place(), two.place()) {
            (None, None) if one.is_same() && two.is_same() => None,
            (Some(one), Some(two)) if one == two => Some(one.clone()),
            _ => return unknown("its rows are now here and now there"),
        };
        let (Some(one), Some(two)) = (one.shape, two.shape) else { return Ok(Value::opaque()) };
        if one.len() != two.len() {
            return if place.is_none() { Ok(Value::opaque()) } else { unknown("its shape is now this and now that") };
        }
        let size = |(axis, (one, two)): (usize, (Polynomial, Polynomial))| match one == two {
            true => Ok(one),
            false if place.as_ref().is_some_and(|place| place.axis == axis) => {
                unknown("its rows are now wider and now narrower")
            }
            false => Ok(self.symbols.named(format!("either {at:?} {axis}"), Kind::Size)),
        };
        let shape: Shape = one.into_iter().zip(two).enumerate().map(size).collect::<Outcome<_>>()?;
        Value::of(shape, place)
    }

    pub(super) fn repeated(
        &mut self,
        node: &Node<'_>,
        operands: Operands<'_>,
        scope: &Scope<'_>,
        given: &Given<'_>,
    ) -> Outcome<Vec<Value>> {
        let Some(body) = node.graph("body") else { return unknown("its body is missing") };
        for index in [0, 1] {
            if operands.get(index).is_some_and(|value| !value.is_same()) {
                return mixes("how often it repeats comes from the rows");
            }
        }
        let first = operands.0.get(2..).unwrap_or_default().iter().map(|value| value.as_ref().map(without_numbers));
        let Some(first) = first.collect::<Option<Vec<Value>>>() else { return unknown("what it carries is left out") };
        let mut carried = first.clone();
        let at = self.steps;
        let names = body.input.iter().map(|input| input.name.as_str());
        for _ in 0..MAX_ROUNDS {
            // The turn and the condition: both are the same for all rows, as was just seen.
            let single = || Value { shape: Some(Vec::new()), ..Value::opaque() };
            let values = [single(), single()].into_iter().chain(carried.iter().cloned());
            let inputs = names.clone().map(Cow::Borrowed).zip(values).collect();
            let mut results = self.graph(body, inputs, Some(scope), given);
            if results.len() <= carried.len() {
                return unknown("its body has other results than it carries");
            }
            let collected = results.split_off(carried.len() + 1);
            let goes_on = results.remove(0);
            if !goes_on.is_same() {
                return match goes_on.rows {
                    Rows::Lost(reason) => Err(self.refusal(reason)),
                    _ => mixes("how often it repeats comes from the rows"),
                };
            }
            let joined = carried.iter().cloned().zip(results).enumerate();
            let joined =
                joined.map(|(index, (before, after))| self.either(before, without_numbers(&after), (at, index)));
            let joined: Vec<Value> = joined.collect::<Outcome<_>>()?;
            if joined == carried {
                let size = self.symbols.fresh(Kind::Size);
                let collected = collected.into_iter().map(|value| self.collected(&value, 0, &size)).collect();
                return self.finished(&first, joined, collected);
            }
            carried = joined;
        }
        unknown("what it carries changes its shape in each turn")
    }

    fn refusal(&self, reason: usize) -> Refusal {
        match self.reasons.get(reason) {
            Some(Reason { culprit, mixes: true }) => Refusal::Mixes(culprit.to_string()),
            Some(Reason { culprit, .. }) => Refusal::Unknown(culprit.to_string()),
            None => Refusal::Unknown(String::new()),
        }
    }

    /// The results of all turns one after the other, along a new axis.
    fn collected(&mut self, value: &Value, axis: usize, size: &Polynomial) -> Outcome<Value> {
        if value.rows == Rows::Count {
            return mixes("collects the number of rows");
        }
        if value.is_numbered() {
            return mixes("numbers the rows");
        }
        if let Rows::Lost(reason) = value.rows {
            return Ok(Value::lost(reason));
        }
        let Some(shape) = &value.shape else { return Ok(Value::opaque()) };
        if axis > shape.len() {
            return unknown("its axis is outside of its result");
        }
        let mut shape = shape.clone();
        shape.insert(axis, size.clone());
        let place = value.place().map(|place: &Place| place.moved(place.axis + usize::from(place.axis >= axis)));
        Value::of(shape, place)
    }

    pub(super) fn scanned(
        &mut self,
        node: &Node<'_>,
        operands: Operands<'_>,
        scope: &Scope<'_>,
        given: &Given<'_>,
    ) -> Outcome<Vec<Value>> {
        /// Before this operator set a scan had a batch of its own.
        const WITHOUT_BATCH: i64 = 9;
        let (Some(body), Some(count)) =
            (node.graph("body"), node.integer("num_scan_inputs").and_then(|count| usize::try_from(count).ok()))
        else {
            return unknown("its body is missing");
        };
        if node.opset < WITHOUT_BATCH {
            return unknown("is a scan of an old operator set");
        }
        let all: Option<Vec<&Value>> = operands.0.iter().map(Option::as_ref).collect();
        let Some(all) = all else { return unknown("what it carries is left out") };
        let Some((states, scanned)) = all.len().checked_sub(count).map(|states| all.split_at(states)) else {
            return unknown("it has fewer operands than it scans");
        };
        let axes = node.integers("scan_input_axes").unwrap_or_default();
        let slices =
            scanned.iter().enumerate().map(|(index, value)| slice(value, axes.get(index).copied().unwrap_or(0)));
        let slices: Vec<Value> = slices.collect::<Outcome<_>>()?;
        let first: Vec<Value> = states.iter().map(|value| without_numbers(value)).collect();
        let mut carried = first.clone();
        let scanned_axis = axes.first().copied().unwrap_or(0);
        let turns = scanned.first().and_then(|value| {
            let shape = value.shape.as_ref()?;
            shape.get(axis_of(scanned_axis, shape.len()).ok()?).cloned()
        });
        let turns = turns.unwrap_or_else(|| self.symbols.fresh(Kind::Size));
        let at = self.steps;
        let names = body.input.iter().map(|input| Cow::Borrowed(input.name.as_str()));
        for _ in 0..MAX_ROUNDS {
            let inputs = names.clone().zip(carried.iter().chain(&slices).cloned()).collect();
            let mut results = self.graph(body, inputs, Some(scope), given);
            if results.len() < carried.len() {
                return unknown("its body has other results than it carries");
            }
            let behind = results.split_off(carried.len());
            let joined = carried.iter().cloned().zip(results).enumerate();
            let joined =
                joined.map(|(index, (before, after))| self.either(before, without_numbers(&after), (at, index)));
            let joined: Vec<Value> = joined.collect::<Outcome<_>>()?;
            if joined == carried {
                let axes = node.integers("scan_output_axes").unwrap_or_default();
                let collected = behind.into_iter().enumerate().map(|(index, value)| {
                    let rank = value.shape.as_ref().map_or(0, Vec::len) + 1;
                    let axis = axis_of(axes.get(index).copied().unwrap_or(0), rank)?;
                    self.collected(&value, axis, &turns)
                });
                let collected = collected.collect();
                return self.finished(&first, joined, collected);
            }
            carried = joined;
        }
        unknown("what it carries changes its shape in each turn")
    }

    /// The results of a loop. A size that changes from turn to turn is, at the end, another than in the turns before.
    fn finished(
        &mut self,
        first: &[Value],
        carried: Vec<Value>,
        collected: Outcome<Vec<Value>>,
    ) -> Outcome<Vec<Value>> {
        let mut results = Vec::with_capacity(carried.len());
        for (first, mut last) in first.iter().zip(carried) {
            if let (Some(before), Some(after)) = (&first.shape, &mut last.shape) {
                for (before, after) in before.iter().zip(after) {
                    if before != after {
                        *after = self.symbols.fresh(Kind::Size);
                    }
                }
            }
            results.push(last);
        }
        results.extend(collected?);
        Ok(results)
    }
}

/// One element of an axis.
fn slice(value: &Value, axis: i64) -> Outcome<Value> {
    if value.rows == Rows::Count {
        return mixes("goes through the number of rows");
    }
    if value.is_numbered() {
        return mixes("numbers the rows");
    }
    let mut shape = value.shape()?.to_vec();
    let axis = axis_of(axis, shape.len())?;
    if value.place().is_some_and(|place| place.axis == axis) {
        return mixes("goes through the rows one after the other");
    }
    shape.remove(axis);
    Value::of(shape, value.place().map(|place| place.moved(place.axis - usize::from(place.axis > axis))))
}

/// Numbers that change in each turn of a loop are not followed.
fn without_numbers(value: &Value) -> Value {
    match value.rows {
        Rows::Same => Value { numbers: None, ..value.clone() },
        _ => value.clone(),
    }
}
