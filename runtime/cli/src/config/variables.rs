//! The variables `CORYMB_…`: each the flag of that name.

use corymb_repository::nearest;

use super::environment::{Environment, PREFIX};
use super::flags::ServeFlags;
use super::layer::{LISTS, keys, parse};

/// The flags that are set by variables. Variables that no flag has are warned of.
pub(super) fn read(environment: &Environment, warnings: &mut Vec<String>) -> anyhow::Result<ServeFlags> {
    let keys = keys();
    let names: Vec<String> = keys.iter().map(|key| format!("{PREFIX}{}", key.to_uppercase())).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut flags = ServeFlags::default();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let Some(index) = known.iter().position(|known| known == name) else {
            // Kubernetes sets variables of this form in every pod beside a Service named corymb.
            if !is_service_link(name) {
                let hint = nearest(name, &known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                warnings.push(format!("the variable {name} is unknown and ignored{hint}"));
            }
            continue;
        };
        if value.starts_with("tcp://") && name == "CORYMB_PORT" {
            warnings
                .push(format!("CORYMB_PORT is '{value}', which Kubernetes sets for a Service named corymb: ignored"));
            continue;
        }
        let values: Vec<&str> =
            if LISTS.contains(&&*keys[index]) { value.split_whitespace().collect() } else { vec![value] };
        let flag = keys[index].replace('_', "-");
        let arguments = values.iter().map(|value| format!("--{flag}={value}")).collect();
        let one = parse(arguments).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        flags = flags.or(one);
    }
    Ok(flags)
}

fn is_service_link(name: &str) -> bool {
    name.contains("_SERVICE_") || name.starts_with("CORYMB_PORT_")
}
