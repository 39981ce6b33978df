//! The contract's `images`: pictures become tensors in the host, so that pixels never enter a guest's memory.

use bytes::Bytes;
use corymb_images::{Color, Fit, ImageError, Kernel, Layout, Limits, Plan, Region, Resize, Size};
use wasmtime::component::Resource;

use crate::bindings::ErrorCode::InvalidArgument;
use crate::bindings::{Error, code_to, dtype_of, images, refusal};
use crate::host_tensor::HostTensor;
use crate::state::State;

impl images::Host for State {
    fn probe(&mut self, encoded: Resource<HostTensor>, index: u32) -> wasmtime::Result<Result<images::Size, Error>> {
        let index = index as usize;
        let size = self.get(&encoded)?.elements().and_then(|elements| {
            let missing =
                || refusal(InvalidArgument, format!("element {index} of a tensor that has {}", elements.len()));
            let element = elements.get(index).ok_or_else(missing)?;
            corymb_images::probe(element).map_err(|error| failed(&error.in_element(index)))
        });
        Ok(size.map(|size| images::Size { width: size.width, height: size.height }))
    }

    fn to_tensor(
        &mut self,
        encoded: Resource<HostTensor>,
        regions: Vec<images::Region>,
        plan: images::Plan,
    ) -> wasmtime::Result<Result<Resource<HostTensor>, Error>> {
        // Decoding is the longest that a guest can keep the host busy: not begun for a caller who has gone.
        self.call.check()?;
        let limits = Limits { max_bytes_out: self.tensor_bytes_left() as u64, ..Limits::default() };
        let regions: Vec<Region> = regions.into_iter().map(region).collect();
        let elements = self.get(&encoded)?.elements().map(<[Bytes]>::to_vec);
        let made = match elements.and_then(|elements| Ok((elements, plan_of(plan)?))) {
            Ok((elements, plan)) => {
                let made = || corymb_images::to_tensor(&elements, &regions, &plan, &limits);
                self.memory.beside(decoded_bytes(&elements), made)?.map_err(|error| failed(&error))
            }
            Err(error) => Err(error),
        };
        let made = made.and_then(|tensor| self.charge(tensor.byte_len()).map(|()| tensor));
        Ok(match made {
            Ok(tensor) => Ok(self.push(tensor)?),
            Err(error) => Err(error),
        })
    }
}

/// What decoding takes at most: one picture at a time is decoded, a progressive JPEG into as much as this.
fn decoded_bytes(elements: &[Bytes]) -> u64 {
    const OF_PIXEL: u64 = 9;
    // What cannot be decoded is told by the decoder.
    let pixels = elements.iter().filter_map(|element| corymb_images::probe(element).ok());
    pixels.map(|size| u64::from(size.width) * u64::from(size.height) * OF_PIXEL).max().unwrap_or(0)
}

fn failed(error: &ImageError) -> Error {
    refusal(code_to(error.code()), error.to_string())
}

fn region(region: images::Region) -> Region {
    let images::Region { element, x, y, width, height } = region;
    Region { element, x, y, width, height }
}

fn size(size: images::Size) -> Size {
    Size::new(size.width, size.height)
}

fn plan_of(plan: images::Plan) -> Result<Plan, Error> {
    let unknown = |name| refusal(InvalidArgument, format!("dtype '{name}' is not known here"));
    Ok(Plan {
        orient: plan.orient,
        fit: match plan.fit {
            images::Fit::Stretch(to) => Fit::Stretch(size(to)),
            images::Fit::CenterCrop((shorter, to)) => Fit::CenterCrop { shorter, size: size(to) },
            images::Fit::Letterbox((to, pixel)) => Fit::Letterbox { size: size(to), pixel },
        },
        resize: Resize {
            kernel: match plan.resize.kernel {
                images::Kernel::Nearest => Kernel::Nearest,
                images::Kernel::Bilinear => Kernel::Bilinear,
                images::Kernel::Bicubic => Kernel::Bicubic,
                images::Kernel::Lanczos3 => Kernel::Lanczos3,
            },
            antialias: plan.resize.antialias,
        },
        color: match plan.color {
            images::Color::Rgb => Color::Rgb,
            images::Color::Bgr => Color::Bgr,
            images::Color::Gray => Color::Gray,
        },
        layout: match plan.layout {
            images::Layout::Nhwc => Layout::Nhwc,
            images::Layout::Nchw => Layout::Nchw,
        },
        dtype: dtype_of(&plan.dtype).map_err(unknown)?,
        scale: plan.scale,
        mean: plan.mean,
        std: plan.std,
    })
}
