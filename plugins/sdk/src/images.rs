//! The host's picture codec: pixels never enter the guest's memory.

use crate::bindings::corymb::plugin::images as contract;
use crate::{DType, Result, Tensor};

pub use contract::{Color, Fit, Kernel, Layout, Plan, Region, Resize, Size};

/// Built from a fit; whatever is not said stays as torchvision has it: turned by EXIF, bilinear with antialias, RGB,
/// `[N,C,H,W]`, FP32, pixels from 0 to 255.
impl Plan {
    /// To exactly this size; the aspect ratio is not kept.
    #[must_use]
    pub fn stretch(width: u32, height: u32) -> Self {
        Self::new(Fit::Stretch(Size { width, height }))
    }

    /// The shorter side to `shorter`, then the centre of this size.
    #[must_use]
    pub fn center_crop(shorter: u32, width: u32, height: u32) -> Self {
        Self::new(Fit::CenterCrop((shorter, Size { width, height })))
    }

    /// As large as fits in this size, centred, padded with `pixel`.
    #[must_use]
    pub fn letterbox(width: u32, height: u32, pixel: impl Into<Vec<u8>>) -> Self {
        Self::new(Fit::Letterbox((Size { width, height }, pixel.into())))
    }

    fn new(fit: Fit) -> Self {
        Self {
            orient: true,
            fit,
            resize: Resize { kernel: Kernel::Bilinear, antialias: true },
            color: Color::Rgb,
            layout: Layout::Nchw,
            dtype: DType::Fp32,
            scale: 1.0,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
        }
    }

    /// With other weights. Without `antialias` the kernel does not widen when shrinking: OpenCV, TensorFlow 1.
    #[must_use]
    pub fn resize(mut self, kernel: Kernel, antialias: bool) -> Self {
        self.resize = Resize { kernel, antialias };
        self
    }

    /// With other channels. Grey begins with a mean of 0 and a std of 1.
    #[must_use]
    pub fn color(mut self, color: Color) -> Self {
        let channels = if color == Color::Gray { 1 } else { 3 };
        self.mean.resize(channels, 0.0);
        self.std.resize(channels, 1.0);
        self.color = color;
        self
    }

    /// With the dimensions in this order.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// As elements of this dtype: FP32, FP16, BF16, UINT8 or INT8.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// value = (pixel * scale - mean) / std, per channel in the order of the colour; pixels are 0..255.
    #[must_use]
    pub fn normalize(mut self, scale: f32, mean: impl Into<Vec<f32>>, std: impl Into<Vec<f32>>) -> Self {
        (self.scale, self.mean, self.std) = (scale, mean.into(), std.into());
        self
    }

    /// As stored, whatever EXIF says.
    #[must_use]
    pub fn without_orientation(mut self) -> Self {
        self.orient = false;
        self
    }
}

/// The size that the header of picture `index` declares, before orientation; nothing is decoded.
///
/// # Errors
/// When it is not a picture.
pub fn probe(encoded: &Tensor, index: u32) -> Result<Size> {
    #[cfg(target_arch = "wasm32")]
    return Ok(contract::probe(encoded.handle(), index)?);
    #[cfg(not(target_arch = "wasm32"))]
    native::with(|codec| codec.probe(encoded, index))
}

/// The pictures of a BYTES tensor (JPEG, PNG, WebP) as one batch: each region, or each whole element where no region is
/// named.
///
/// # Errors
/// Which element is not a picture, is cut short, has too many pixels; whatever is wrong with the plan.
pub fn to_tensor(encoded: &Tensor, regions: &[Region], plan: &Plan) -> Result<Tensor> {
    #[cfg(target_arch = "wasm32")]
    return Ok(contract::to_tensor(encoded.handle(), regions, plan)?.into());
    #[cfg(not(target_arch = "wasm32"))]
    native::with(|codec| codec.to_tensor(encoded, regions, plan))
}

#[cfg(not(target_arch = "wasm32"))]
pub use native::{Codec, set_codec};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    //! The codec belongs to the host, so a native build has none until a test brings one.

    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Plan, Region, Size};
    use crate::{Error, Result, Tensor};

    /// What stands for the host's codec in native tests: the real one, or one that checks the plan.
    pub trait Codec {
        /// For [`probe`](super::probe).
        ///
        /// # Errors
        /// Whatever the test wants its plugin to see.
        fn probe(&self, encoded: &Tensor, index: u32) -> Result<Size>;

        /// For [`to_tensor`](super::to_tensor).
        ///
        /// # Errors
        /// Whatever the test wants its plugin to see.
        fn to_tensor(&self, encoded: &Tensor, regions: &[Region], plan: &Plan) -> Result<Tensor>;
    }

    thread_local! {
        static CODEC: RefCell<Option<Rc<dyn Codec>>> = const { RefCell::new(None) };
    }

    /// Makes `codec` the one of this thread. Native builds only.
    pub fn set_codec(codec: impl Codec + 'static) {
        CODEC.set(Some(Rc::new(codec)));
    }

    pub(super) fn with<T>(run: impl FnOnce(&dyn Codec) -> Result<T>) -> Result<T> {
        let codec = CODEC.with_borrow(Clone::clone);
        run(&*codec
            .ok_or_else(|| Error::unimplemented("a native build has no codec; a test sets one with set_codec"))?)
    }
}
