//! Where a model runs, and the words by which a user chooses it.

use std::fmt;
use std::str::FromStr;

/// Where a model runs. An accelerator is named by the execution provider that drives it and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU through CUDA.
    Cuda(u32),
    /// An NVIDIA GPU through TensorRT.
    TensorRt(u32),
    /// An AMD GPU through MIGraphX.
    MiGraphX(u32),
    /// What OpenVINO finds.
    OpenVino(u32),
    /// What Core ML finds.
    CoreMl(u32),
    /// A GPU through DirectML.
    DirectMl(u32),
}

/// Makes a device of an index.
type OfIndex = fn(u32) -> Device;

const ACCELERATORS: [(&str, OfIndex); 6] = [
    ("cuda", Device::Cuda),
    ("tensorrt", Device::TensorRt),
    ("migraphx", Device::MiGraphX),
    ("openvino", Device::OpenVino),
    ("coreml", Device::CoreMl),
    ("directml", Device::DirectMl),
];

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a device; expected auto, cpu, cuda[:N], tensorrt[:N], or several of them as in cuda-or-cpu")]
pub struct UnknownDevice(String);

impl Device {
    /// The word before the index.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::TensorRt(_) => "tensorrt",
            Self::MiGraphX(_) => "migraphx",
            Self::OpenVino(_) => "openvino",
            Self::CoreMl(_) => "coreml",
            Self::DirectMl(_) => "directml",
        }
    }

    /// Which of its kind; none for the processor.
    #[must_use]
    pub const fn index(&self) -> Option<u32> {
        match self {
            Self::Cpu => None,
            Self::Cuda(index)
            | Self::TensorRt(index)
            | Self::MiGraphX(index)
            | Self::OpenVino(index)
            | Self::CoreMl(index)
            | Self::DirectMl(index) => Some(*index),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        self.index().map_or(Ok(()), |index| write!(f, ":{index}"))
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    /// `cpu`, `cuda`, `cuda:1`, …; an index that is not given is 0.
    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        let (kind, index) = text.split_once(':').unwrap_or((text, "0"));
        let found = ACCELERATORS.iter().find(|(word, _)| *word == kind);
        // `parse` takes a sign too.
        let index = index.bytes().all(|byte| byte.is_ascii_digit()).then(|| index.parse().ok()).flatten();
        match (found, index) {
            (Some((_, device)), Some(index)) => Ok(device(index)),
            _ => Err(UnknownDevice(text.to_owned())),
        }
    }
}

/// Which devices a user allows for a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best that the backend proves to work.
    #[default]
    Auto,
    /// The first of these that can be had, e.g. `cuda-or-cpu`; a single one is what runs the model, or nothing does.
    FirstOf(Vec<Device>),
    /// Instances on all of these, e.g. `cuda:0,cuda:1`.
    All(Vec<Device>),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (devices, between) = match self {
            Self::Auto => return f.write_str("auto"),
            Self::FirstOf(devices) => (devices, "-or-"),
            Self::All(devices) => (devices, ","),
        };
        for (index, device) in devices.iter().enumerate() {
            write!(f, "{}{device}", if index == 0 { "" } else { between })?;
        }
        Ok(())
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let whole = |_| UnknownDevice(text.to_owned());
        let parsed = |separator: &str| text.split(separator).map(str::parse).collect::<Result<Vec<Device>, _>>();
        if text.contains(',') {
            return parsed(",").map(Self::All).map_err(whole);
        }
        parsed("-or-").map(Self::FirstOf).map_err(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:17", Device::Cuda(17)),
            ("tensorrt:1", Device::TensorRt(1)),
            ("openvino:0", Device::OpenVino(0)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cpu:0", "cuda:99999999999"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::FirstOf(vec![Device::Cpu])),
            ("cuda:1-or-cpu", DeviceChoice::FirstOf(vec![Device::Cuda(1), Device::Cpu])),
            ("cuda:0,cuda:1", DeviceChoice::All(vec![Device::Cuda(0), Device::Cuda(1)])),
        ] {
            assert_eq!(text.parse(), Ok(choice.clone()));
            assert_eq!(choice.to_string(), text);
        }
        let error = "cuda-or-gpu".parse::<DeviceChoice>().expect_err("gpu is no device").to_string();
        assert!(error.starts_with("'cuda-or-gpu' is not a device"), "{error}");
    }
}
