//! EXIF orientation as three switches, so that turning costs nothing but another order of reading.

use image::metadata::Orientation;

/// How a picture lies in its file. With `(u, v)` = the turned picture's `(x, y)`, exchanged if `transpose`, the stored
/// pixel is `(u, v)`, each counted from the other end where `flip_x` or `flip_y` say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) transpose: bool,
    pub(crate) flip_x: bool,
    pub(crate) flip_y: bool,
}

/// Left, top, width and height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Turn {
    /// From the TIFF structure of an EXIF chunk; upright where it says nothing.
    pub(crate) fn from_exif(chunk: &[u8]) -> Self {
        Orientation::from_exif_chunk(chunk).map_or_else(Self::default, |known| Self::from_number(known.to_exif()))
    }

    /// From the value of the orientation tag, 1 to 8 (Exif 2.32, 4.6.4 A).
    fn from_number(number: u8) -> Self {
        let (transpose, flip_x, flip_y) = match number {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, false, true),
            7 => (true, true, true),
            8 => (true, true, false),
            _ => (false, false, false),
        };
        Self { transpose, flip_x, flip_y }
    }

    /// Width and height, as stored, of a picture that is `(width, height)` when turned; and the other way round.
    pub(crate) const fn exchange<T: Copy>(self, (width, height): (T, T)) -> (T, T) {
        if self.transpose { (height, width) } else { (width, height) }
    }

    /// Where a part of the turned picture lies in the picture as stored, whose size is `stored`.
    pub(crate) fn undo(self, area: Area, stored: (f64, f64)) -> Area {
        let (mut left, mut top) = self.exchange((area.left, area.top));
        let (width, height) = self.exchange((area.width, area.height));
        if self.flip_x {
            left = stored.0 - left - width;
        }
        if self.flip_y {
            top = stored.1 - top - height;
        }
        Area { left, top, width, height }
    }

    /// Where row `y` of the turned picture begins in the picture as stored, in pixels, and how far apart its pixels are.
    pub(crate) const fn row(self, y: usize, (width, height): (usize, usize)) -> (usize, isize) {
        let (row, column) = if self.transpose { (0, y) } else { (y, 0) };
        let first_row = if self.flip_y { height - 1 - row } else { row };
        let first_column = if self.flip_x { width - 1 - column } else { column };
        let along = if self.transpose { width as isize } else { 1 };
        let backwards = if self.transpose { self.flip_y } else { self.flip_x };
        (first_row * width + first_column, if backwards { -along } else { along })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stored picture of 3x2, pixels numbered 0 to 5, as each orientation shows it (rows separated by `/`).
    #[test]
    fn all_eight_orientations() {
        let expected = ["012/345", "210/543", "543/210", "345/012", "03/14/25", "30/41/52", "52/41/30", "25/14/03"];
        for (number, expected) in (1..).zip(expected) {
            let turn = Turn::from_number(number);
            let stored = (3, 2);
            let (width, height) = turn.exchange(stored);
            let rows: Vec<String> = (0..height)
                .map(|y| {
                    let (start, step) = turn.row(y, stored);
                    (0..width as isize).map(|x| (start as isize + step * x).to_string()).collect()
                })
                .collect();
            assert_eq!(rows.join("/"), expected, "orientation {number}");
        }
    }

    #[test]
    fn parts_are_found_in_the_stored_picture() {
        let corner = Area { left: 0.0, top: 0.0, width: 1.0, height: 2.0 };
        let turned = Turn::from_number(6).undo(corner, (30.0, 20.0));
        assert_eq!(turned, Area { left: 0.0, top: 19.0, width: 2.0, height: 1.0 });
        let mirrored = Turn::from_number(2).undo(corner, (30.0, 20.0));
        assert_eq!(mirrored, Area { left: 29.0, top: 0.0, width: 1.0, height: 2.0 });
    }
}
