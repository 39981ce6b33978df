//! Encoded pictures and a plan in, one tensor out: JPEG, PNG and WebP decoded, turned, resized, normalised and laid out.
//!
//! The plugin host runs this natively for the contract's `images` interface; it compiles for wasm32 too, so a guest
//! that brings its own codec gets the same pixels.
//!
//! What the pixels are, exactly:
//!
//! * **Decoding** gives 8 bits per sample. Of 16-bit samples the upper 8 bits count. Alpha is dropped, not blended, as
//!   Pillow's `convert("RGB")`, OpenCV and TensorFlow's `decode_png(channels=3)` do. Embedded colour profiles are
//!   ignored. CMYK becomes RGB. Grey pictures give three equal channels where colour is asked for; colour pictures give
//!   their JPEG luma, or ITU-R 601 luma as Pillow's `convert("L")`, where grey is asked for. Of an animation the first
//!   frame counts.
//! * **Orientation** (EXIF) is applied before anything else, so regions are in the pixels of the turned picture.
//! * **Resizing** works on 8-bit samples with half-pixel centres and rounds to 8 bits. With `antialias` the kernel widens
//!   when shrinking, as in Pillow and torchvision; without, its size is fixed, as in OpenCV. A region is cut out first: its
//!   neighbours do not bleed in.
//! * **Normalising** is `(pixel * scale - mean[c]) / std[c]` in single precision; integer dtypes round to the nearest, ties
//!   to even, and saturate.

mod batch;
mod decode;
mod error;
mod geometry;
mod jpeg;
mod normalize;
mod orientation;
mod picture;
mod plan;
mod raster;
mod resample;
mod size;

pub use batch::to_tensor;
pub use decode::probe;
pub use error::{Fault, ImageError};
pub use plan::{Color, Fit, Kernel, Layout, Limits, Plan, Region, Resize};
pub use size::Size;
