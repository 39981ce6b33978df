//! Layers of neural networks whose operands have fixed axes: convolutions, pools, normalisations, recurrences, attention.

use super::super::broadcast::{Part, broadcast, broadcast_shapes};
use super::super::node::{Node, Operands};
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{Outcome, Place, Shape, Value, mixes, unknown};
use super::{Rule, uniform};

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" | "DeformConv" => convolution,
        "AveragePool" | "LpPool" | "MaxPool" => pool,
        "GlobalAveragePool" | "GlobalLpPool" | "GlobalMaxPool" => global_pool,
        "BatchNormalization" => batch_normalization,
        "InstanceNormalization" | "GroupNormalization" => first_axis,
        "LRN" => lrn,
        "RNN" | "GRU" | "LSTM" => recurrent,
        "DepthToSpace" | "SpaceToDepth" => blocks,
        "GridSample" | "AffineGrid" => grid,
        "Col2Im" => col2im,
        "STFT" => stft,
        "Attention" => attention,
        "RotaryEmbedding" => rotary,
        "RoiAlign" | "MaxRoiPool" => regions,
        "MaxUnpool" => unpool,
        "TfIdfVectorizer" => vectorizer,
        "StringSplit" => string_split,
        _ => return None,
    })
}

/// That rows, if there are any, are one element each along axis 0.
fn leading(part: Part<'_>) -> Outcome<Option<Place>> {
    match part.place {
        None => Ok(None),
        Some(place) if place.axis == 0 => Ok(Some(place.clone())),
        Some(_) => mixes("its kernel covers several rows"),
    }
}

pub(super) fn convolution(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let quantised = node.operator() == "QLinearConv";
    let part = Part::of(operands.required(0)?)?;
    let weights_at = if quantised { 3 } else { 1 };
    let deforms = node.operator() == "DeformConv";
    for index in 1..node.operands() {
        // Offsets and masks of a deformable convolution are each row's own.
        if deforms && matches!(index, 2 | 4) {
            let own = operands.get(index).map(Part::of).transpose()?;
            if own.is_some_and(|own| own.place != part.place) {
                return unknown("its offsets do not go along with the rows");
            }
            continue;
        }
        uniform(operands, index, "kernel, or a parameter of it,")?;
    }
    let place = leading(part)?;
    let weights = operands.required(weights_at)?.shape()?;
    if part.shape.len() < 3 || weights.len() != part.shape.len() {
        return unknown("its operands do not fit");
    }
    let channels = if node.operator() == "ConvTranspose" {
        weights[1]
            .times(&Polynomial::constant(node.integer_or("group", 1)))
            .unwrap_or_else(|| symbols.fresh(Kind::Size))
    } else {
        weights[0].clone()
    };
    let mut shape = vec![part.shape[0].clone(), channels];
    let kernel = &weights[2..];
    let transposed = node.operator() == "ConvTranspose";
    for (axis, size) in part.shape[2..].iter().enumerate() {
        let width = kernel[axis].as_constant().filter(|_| !transposed);
        let known = width.and_then(|width| windows(node, axis, size, width));
        shape.push(known.unwrap_or_else(|| {
            symbols.named(
                format!("conv {size:?} {} {axis} {:?} {:?}", node.operator(), kernel[axis], settings(node)),
                Kind::Size,
            )
        }));
    }
    Ok(vec![Value::of(shape, place)?])
}

/// The settings of a window that its number of places depends on, for the name of a size.
fn settings(node: &Node<'_>) -> impl std::fmt::Debug {
    let lists = ["strides", "pads", "dilations", "output_shape", "output_padding", "kernel_shape"]
        .map(|name| node.integers(name).map(<[i64]>::to_vec));
    (lists, node.text("auto_pad").map(str::to_owned), node.integer("ceil_mode"))
}

