//! The names in a graph, whatever types it was decoded into.

use std::collections::HashSet;

/// Dimensions of a tensor: several times what engines compute with, which keep those of each value.
const MAX_DIMS: usize = 64;

/// What a graph makes and uses, by name, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Names<'a> {
    /// Of the graph.
    pub inputs: Vec<&'a str>,
    /// Of the graph.
    pub outputs: Vec<&'a str>,
    /// Initializers, sparse ones included.
    pub constants: Vec<&'a str>,
    /// Inputs of nodes; those left out are empty.
    pub used: Vec<&'a str>,
    /// Outputs of nodes; those left out are empty.
    pub made: Vec<&'a str>,
    /// The most dimensions of a stored tensor, or of an input.
    pub most_dims: usize,
}

impl Names<'_> {
    /// That every name is made once, and nothing is used that is not made; what engines take on trust.
    ///
    /// # Errors
    /// What is wrong, to stand behind the name of the file.
    pub fn check(&self) -> Result<(), String> {
        if self.most_dims > MAX_DIMS {
            let dims = self.most_dims;
            return Err(format!("holds a tensor of {dims} dimensions; at most {MAX_DIMS} are read"));
        }
        if self.outputs.is_empty() {
            return Err("has no outputs".to_owned());
        }
        unique("input", &self.inputs)?;
        unique("output", &self.outputs)?;
        let mut known: HashSet<&str> = self.inputs.iter().chain(&self.constants).copied().collect();
        if let Some(twice) = self.made.iter().find(|name| !name.is_empty() && !known.insert(name)) {
            return Err(format!("makes '{twice}' twice"));
        }
        if let Some(missing) = self.used.iter().find(|name| !name.is_empty() && !known.contains(*name)) {
            return Err(format!("uses '{missing}', which nothing makes"));
        }
        match self.outputs.iter().find(|output| !known.contains(*output)) {
            Some(output) => Err(format!("declares the output '{output}', which nothing makes")),
            None => Ok(()),
        }
    }
}

fn unique(role: &str, names: &[&str]) -> Result<(), String> {
    let mut seen = HashSet::new();
    match names.iter().find(|name| name.is_empty() || !seen.insert(**name)) {
        Some(&"") => Err(format!("has an {role} without a name")),
        Some(name) => Err(format!("declares the {role} '{name}' twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_made_once_and_before_it_is_used() {
        let good = Names {
            inputs: vec!["x"],
            outputs: vec!["y"],
            constants: vec!["w"],
            used: vec!["x", "", "w"],
            made: vec!["y", ""],
            most_dims: 4,
        };
        assert_eq!(good.check(), Ok(()));
        let wrong = |change: fn(&mut Names<'_>)| {
            let mut names = good.clone();
            change(&mut names);
            names.check().expect_err("refused")
        };
        assert_eq!(wrong(|names| names.outputs.clear()), "has no outputs");
        assert_eq!(wrong(|names| names.inputs.push("")), "has an input without a name");
        assert_eq!(wrong(|names| names.inputs.push("x")), "declares the input 'x' twice");
        assert_eq!(wrong(|names| names.outputs.push("y")), "declares the output 'y' twice");
        assert_eq!(wrong(|names| names.made.push("w")), "makes 'w' twice");
        assert_eq!(wrong(|names| names.used.push("z")), "uses 'z', which nothing makes");
        let high = "holds a tensor of 65 dimensions; at most 64 are read";
        assert_eq!(wrong(|names| names.most_dims = 65), high);
        assert_eq!(wrong(|names| names.outputs.push("z")), "declares the output 'z', which nothing makes");
    }
}
