//! Whether the weights of a file are as large as it says, and where it says: in itself or in files beside it.

use std::path::{Component, Path};

use corymb_onnx::external_file;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, TensorProto};

use crate::proto::{subgraphs, subgraphs_mut};

/// What lies in files beside the model's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outside {
    pub(crate) bytes: u64,
    /// Whether links lead out of the model's folder.
    pub(crate) leads_out: bool,
}

impl Outside {
    fn and(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { bytes, leads_out: self.leads_out || other.leads_out }
    }
}

/// Checks the initializers of a graph and of all graphs within; answers what lies in files of `folder`. A model without a folder has
/// no such files; tract says so.
pub(crate) fn check(graph: &GraphProto, folder: Option<&Path>) -> Result<Outside, String> {
    let mut outside = Outside::default();
    for tensor in &graph.initializer {
        let size = size(tensor)?;
        if tensor.data_location == Some(DataLocation::External as i32) {
            outside = outside.and(folder.map_or(Ok(Outside::default()), |folder| external(tensor, size, folder))?);
        } else if let (false, Some(size)) = (tensor.raw_data.is_empty(), size)
            && size != tensor.raw_data.len() as u64
        {
            let (name, given) = (&tensor.name, tensor.raw_data.len());
            return Err(format!("holds {given} bytes for the initializer '{name}', whose shape takes {size}"));
        }
    }
    for graph in graph.node.iter().flat_map(subgraphs) {
        outside = outside.and(check(graph, folder)?);
    }
    Ok(outside)
}

/// Names the files in which weights lie as they are called from the root: tract takes nothing that a link of the model's own folder
/// leads out to.
pub(crate) fn follow_links(graph: &mut GraphProto, folder: &Path) -> Result<(), String> {
    let follow = |tensor: &mut TensorProto| {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return Ok(());
        }
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key == "location") {
            let (real, _) = external_file(folder, &entry.value)?;
            let from_root = real.to_str().and_then(|path| path.strip_prefix('/'));
            entry.value = from_root.ok_or("which has a name that is not UTF-8")?.to_owned();
        }
        Ok::<_, String>(())
    };
    graph.initializer.iter_mut().try_for_each(follow)?;
    for node in &mut graph.node {
        let attributes = node.attribute.iter_mut();
        attributes.flat_map(|own| own.t.iter_mut().chain(&mut own.tensors)).try_for_each(follow)?;
        subgraphs_mut(node).try_for_each(|graph| follow_links(graph, folder))?;
    }
    Ok(())
}

/// Bytes by dtype and shape; none where elements are not whole bytes.
fn size(tensor: &TensorProto) -> Result<Option<u64>, String> {
    let element: u64 = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Bool | DataType::Int8 | DataType::Uint8) => 1,
        Ok(DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16) => 2,
        Ok(DataType::Int32 | DataType::Uint32 | DataType::Float) => 4,
        Ok(DataType::Int64 | DataType::Uint64 | DataType::Double) => 8,
        _ => return Ok(None),
    };
    let dims = tensor.dims.iter().map(|&dim| u64::try_from(dim).ok());
    let bytes = dims.into_iter().try_fold(element, |bytes, dim| bytes.checked_mul(dim?));
    let bytes = bytes.ok_or_else(|| format!("has the initializer '{}' of shape {:?}", tensor.name, tensor.dims))?;
    Ok(Some(bytes))
}

/// Bytes that `tensor` takes of a file in `folder`, which must be there and long enough.
fn external(tensor: &TensorProto, size: Option<u64>, folder: &Path) -> Result<Outside, String> {
    let name = &tensor.name;
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let location = entry("location").ok_or_else(|| format!("says not where the initializer '{name}' is stored"))?;
    let number = |key: &str| match entry(key).map(|text| text.parse::<u64>()) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(format!("gives the initializer '{name}' a {key} that is no number")),
    };
    let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return Err(format!("keeps the initializer '{name}' in '{location}', outside of its own folder"));
    }
    let wrong = |reason: String| format!("keeps the initializer '{name}' in '{location}', {reason}");
    let (real, leads_out) = external_file(folder, location).map_err(wrong)?;
    let metadata = real.metadata().map_err(|error| wrong(format!("which cannot be read: {error}")))?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.or(size).unwrap_or(0));
    let end = offset.checked_add(length);
    if end.is_none_or(|end| end > metadata.len()) {
        let have = metadata.len();
        return Err(format!(
            "keeps the initializer '{name}' in '{location}', which has {have} bytes; {length} from {offset} on are needed"
        ));
    }
    match size {
        Some(size) if size != length => {
            Err(format!("keeps {length} bytes for the initializer '{name}' in '{location}'; its shape takes {size}"))
        }
        _ => Ok(Outside { bytes: length, leads_out }),
    }
}