/// How many places a window of `kernel` elements has along an axis of a known size.
fn windows(node: &Node<'_>, axis: usize, size: &Polynomial, kernel: i64) -> Option<Polynomial> {
    let at = |name: &str, index: usize, default: i64| {
        node.integers(name).map_or(Some(default), |values| values.get(index).copied())
    };
    let (stride, dilation) = (at("strides", axis, 1)?, at("dilations", axis, 1)?);
    if stride <= 0 {
        return None;
    }
    match node.text("auto_pad").unwrap_or("NOTSET") {
        "SAME_UPPER" | "SAME_LOWER" if stride == 1 => return Some(size.clone()),
        "SAME_UPPER" | "SAME_LOWER" => {
            return Some(Polynomial::constant(size.as_constant()?.checked_add(stride - 1)? / stride));
        }
        "VALID" if node.is_set("ceil_mode") => return None,
        "NOTSET" | "VALID" => {}
        _ => return None,
    }
    let spatial = node.integers("pads").map_or(0, |pads| pads.len() / 2);
    let pads = if spatial == 0 { 0 } else { at("pads", axis, 0)?.checked_add(at("pads", axis + spatial, 0)?)? };
    let extent = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
    if stride == 1 {
        return size.plus(&Polynomial::constant(pads.checked_sub(extent)?.checked_add(1)?));
    }
    let room = size.as_constant()?.checked_add(pads)?.checked_sub(extent)?;
    if room < 0 {
        return None;
    }
    let rounded = if node.is_set("ceil_mode") {
        // A last window that would begin in the padding at the end is left out.
        let count = room.checked_add(stride - 1)? / stride;
        let before = if spatial == 0 { 0 } else { at("pads", axis, 0)? };
        if count.checked_mul(stride)? >= size.as_constant()?.checked_add(before)? { count - 1 } else { count }
    } else {
        room / stride
    };
    Some(Polynomial::constant(rounded + 1))
}

fn pool(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    // Each channel is pooled by itself, too.
    if part.place.is_some_and(|place| place.axis > 1) {
        return mixes("its kernel covers several rows");
    }
    if node.results() > 1 && part.place.is_some() {
        return mixes("its indices count the elements of all rows");
    }
    let mut shape: Shape = part.shape.iter().take(2).cloned().collect();
    for (axis, size) in part.shape.iter().skip(2).enumerate() {
        let kernel = node.integers("kernel_shape").and_then(|kernel| kernel.get(axis)).copied();
        let known = kernel.and_then(|kernel| windows(node, axis, size, kernel));
        shape.push(
            known.unwrap_or_else(|| symbols.named(format!("pool {size:?} {axis} {:?}", settings(node)), Kind::Size)),
        );
    }
    Ok(vec![Value::of(shape, part.place.cloned())?; node.results()])
}

fn global_pool(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    if part.place.is_some_and(|place| place.axis > 1) {
        return mixes("pools the rows");
    }
    let shape =
        part.shape.iter().enumerate().map(|(axis, size)| if axis > 1 { Polynomial::constant(1) } else { size.clone() });
    Ok(vec![Value::of(shape.collect(), part.place.cloned())?])
}

fn batch_normalization(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    /// Since this operator set an attribute says whether it trains; before, its results did.
    const TRAINING_MODE: i64 = 14;
    let part = Part::of(operands.required(0)?)?;
    for index in 1..5 {
        uniform(operands, index, "statistics")?;
    }
    let trains = node.is_set("training_mode")
        || (node.opset < TRAINING_MODE && node.results() > 1)
        || (node.opset < 7 && !node.is_set("is_test"));
    if part.place.is_some() && trains {
        return mixes("normalises by the mean of all rows");
    }
    if part.place.is_some_and(|place| place.axis == 1) {
        return unknown("the rows are its channels");
    }
    let value = Value::of(part.shape.to_vec(), part.place.cloned())?;
    Ok(std::iter::once(value).chain((1..node.results()).map(|_| Value::opaque())).collect())
}

/// Axis 0 is the batch, and the others belong to one row.
fn first_axis(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    for index in 1..node.operands() {
        uniform(operands, index, "scale or bias")?;
    }
    let place = leading(part)?;
    Ok(vec![Value::of(part.shape.to_vec(), place)?])
}

fn lrn(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    if part.place.is_some_and(|place| place.axis == 1) {
        return mixes("normalises over the rows");
    }
    Ok(vec![Value::of(part.shape.to_vec(), part.place.cloned())?])
}

