//! Execution providers: which of them drive a device, and whether the library has them.

use corymb_core::Device;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};

/// The execution providers of a device, each of which fails rather than stepping aside.
pub(crate) fn providers(device: Device) -> ort::Result<Vec<ExecutionProviderDispatch>> {
    let index = |index: u32| i32::try_from(index).map_err(|_| ort::Error::new("the device's index is out of range"));
    let only_first = |index: u32| match index {
        0 => Ok(()),
        _ => Err(ort::Error::new("this kind of device has no indices but 0")),
    };
    // Beside any other provider too: the bindings would else let the library pick a device by its own policy.
    let mut providers = vec![ep::CPU::default().with_arena_allocator(true).build()];
    match device {
        Device::Cpu => {}
        Device::Cuda(gpu) => providers.push(ep::CUDA::default().with_device_id(index(gpu)?).build()),
        Device::TensorRt(gpu) => {
            providers.push(ep::TensorRT::default().with_device_id(index(gpu)?).build());
            // For what TensorRT does not take.
            providers.push(ep::CUDA::default().with_device_id(index(gpu)?).build());
        }
        Device::MiGraphX(gpu) => providers.push(ep::MIGraphX::default().with_device_id(index(gpu)?).build()),
        Device::OpenVino(place) => {
            only_first(place)?;
            providers.push(ep::OpenVINO::default().build());
        }
        Device::CoreMl(place) => {
            only_first(place)?;
            providers.push(ep::CoreML::default().build());
        }
        Device::DirectMl(gpu) => providers.push(ep::DirectML::default().with_device_id(index(gpu)?).build()),
    }
    Ok(providers.into_iter().map(ExecutionProviderDispatch::error_on_failure).collect())
}

/// Whether the library was built with what drives `device`.
pub(crate) fn is_built_in(device: Device) -> bool {
    let answer = match device {
        Device::Cpu => ep::CPU::is_available(),
        Device::Cuda(_) => ep::CUDA::is_available(),
        Device::TensorRt(_) => ep::TensorRT::is_available(),
        Device::MiGraphX(_) => ep::MIGraphX::is_available(),
        Device::OpenVino(_) => ep::OpenVINO::is_available(),
        Device::CoreMl(_) => ep::CoreML::is_available(),
        Device::DirectMl(_) => ep::DirectML::is_available(),
    };
    answer.unwrap_or(false)
}
