//! What a component may import: the contract's interfaces and nothing else, each by its exact name.

use wasmtime::Engine;
use wasmtime::component::Component;

const PACKAGE: &str = "corymb:plugin/";

/// The interfaces, and the place of the smallest world in [`WORLDS`] that has them.
const INTERFACES: [(&str, usize); 6] =
    [("types", 0), ("tensors", 0), ("logging", 0), ("metrics", 0), ("images", 1), ("inference", 2)];

/// The contract's worlds, each with all of the one before.
const WORLDS: [&str; 3] = ["transformer", "image-transformer", "orchestrator"];

/// The smallest world of the contract that has everything the component imports.
///
/// # Errors
/// The first import that is not the contract's, and what is.
pub(crate) fn world(component: &Component, engine: &Engine) -> Result<&'static str, String> {
    let component = component.component_type();
    let names = component.imports(engine).map(|(name, _)| name);
    let mut world = 0;
    for name in names {
        world = world.max(place(name).ok_or_else(|| {
            let allowed = INTERFACES.map(|(interface, _)| interface).join(", ");
            format!("it imports '{name}'; only {PACKAGE}{{{allowed}}}@0.1.x may be imported")
        })?);
    }
    Ok(WORLDS[world])
}

fn place(import: &str) -> Option<usize> {
    let (interface, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    let patch = version.strip_prefix("0.1.")?;
    if patch.is_empty() || !patch.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    INTERFACES.iter().find_map(|(known, world)| (*known == interface).then_some(*world))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_exactly() {
        assert_eq!(place("corymb:plugin/tensors@0.1.0"), Some(0));
        assert_eq!(place("corymb:plugin/images@0.1.12"), Some(1));
        assert_eq!(place("corymb:plugin/inference@0.1.0"), Some(2));
        let others = [
            "corymb:plugin/transform@0.1.0",
            "corymb:plugin/tensors@0.2.0",
            "corymb:plugin/tensors@0.1.",
            "corymb:plugin/tensors@0.1.0-rc",
            "corymb:plugin/tensors",
            "wasi:cli/environment@0.2.3",
            "tensors",
            "",
        ];
        for other in others {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