fn recurrent(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let batch_first = node.is_set("layout");
    let [first, second, _] = part.shape else {
        return unknown("its operand has other axes than steps, batch and features");
    };
    let (batch_axis, steps, batch) = if batch_first { (0, second, first) } else { (1, first, second) };
    // Weights and peepholes are the same for all; lengths and states go along with the rows.
    for index in [1, 2, 3, 7] {
        uniform(operands, index, "weights")?;
    }
    let mut place = part.place.cloned();
    if place.as_ref().is_some_and(|place| place.axis != batch_axis) {
        return mixes("goes through the rows step by step");
    }
    for (index, axis) in [(4, 0), (5, usize::from(!batch_first)), (6, usize::from(!batch_first))] {
        let Some(own) = operands.get(index) else { continue };
        let own = Part::of(own)?;
        match (own.place, &place) {
            (None, None) => {}
            (Some(rows), Some(place))
                if rows.axis == axis && rows.outer == place.outer && own.shape.get(axis) == Some(batch) => {}
            (Some(rows), None) if rows.axis == axis => place = Some(rows.moved(batch_axis)),
            _ => return unknown("its lengths or states do not go along with the rows"),
        }
    }
    let directions = Polynomial::constant(if node.text("direction") == Some("bidirectional") { 2 } else { 1 });
    let hidden = match node.integer("hidden_size") {
        Some(size) => Polynomial::constant(size),
        None => operands.required(2)?.shape()?.last().cloned().unwrap_or_else(|| symbols.fresh(Kind::Size)),
    };
    let (all, last): (Shape, Shape) = if batch_first {
        (
            vec![batch.clone(), steps.clone(), directions.clone(), hidden.clone()],
            vec![batch.clone(), directions, hidden],
        )
    } else {
        (
            vec![steps.clone(), directions.clone(), batch.clone(), hidden.clone()],
            vec![directions, batch.clone(), hidden],
        )
    };
    let at = |axis: usize| place.as_ref().map(|place| place.moved(axis));
    let (all, last) =
        (Value::of(all, at(if batch_first { 0 } else { 2 }))?, Value::of(last, at(usize::from(!batch_first)))?);
    Ok([all, last.clone(), last].into_iter().take(node.results()).collect())
}

fn blocks(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let place = leading(part)?;
    let [rows, channels, height, width] = part.shape else { return unknown("its operand has other than 4 axes") };
    let block = Polynomial::constant(node.integer_or("blocksize", 1));
    let area = block.times(&block);
    let to_space = node.operator() == "DepthToSpace";
    let mut scaled = |size: &Polynomial, by: Option<&Polynomial>, grows: bool| {
        let result = by.and_then(|by| if grows { size.times(by) } else { size.divided_by(by) });
        result.unwrap_or_else(|| symbols.named(format!("block {size:?} {by:?} {grows}"), Kind::Size))
    };
    let shape = vec![
        rows.clone(),
        scaled(channels, area.as_ref(), !to_space),
        scaled(height, Some(&block), to_space),
        scaled(width, Some(&block), to_space),
    ];
    Ok(vec![Value::of(shape, place)?])
}

fn grid(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let place = leading(part)?;
    if node.operator() == "AffineGrid" {
        let size = super::layout::target(operands.required(1)?, symbols)?;
        let (Some(first), Some(rest)) = (size.first(), size.get(2..)) else { return unknown("its size is too short") };
        if part.place.is_some() && *first != part.shape[0] {
            return mixes("makes another number of grids than there are rows");
        }
        let shape = [std::slice::from_ref(first), rest, &[Polynomial::constant(rest.len() as i64)]].concat();
        return Ok(vec![Value::of(shape, place)?]);
    }
    let places = Part::of(operands.required(1)?)?;
    if places.shape.len() < 3 || places.shape.len() != part.shape.len() {
        return unknown("its operands do not fit");
    }
    if places.place != part.place || places.shape[0] != part.shape[0] {
        return unknown("its grid does not go along with the rows");
    }
    let shape = [&part.shape[..2], &places.shape[1..places.shape.len() - 1]].concat();
    Ok(vec![Value::of(shape, place)?])
}

fn col2im(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    uniform(operands, 1, "shape")?;
    uniform(operands, 2, "block")?;
    let place = leading(part)?;
    let sizes = operands.required(1)?.elements().map(<[Polynomial]>::to_vec);
    let Some(sizes) = sizes else { return unknown("the shape that it makes is not known") };
    if part.shape.len() != 3 {
        return unknown("its operand has other than 3 axes");
    }
    let shape = [&[part.shape[0].clone(), symbols.fresh(Kind::Size)], sizes.as_slice()].concat();
    Ok(vec![Value::of(shape, place)?])
}

fn stft(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    for index in 1..node.operands() {
        uniform(operands, index, "frame")?;
    }
    let place = leading(part)?;
    if part.shape.len() < 2 {
        return unknown("its operand is no batch of signals");
    }
    let shape =
        vec![part.shape[0].clone(), symbols.fresh(Kind::Size), symbols.fresh(Kind::Size), Polynomial::constant(2)];
    Ok(vec![Value::of(shape, place)?])
}

