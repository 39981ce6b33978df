//! Execution providers: which of them drive a device, and whether the library has them.

use std::collections::BTreeMap;

use corymb_core::Device;
use ort::ep::{
    self, ArbitrarilyConfigurableExecutionProvider, ArenaExtendStrategy, ExecutionProvider, ExecutionProviderDispatch,
};

/// Options of an execution provider by its names, checked.
type Options = BTreeMap<String, String>;

/// The execution providers of a device, each of which fails rather than stepping aside. `asked` are options by the kind
/// of a device.
pub(crate) fn providers(
    device: Device,
    asked: &BTreeMap<&'static str, Options>,
) -> ort::Result<Vec<ExecutionProviderDispatch>> {
    let index = |index: u32| i32::try_from(index).map_err(|_| ort::Error::new("the device's index is out of range"));
    let only_first = |index: u32| match index {
        0 => Ok(()),
        _ => Err(ort::Error::new("this kind of device has no indices but 0")),
    };
    // Beside any other provider too: the bindings would else let the library pick a device by its own policy.
    let mut providers = vec![ep::CPU::default().with_arena_allocator(true).build()];
    match device {
        Device::Cpu => {}
        Device::Cuda(gpu) => providers.push(cuda(index(gpu)?, asked)),
        Device::TensorRt(gpu) => {
            let tensorrt = ep::TensorRT::default().with_device_id(index(gpu)?);
            providers.push(with(tensorrt, asked.get("tensorrt")).build());
            // For what TensorRT does not take.
            providers.push(cuda(index(gpu)?, asked));
        }
        Device::MiGraphX(gpu) => providers.push(migraphx(index(gpu)?, asked.get("migraphx"))),
        Device::OpenVino(place) => {
            only_first(place)?;
            providers.push(with(ep::OpenVINO::default(), asked.get("openvino")).build());
        }
        Device::CoreMl(place) => {
            only_first(place)?;
            providers.push(with(ep::CoreML::default(), asked.get("coreml")).build());
        }
        Device::DirectMl(gpu) => providers.push(ep::DirectML::default().with_device_id(index(gpu)?).build()),
    }
    Ok(providers.into_iter().map(ExecutionProviderDispatch::error_on_failure).collect())
}

fn with<E: ArbitrarilyConfigurableExecutionProvider>(provider: E, options: Option<&Options>) -> E {
    let options = options.into_iter().flatten();
    options.fold(provider, |provider, (key, value)| provider.with_arbitrary_config(key, value))
}

fn cuda(index: i32, asked: &BTreeMap<&'static str, Options>) -> ExecutionProviderDispatch {
    with(ep::CUDA::default().with_device_id(index), asked.get("cuda")).build()
}

/// The bindings hand MIGraphX a struct in place of names.
fn migraphx(index: i32, options: Option<&Options>) -> ExecutionProviderDispatch {
    let mut provider = ep::MIGraphX::default().with_device_id(index);
    for (key, value) in options.into_iter().flatten() {
        let flag = value == "1";
        provider = match key.as_str() {
            "migraphx_fp16_enable" => provider.with_fp16(flag),
            "migraphx_fp8_enable" => provider.with_fp8(flag),
            "migraphx_exhaustive_tune" => provider.with_exhaustive_tune(flag),
            "migraphx_mem_limit" => provider.with_mem_limit(value.parse().unwrap_or(usize::MAX)),
            "migraphx_arena_extend_strategy" if value == "kSameAsRequested" => {
                provider.with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
            }
            _ => provider,
        };
    }
    provider.build()
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
