//! Which part of a picture is resized to what, and where that goes: pure arithmetic.

use crate::orientation::Area;
use crate::plan::Fit;
use crate::size::Size;

/// The outcome of fitting one picture, seen turned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placement {
    /// The part that is resized. Fractions are exact positions, not to be rounded.
    pub(crate) source: Area,
    /// What it is resized to.
    pub(crate) target: Size,
    /// Where the target begins in the tensor.
    pub(crate) offset: (u32, u32),
}

/// Fits a picture of `given` pixels.
pub(crate) fn place(fit: &Fit, given: Size) -> Placement {
    let (width, height) = (f64::from(given.width), f64::from(given.height));
    let whole = Area { left: 0.0, top: 0.0, width, height };
    match *fit {
        Fit::Stretch(target) => Placement { source: whole, target, offset: (0, 0) },
        Fit::CenterCrop { shorter, size } => {
            // Cropping the resized picture is resizing a part of it: pixels that nobody keeps are not computed.
            let short_given = given.width.min(given.height);
            let scaled = |side: u32| (u64::from(side) * u64::from(shorter) / u64::from(short_given)) as f64;
            let along = |side: u32, kept: u32| {
                let all = scaled(side);
                let first = ((all - f64::from(kept)) / 2.0).round_ties_even();
                let ratio = f64::from(side) / all;
                (first * ratio, f64::from(kept) * ratio)
            };
            let ((left, width), (top, height)) = (along(given.width, size.width), along(given.height, size.height));
            Placement { source: Area { left, top, width, height }, target: size, offset: (0, 0) }
        }
        Fit::Letterbox { size, .. } => {
            let ratio = (f64::from(size.width) / width).min(f64::from(size.height) / height);
            let side = |given: f64, most: u32| ((given * ratio).round() as u32).clamp(1, most);
            let target = Size::new(side(width, size.width), side(height, size.height));
            let offset = ((size.width - target.width) / 2, (size.height - target.height) / 2);
            Placement { source: whole, target, offset }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centre_crop_is_resize_then_crop() {
        // 640x480 to a shorter side of 256 is 341x256; the crop of 224 begins at (58, 16).
        let fit = Fit::CenterCrop { shorter: 256, size: Size::new(224, 224) };
        let placed = place(&fit, Size::new(640, 480));
        assert!((placed.source.left - 58.0 * 640.0 / 341.0).abs() < 1e-9);
        assert!((placed.source.width - 224.0 * 640.0 / 341.0).abs() < 1e-9);
        assert!((placed.source.top - 16.0 * 480.0 / 256.0).abs() < 1e-9);
        assert_eq!((placed.target, placed.offset), (Size::new(224, 224), (0, 0)));
    }

    #[test]
    fn letterbox_centres_and_never_vanishes() {
        let fit = Fit::Letterbox { size: Size::new(64, 64), pixel: vec![0] };
        let placed = place(&fit, Size::new(200, 100));
        assert_eq!((placed.target, placed.offset), (Size::new(64, 32), (0, 16)));
        let sliver = place(&fit, Size::new(1000, 1));
        assert_eq!((sliver.target, sliver.offset), (Size::new(64, 1), (0, 31)));
    }
}
