//! Why pictures do not become a tensor: which one, and what is wrong with it.

use corymb_core::{Code, TensorError};

use crate::size::Size;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// One picture is at fault.
    #[error("element {element} {fault}")]
    Picture {
        /// Its index.
        element: usize,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A region names a picture that is not there.
    #[error("region {region} names element {element}; there are {elements} elements")]
    NoSuchElement {
        /// Index of the region.
        region: usize,
        /// As given.
        element: u32,
        /// How many pictures were given.
        elements: usize,
    },
    /// A region is empty, or reaches beyond its picture.
    #[error("region {region} ({x},{y} {width}x{height}) does not lie within element {element}, which is {}x{}", .picture.width, .picture.height)]
    Region {
        /// Index of the region.
        region: usize,
        /// As given.
        x: u32,
        /// As given.
        y: u32,
        /// As given.
        width: u32,
        /// As given.
        height: u32,
        /// The picture's index.
        element: usize,
        /// The picture's size after orientation.
        picture: Size,
    },
    /// Each picture may pass, but not all of them, or not so many of their regions, in one call.
    #[error(
        "the pictures and regions up to element {element} have {pixels} pixels together; at most {max} are allowed"
    )]
    TooManyPixels {
        /// The picture that exceeded the limit.
        element: usize,
        /// Together with those before it.
        pixels: u64,
        /// The limit.
        max: u64,
    },
    /// The tensor would be too large.
    #[error("{pictures} pictures of {row_bytes} bytes make a tensor of more than {max} bytes")]
    TooManyBytes {
        /// How many rows the tensor would have.
        pictures: usize,
        /// Bytes of one of them.
        row_bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The plan contradicts itself: the plugin's mistake.
    #[error("the picture plan cannot be carried out: {0}")]
    Plan(String),
    /// The tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// What is wrong with a picture. Reads as the end of a sentence that begins with its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No bytes at all.
    #[error("is empty; a JPEG, PNG or WebP picture is expected")]
    Empty,
    /// No picture that is known here.
    #[error("is not a JPEG, PNG or WebP picture")]
    NotAPicture,
    /// A picture, but of a format that is not read.
    #[error("is a {0} picture; only JPEG, PNG and WebP are read")]
    OtherFormat(&'static str),
    /// A variant of its format that is not read.
    #[error("is a {format} picture of a kind that is not read: {reason}")]
    Unsupported {
        /// Its format.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// The end is missing.
    #[error("is a {0} picture that is cut short")]
    CutShort(&'static str),
    /// It cannot be decoded.
    #[error("is a damaged {format} picture: {reason}")]
    Damaged {
        /// Its format.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// Its header declares more than is allowed.
    #[error("has {}x{} pixels; at most {max} are allowed", .size.width, .size.height)]
    TooManyPixels {
        /// As declared.
        size: Size,
        /// The limit on the product.
        max: u64,
    },
    /// Shrinking one way while enlarging the other way, it would take too much memory on the way.
    #[error("of {}x{} pixels becomes too large while it is resized", .size.width, .size.height)]
    TooManyPixelsResizing {
        /// Of the picture or region.
        size: Size,
    },
    /// The decoder failed in an unforeseen way: a fault of ours.
    #[error("made the {0} decoder fail")]
    Decoder(&'static str),
}

impl Fault {
    /// The fault, said of picture `element`.
    pub(crate) const fn of(self, element: usize) -> ImageError {
        ImageError::Picture { element, fault: self }
    }
}

impl ImageError {
    /// The same error said of picture `index`, where one picture is at fault: for callers of [`crate::probe`], which
    /// sees one picture and calls it element 0.
    #[must_use]
    pub fn in_element(self, index: usize) -> Self {
        match self {
            Self::Picture { fault, .. } => fault.of(index),
            other => other,
        }
    }

    /// How callers see it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Picture { fault, .. } => match fault {
                Fault::Empty | Fault::NotAPicture | Fault::CutShort(_) | Fault::Damaged { .. } => Code::InvalidArgument,
                Fault::OtherFormat(_) | Fault::Unsupported { .. } => Code::UnsupportedMediaType,
                Fault::TooManyPixels { .. } | Fault::TooManyPixelsResizing { .. } => Code::TooLarge,
                Fault::Decoder(_) => Code::Internal,
            },
            Self::NoSuchElement { .. } | Self::Region { .. } => Code::InvalidArgument,
            Self::TooManyPixels { .. } | Self::TooManyBytes { .. } => Code::TooLarge,
            Self::Plan(_) | Self::Tensor(_) => Code::Internal,
        }
    }
}