/// Queries, keys, values, a mask that is broadcast, and what is remembered: axis 0 is the batch of all.
fn attention(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let [queries, keys, values] = [0, 1, 2].map(|index| operands.required(index).and_then(Part::of));
    let (queries, keys, values) = (queries?, keys?, values?);
    if [queries, keys, values].iter().any(|part| !matches!(part.shape.len(), 3 | 4)) {
        return unknown("its operands have other than 3 or 4 axes");
    }
    let past = [4, 5, 6].map(|index| operands.get(index).map(Part::of).transpose());
    let [past_keys, past_values, lengths] = past;
    let together = [Some(queries), Some(keys), Some(values), past_keys?, past_values?, lengths?];
    let place = leading(queries)?;
    for own in together.into_iter().flatten() {
        if own.place != place.as_ref() || own.shape.first() != queries.shape.first() {
            return if own.place.is_some_and(|place| place.axis != 0) {
                mixes("attends over the rows")
            } else {
                unknown("its operands do not go along with the rows")
            };
        }
    }
    let heads = |part: Part<'_>, attribute: &str| match part.shape {
        [_, heads, ..] if part.shape.len() == 4 => Some(heads.clone()),
        _ => node.integer(attribute).map(Polynomial::constant),
    };
    let (Some(query_heads), Some(key_heads)) = (heads(queries, "q_num_heads"), heads(keys, "kv_num_heads")) else {
        return unknown("how many heads it has is not known");
    };
    let steps = |part: Part<'_>| part.shape[part.shape.len() - 2].clone();
    let total = symbols.fresh(Kind::Size);
    if let Some(mask) = operands.get(3) {
        // The mask is broadcast to batch, heads, queries and keys.
        let mask = Part::of(mask)?;
        let scores = [queries.shape[0].clone(), query_heads.clone(), steps(queries), total.clone()];
        let (_, masked) = broadcast_shapes(&[Part { shape: &scores, place: place.as_ref() }, mask], symbols)?;
        if masked != place {
            return mixes("its mask brings rows together");
        }
    }
    let batch = &queries.shape[0];
    // One head's width: of stacks of heads, and of those that lie side by side.
    let mut width = |part: Part<'_>, heads: &Polynomial| {
        let last = &part.shape[part.shape.len() - 1];
        let own = if part.shape.len() == 4 { Some(last.clone()) } else { last.divided_by(heads) };
        own.unwrap_or_else(|| symbols.fresh(Kind::Size))
    };
    let (key_width, value_width) = (width(keys, &key_heads), width(values, &key_heads));
    let result = if queries.shape.len() == 4 {
        vec![batch.clone(), query_heads.clone(), steps(queries), value_width.clone()]
    } else {
        let all = query_heads.times(&value_width).unwrap_or_else(|| symbols.fresh(Kind::Size));
        vec![batch.clone(), steps(queries), all]
    };
    let remembered = |width: Polynomial| vec![batch.clone(), key_heads.clone(), total.clone(), width];
    let scores = vec![batch.clone(), query_heads, steps(queries), total.clone()];
    let all = [result, remembered(key_width), remembered(value_width), scores];
    all.into_iter().take(node.results()).map(|shape| Value::of(shape, place.clone())).collect()
}

fn rotary(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let part = Part::of(value)?;
    let place = leading(part)?;
    // With positions, of which each row has its own, the tables are the same for all; without, each row has its own tables.
    let has_positions = operands.get(3).is_some();
    for index in [1, 2, 3] {
        if index < 3 && has_positions {
            uniform(operands, index, "table")?;
            continue;
        }
        let Some(own) = operands.get(index) else { continue };
        let own = Part::of(own)?;
        if own.place != place.as_ref() || own.shape.first() != part.shape.first() {
            return unknown("its tables do not go along with the rows");
        }
    }
    broadcast(&[value], symbols).map(|value| vec![value])
}

fn regions(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let _ = operands.required(0)?;
    mixes("its regions name pictures by their index")
}

fn unpool(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let _ = operands.required(0)?;
    mixes("its indices count the elements of all rows")
}

fn vectorizer(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let [rows, _] = part.shape else { return unknown("its operand is not a list of rows") };
    let place = leading(part)?;
    Ok(vec![Value::of(vec![rows.clone(), symbols.fresh(Kind::Size)], place)?])
}

fn string_split(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let _ = operands.required(0)?;
    mixes("makes as many pieces for each row as the row with the most has")
}
