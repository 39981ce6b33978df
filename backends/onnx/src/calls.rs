//! How much the functions of a file stand for, whatever types it was decoded into.

use std::collections::HashMap;

/// Nodes that calls of functions may stand for, together: engines put them in the place of each call.
const MAX_NODES: u64 = 50_000;
/// How deep functions may call each other.
const MAX_DEPTH: usize = 32;

/// What a node names: domain and operator.
pub type Named<'a> = (&'a str, &'a str);

/// What nodes name, those of inner graphs included: `name` tells what one names, `inner` the nodes of the graphs in it.
pub fn named<'a, N, I: Iterator<Item = &'a N>>(
    nodes: &'a [N],
    name: impl Fn(&'a N) -> Named<'a>,
    inner: impl Fn(&'a N) -> I,
) -> Vec<Named<'a>> {
    let mut all = Vec::with_capacity(nodes.len());
    let mut left: Vec<&N> = nodes.iter().collect();
    while let Some(node) = left.pop() {
        all.push(name(node));
        left.extend(inner(node));
    }
    all
}

/// The functions that a file defines, and who calls them.
#[derive(Clone, Debug, Default)]
pub struct Calls<'a> {
    /// Each function, and what the nodes of its body name, those of inner graphs included.
    pub functions: Vec<(Named<'a>, Vec<Named<'a>>)>,
    /// What the nodes of the graph name, those of inner graphs included.
    pub graph: Vec<Named<'a>>,
}

impl Calls<'_> {
    /// That the functions stand for a graph that can be written down: two that call each other twice, and so on, stand for
    /// more nodes than any machine holds, and engines try.
    ///
    /// # Errors
    /// What is wrong, to stand behind the name of the file.
    pub fn check(&self) -> Result<(), String> {
        if self.functions.is_empty() {
            return Ok(());
        }
        let places = self.functions.iter().enumerate().map(|(place, (named, _))| (*named, place));
        let mut sizes = Sizes { calls: self, places: places.collect(), known: vec![None; self.functions.len()] };
        let Size { nodes, .. } = sizes.of(&self.graph, 0)?;
        if nodes > MAX_NODES {
            return Err(format!("calls functions that stand for {nodes} nodes; at most {MAX_NODES} are read"));
        }
        Ok(())
    }
}

/// What nodes stand for that may call functions.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: u64,
    /// How deep functions call each other below them.
    depth: usize,
}

/// What each function stands for, as far as that is known.
struct Sizes<'a> {
    calls: &'a Calls<'a>,
    places: HashMap<Named<'a>, usize>,
    known: Vec<Option<Size>>,
}

impl Sizes<'_> {
    /// What nodes that name these stand for, `depth` calls below the graph.
    fn of(&mut self, names: &[Named<'_>], depth: usize) -> Result<Size, String> {
        let mut all = Size::default();
        for named in names {
            let one = match self.places.get(named).copied() {
                None => Size { nodes: 1, depth: 0 },
                Some(place) => self.of_function(place, depth)?,
            };
            all = Size { nodes: all.nodes.saturating_add(one.nodes), depth: all.depth.max(one.depth) };
        }
        Ok(all)
    }

    fn of_function(&mut self, place: usize, depth: usize) -> Result<Size, String> {
        let calls = self.calls;
        let ((_, name), body) = &calls.functions[place];
        let too_deep =
            || Err(format!("has functions that call others, or themselves, more than {MAX_DEPTH} deep: '{name}'"));
        let size = match self.known[place] {
            Some(known) => known,
            None if depth == MAX_DEPTH => return too_deep(),
            None => {
                let inner = self.of(body, depth + 1)?;
                *self.known[place].insert(Size { depth: inner.depth + 1, ..inner })
            }
        };
        // Also where its size was found at another place, less deep.
        if depth + size.depth > MAX_DEPTH { too_deep() } else { Ok(size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each function calls the next `times`; the last has one node.
    fn doubling(names: &[String], times: usize) -> Calls<'_> {
        let next = |place: usize| names.get(place + 1).map_or(("", "Relu"), |name| ("d", name.as_str()));
        let functions = names.iter().enumerate().map(|(place, name)| (("d", name.as_str()), vec![next(place); times]));
        Calls { functions: functions.collect(), graph: vec![("d", &names[0]), ("", "Add")] }
    }

    #[test]
    fn functions_stand_for_so_many_nodes_at_most() {
        let names = |count: usize| (0..count).map(|place| format!("f{place}")).collect::<Vec<_>>();
        assert_eq!(doubling(&names(15), 2).check(), Ok(()), "32,769 nodes");
        let too_many = "calls functions that stand for 65537 nodes; at most 50000 are read";
        assert_eq!(doubling(&names(16), 2).check(), Err(too_many.to_owned()));
        assert_eq!(doubling(&names(32), 1).check(), Ok(()));
        let deep = "has functions that call others, or themselves, more than 32 deep: 'f32'";
        assert_eq!(doubling(&names(33), 1).check(), Err(deep.to_owned()));
        // Deep only by way of what was looked at before.
        let names = names(60);
        let mut calls = doubling(&names, 1);
        calls.graph = vec![("d", "f40"), ("d", "f20"), ("d", "f0")];
        assert!(calls.check().is_err_and(|reason| reason.contains("deep")));
        // Never so many, and never that long.
        assert!(doubling(&names[..32], 1000).check().is_err());
    }

    #[test]
    fn a_function_does_not_call_itself() {
        let calls = Calls { functions: vec![(("d", "f"), vec![("d", "f")])], graph: vec![("d", "f")] };
        assert!(calls.check().is_err_and(|reason| reason.contains("themselves")));
        let uncalled = Calls { graph: vec![("", "Relu")], ..calls };
        assert_eq!(uncalled.check(), Ok(()));
    }
}
