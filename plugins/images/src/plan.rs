//! What is to be made of the pictures: the contract's `plan` record, and the limits within which it is carried out.

use corymb_core::DType;

use crate::error::ImageError;
use crate::size::Size;

/// A part of picture `element`, in its pixels after orientation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Index of the picture.
    pub element: u32,
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns, at least one.
    pub width: u32,
    /// Rows, at least one.
    pub height: u32,
}

/// How a picture gets the size of the tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Fit {
    /// To exactly this size; the aspect ratio is not kept.
    Stretch(Size),
    /// The shorter side to `shorter`, the longer in proportion (rounded down), then the centre of `size`, as
    /// torchvision's `Resize(shorter)` and `CenterCrop(size)` do. `size` is at most `shorter` each way.
    CenterCrop {
        /// The shorter side after resizing.
        shorter: u32,
        /// What is cut out.
        size: Size,
    },
    /// As large as fits in `size`, enlarged too, centred and padded.
    Letterbox {
        /// The size of the tensor.
        size: Size,
        /// The padding before normalising, in the channels of the plan's colour; one value stands for all channels.
        pixel: Vec<u8>,
    },
}

impl Fit {
    /// Width and height of the tensor.
    #[must_use]
    pub const fn size(&self) -> Size {
        match self {
            Self::Stretch(size) | Self::CenterCrop { size, .. } | Self::Letterbox { size, .. } => *size,
        }
    }
}

/// The weights with which neighbouring pixels count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The nearest pixel alone.
    Nearest,
    /// Triangle.
    Bilinear,
    /// Catmull-Rom, a = -0.5, as Pillow's.
    Bicubic,
    /// Windowed sinc of radius 3.
    Lanczos3,
}

/// How sizes change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Which weights.
    pub kernel: Kernel,
    /// Whether the kernel widens when shrinking. Of no effect on [`Kernel::Nearest`].
    pub antialias: bool,
}

/// Order of the dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[N,H,W,C]`
    Nhwc,
    /// `[N,C,H,W]`
    Nchw,
}

/// Order of the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luma.
    Gray,
}

impl Color {
    /// How many channels.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
        }
    }
}

/// What is to be made of each picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Turn the picture as its EXIF orientation says.
    pub orient: bool,
    /// How it gets its size.
    pub fit: Fit,
    /// How pixels are made from pixels.
    pub resize: Resize,
    /// Which channels.
    pub color: Color,
    /// In which order the dimensions stand.
    pub layout: Layout,
    /// FP32, FP16, BF16, UINT8 or INT8.
    pub dtype: DType,
    /// Factor on the pixel, which is 0..255.
    pub scale: f32,
    /// Subtracted after scaling, one per channel in the order of `color`.
    pub mean: Vec<f32>,
    /// Divisor after that, one per channel in the order of `color`.
    pub std: Vec<f32>,
}

impl Plan {
    /// The shape of one picture's tensor, without the batch dimension.
    pub(crate) fn row_shape(&self) -> [usize; 3] {
        let Size { width, height } = self.fit.size();
        let (width, height, channels) = (width as usize, height as usize, self.color.channels());
        match self.layout {
            Layout::Nhwc => [height, width, channels],
            Layout::Nchw => [channels, height, width],
        }
    }

    /// Refuses what cannot be carried out for any picture.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        let refuse = |text: String| Err(ImageError::Plan(text));
        let Size { width, height } = self.fit.size();
        let (channels, color) = (self.color.channels(), self.color.name());
        if width == 0 || height == 0 {
            return refuse(format!("size is {width}x{height}; at least 1x1 is expected"));
        }
        match &self.fit {
            Fit::CenterCrop { shorter, .. } if width.max(height) > *shorter => {
                return refuse(format!("centre crop of {width}x{height} exceeds the shorter side of {shorter}"));
            }
            Fit::Letterbox { pixel, .. } if pixel.len() != 1 && pixel.len() != channels => {
                return refuse(format!("letterbox pixel has {} values; {color} takes {channels}", pixel.len()));
            }
            _ => {}
        }
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != channels {
                return refuse(format!("{name} has {} values; {color} takes {channels}", values.len()));
            }
        }
        if !self.scale.is_finite() || !self.mean.iter().all(|mean| mean.is_finite()) {
            return refuse("scale and mean must be finite".to_owned());
        }
        if let Some(std) = self.std.iter().find(|std| !std.is_finite() || **std == 0.0) {
            return refuse(format!("std holds {std}; finite values other than 0 are expected"));
        }
        match self.dtype {
            DType::Fp32 | DType::Fp16 | DType::Bf16 | DType::Uint8 | DType::Int8 => Ok(()),
            other => refuse(format!("datatype {other} is not made of pictures; FP32, FP16, BF16, UINT8 and INT8 are")),
        }
    }
}

/// What one call may cost. All is checked from headers, before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of one picture. Decoding takes 3 to 4 bytes for each, a progressive JPEG 9.
    pub max_pixels: u64,
    /// Pixels of all pictures of one call, and of all regions of them, together: this bounds its time.
    pub max_pixels_total: u64,
    /// Bytes of the tensor.
    pub max_bytes_out: u64,
}

impl Default for Limits {
    /// 64 Mpixel a picture, 512 Mpixel a call, 256 MiB of tensor.
    fn default() -> Self {
        Self { max_pixels: 64 << 20, max_pixels_total: 512 << 20, max_bytes_out: 256 << 20 }
    }
}
