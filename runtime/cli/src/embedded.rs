//! The flowers model inside the binary: what `serve` serves when nothing is named.

use bytes::Bytes;
use corymb_repository::{ModelFolder, RepositoryError};

/// The name that the KFServing sample gives its model.
pub(crate) const NAME: &str = "flowers-sample";

macro_rules! file {
    ($name:literal) => {
        ($name, Bytes::from_static(include_bytes!(concat!("../../../deploy/models/flowers/", $name))))
    };
}

/// A picture of a flower, for requests that are made up.
pub(crate) fn picture() -> Bytes {
    Bytes::from_static(include_bytes!("../../../deploy/models/flowers/warmup/image_bytes.jpg"))
}

/// The folder `deploy/models/flowers`, as it was when the binary was built.
pub(crate) fn flowers() -> Result<ModelFolder, RepositoryError> {
    let files = [
        file!("model.toml"),
        file!("model.onnx"),
        file!("labels.txt"),
        file!("flowers.wasm"),
        file!("warmup/image_bytes.jpg"),
    ];
    corymb_repository::embedded(NAME, &files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_embedded_folder_is_whole() {
        let folder = super::flowers().expect("checked against its manifest");
        assert_eq!(folder.labels.len(), 6);
        assert_eq!(folder.samples.len(), 1);
        assert!(folder.plugin.is_some());
    }
}
