//! Whether shapes fit an operator, where ONNX Runtime looks and tract does not.

use super::{Operands, constant};
use crate::proto::integer_attribute;

impl Operands<'_> {
    /// Whether the node cannot be computed by the shapes of its operands: a `Split` into equal parts of what has none, the largest
    /// of no elements, a sum of more or fewer terms than there are coefficients, a `Resize` that ends between pixels, a recurrent
    /// layer whose features are not those of its weights, a reflection of more than there is. None where they are not known.
    pub(in crate::form) fn misfit(&self) -> Option<bool> {
        let attribute = |name: &str| self.node.attribute.iter().find(|attribute| attribute.name == name);
        let along = |default: i64| {
            let axis = integer_attribute(self.node, "axis").unwrap_or(default);
            let axis = if axis < 0 { axis + self.rank(0)? as i64 } else { axis };
            self.size(0, usize::try_from(axis).ok()?)
        };
        match self.node.op_type.as_str() {
            "Split" if self.count() == 1 && attribute("split").is_none() && attribute("num_outputs").is_none() => {
                along(0).map(|size| size % self.node.output.len() as i64 != 0)
            }
            // Shapes that hold a 0 are looked at anyway.
            "ArgMax" | "ArgMin" => Some(along(0) == Some(0)),
            "LinearRegressor" | "LinearClassifier" => {
                let coefficients = attribute("coefficients").map_or(0, |given| given.floats.len() as i64);
                let intercepts = attribute("intercepts").map_or(0, |given| given.floats.len() as i64);
                let sums = integer_attribute(self.node, "targets").unwrap_or(intercepts.max(1));
                let features = self.rank(0).and_then(|rank| self.size(0, rank.checked_sub(1)?));
                features.map(|features| features.checked_mul(sums) != Some(coefficients))
            }
            "RNN" | "GRU" | "LSTM" => Some(self.size(0, 2)? != self.size(1, 2)?),
            "Pad" => self.reflects_too_much(),
            "Resize" => self.ends_between_pixels(),
            _ => Some(false),
        }
    }

    /// Whether a `Pad` takes more from inside than there is beside the edge.
    fn reflects_too_much(&self) -> Option<bool> {
        let attribute = |name: &str| self.node.attribute.iter().find(|attribute| attribute.name == name);
        if attribute("mode").is_none_or(|mode| mode.s != b"reflect") {
            return Some(false);
        }
        let given = |place: usize| {
            let tensor = constant(self.fact(place)?)?.cast_to::<i64>().ok()?.into_owned();
            Some(tensor.to_plain_array_view::<i64>().ok()?.iter().copied().collect::<Vec<i64>>())
        };
        let pads = attribute("pads").map_or_else(|| given(1), |pads| Some(pads.ints.clone()))?;
        let has_axes = self.node.input.get(3).is_some_and(|name| !name.is_empty());
        let rank = self.rank(0)?;
        let axes: Vec<i64> = if has_axes { given(3)? } else { (0..rank as i64).collect() };
        let (before, after) = pads.split_at(pads.len() / 2);
        for ((axis, before), after) in
            axes.iter().zip(before).zip(after).filter(|((_, before), after)| (**before).max(**after) > 0)
        {
            let axis = if *axis < 0 { axis + rank as i64 } else { *axis };
            if *before.max(after) >= self.size(0, usize::try_from(axis).ok()?)? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Whether a `Resize` by scales makes a size that is cut off, where corners or middles are aligned: ONNX Runtime aligns those of
    /// what was not cut off.
    fn ends_between_pixels(&self) -> Option<bool> {
        let mode = self.node.attribute.iter().find(|attribute| attribute.name == "coordinate_transformation_mode");
        let aligns = mode.is_some_and(|mode| mode.s == b"align_corners" || mode.s == b"half_pixel_symmetric");
        let scales = self.node.input.get(2).filter(|name| aligns && !name.is_empty()).and_then(|_| self.fact(2));
        let Some(scales) = scales else { return Some(false) };
        let scales = constant(scales)?;
        let scales = scales.cast_to::<f32>().ok()?;
        let scales = scales.to_plain_array_view::<f32>().ok()?;
        let mut open = false;
        let axes = self.node.attribute.iter().find(|attribute| attribute.name == "axes").map(|axes| &axes.ints);
        for (place, scale) in scales.iter().enumerate().filter(|(_, scale)| scale.fract() != 0.0) {
            let axis = axes.map_or(place as i64, |axes| axes.get(place).copied().unwrap_or_default());
            let axis = if axis < 0 { axis + self.rank(0)? as i64 } else { axis };
            match self.size(0, usize::try_from(axis).ok()?) {
                Some(size) if (size as f32 * scale).fract() != 0.0 => return Some(true),
                Some(_) => {}
                None => open = true,
            }
        }
        (!open).then_some(false)
    }
}
