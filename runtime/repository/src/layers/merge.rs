//! Layers, one upon the other: which files an image has, and from which layer each is. Only names are looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The most files and links of an image, each counted as often as links lead to it.
const MAX_FILES: usize = 100_000;
/// Folders in folders, links among them.
const MAX_DEPTH: usize = 64;
/// Links that are followed to see where one leads, as Linux does.
const MAX_HOPS: usize = 40;

/// What lies in a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// Bytes of each file.
    pub(super) files: BTreeMap<String, u64>,
    /// Where each link leads.
    pub(super) links: BTreeMap<String, String>,
    /// What layers below have and this one takes away.
    pub(super) gone: BTreeSet<String>,
    /// Folders in which layers below count for nothing; an empty path is all.
    pub(super) opaque: BTreeSet<String>,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// By its place among the layers.
    pub(super) layer: usize,
    /// What it is called there.
    pub(super) path: String,
    pub(super) size: u64,
}

#[derive(Clone, Debug)]
enum Node {
    File { layer: usize, size: u64 },
    Link(String),
}

/// The files and links of an image.
pub(super) struct Merged(BTreeMap<String, Node>);

impl Merged {
    /// The lowest layer comes first.
    pub(super) fn of(layers: &[Content]) -> Self {
        let mut merged = Self(BTreeMap::new());
        for (layer, content) in layers.iter().enumerate() {
            for folder in &content.opaque {
                merged.empty(folder);
            }
            for path in &content.gone {
                merged.0.remove(path);
                merged.empty(path);
            }
            // What this layer has is what nothing below it hides or holds.
            for path in content.files.keys().chain(content.links.keys()) {
                merged.empty(path);
                for (at, _) in path.match_indices('/') {
                    merged.0.remove(&path[..at]);
                }
            }
            let files = content.files.iter().map(|(path, size)| (path.clone(), Node::File { layer, size: *size }));
            merged.0.extend(files);
            merged.0.extend(content.links.iter().map(|(path, to)| (path.clone(), Node::Link(to.clone()))));
        }
        merged
    }

    /// Removes all that lies in a folder.
    fn empty(&mut self, folder: &str) {
        if folder.is_empty() {
            return self.0.clear();
        }
        let inside: Vec<String> = self.below(folder).map(|(path, _)| path.clone()).collect();
        for path in inside {
            self.0.remove(&path);
        }
    }

    fn below(&self, folder: &str) -> impl Iterator<Item = (&String, &Node)> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let all = self.0.range(prefix.clone()..);
        all.take_while(move |(path, _)| path.starts_with(&prefix))
    }

    /// The files below a folder, by their paths in it; links are followed, which lead nowhere but into the image.
    pub(super) fn files(&self, folder: &str) -> Result<BTreeMap<String, Found>, String> {
        let root = match self.0.get(folder) {
            Some(Node::Link(_)) => self.resolve(folder).unwrap_or_else(|| folder.to_owned()),
            _ => folder.to_owned(),
        };
        let mut walk = Walk { merged: self, found: BTreeMap::new(), seen: 0, open: Vec::new() };
        walk.folder(&root, "")?;
        Ok(walk.found)
    }

    /// Where a link leads in the end; none if nowhere.
    fn resolve(&self, link: &str) -> Option<String> {
        let Node::Link(target) = self.0.get(link)? else { return None };
        let mut at: Vec<&str> = link.split('/').collect();
        at.pop();
        let (mut rest, mut hops): (Vec<&str>, usize) = (Vec::new(), 0);
        let mut next = Some(target);
        loop {
            if let Some(target) = next.take() {
                hops += 1;
                if hops > MAX_HOPS {
                    return None;
                }
                if target.starts_with('/') {
                    at.clear();
                }
                rest.extend(target.split('/').rev().filter(|part| !matches!(*part, "" | ".")));
            }
            let Some(part) = rest.pop() else { return Some(at.join("/")) };
            if part == ".." {
                // The root's is the root.
                at.pop();
                continue;
            }
            at.push(part);
            match self.0.get(&at.join("/")) {
                Some(Node::Link(target)) => {
                    at.pop();
                    next = Some(target);
                }
                Some(Node::File { .. }) if !rest.is_empty() => return None,
                _ => {}
            }
        }
    }
}

/// The way through the folders of an image.
struct Walk<'a> {
    merged: &'a Merged,
    found: BTreeMap<String, Found>,
    seen: usize,
    /// The folders around the present one, by their own paths.
    open: Vec<String>,
}

impl Walk<'_> {
    /// All in `folder`, which is called `shown`.
    fn folder(&mut self, folder: &str, shown: &str) -> Result<(), String> {
        if self.open.len() > MAX_DEPTH {
            return Err("its folders are nested too deep".to_owned());
        }
        // A link to a folder around it would go on for ever.
        if self.open.iter().any(|open| open == folder) {
            return Ok(());
        }
        self.open.push(folder.to_owned());
        let strip = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let merged = self.merged;
        let mut last = None;
        for (path, node) in merged.below(folder) {
            let name = path[strip..].split('/').next().unwrap_or_default();
            let (own, called) = (&path[..strip + name.len()], crate::shape::below(shown, name));
            if own.len() < path.len() {
                if last != Some(own) {
                    last = Some(own);
                    self.folder(own, &called)?;
                }
                continue;
            }
            self.seen += 1;
            if self.seen > MAX_FILES {
                return Err(format!("it has more than {MAX_FILES} files"));
            }
            match node {
                Node::File { layer, size } => self.file(called, own, *layer, *size),
                Node::Link(_) => {
                    let Some(target) = merged.resolve(own) else { continue };
                    match merged.0.get(&target) {
                        Some(Node::File { layer, size }) => self.file(called, &target, *layer, *size),
                        Some(Node::Link(_)) => {}
                        None => self.folder(&target, &called)?,
                    }
                }
            }
        }
        self.open.pop();
        Ok(())
    }

    fn file(&mut self, called: String, path: &str, layer: usize, size: u64) {
        self.found.insert(called, Found { layer, path: path.to_owned(), size });
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Merged};

    /// Files, links as `PATH>TARGET`, whiteouts as `-PATH`, opaque folders as `=PATH`.
    fn layer(all: &str) -> Content {
        let mut content = Content::default();
        for word in all.split_whitespace() {
            if let Some(path) = word.strip_prefix('-') {
                content.gone.insert(path.to_owned());
            } else if let Some(path) = word.strip_prefix('=') {
                content.opaque.insert(path.to_owned());
            } else if let Some((path, target)) = word.split_once('>') {
                content.links.insert(path.to_owned(), target.to_owned());
            } else {
                content.files.insert(word.to_owned(), 1);
            }
        }
        content
    }

    /// `PATH@LAYER`, with what it is called there where that differs.
    fn files(layers: &[&str], folder: &str) -> String {
        let layers: Vec<Content> = layers.iter().map(|all| layer(all)).collect();
        let found = Merged::of(&layers).files(folder).expect("few");
        let shown = found.iter().map(|(path, found)| {
            let own = crate::shape::below(folder, path);
            let from = if own == found.path { String::new() } else { format!("<{}", found.path) };
            format!("{path}@{}{from}", found.layer)
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn upper_layers_replace_and_take_away() {
        for (layers, expected) in [
            (&["m/a m/b", "m/b m/c"][..], "a@0 b@1 c@1"),
            (&["m/a m/b", "-m/a"], "b@0"),
            (&["m/d/a m/d/b m/e", "-m/d"], "e@0"),
            (&["m/d/a m/d/b m/e", "=m/d m/d/c"], "d/c@1 e@0"),
            (&["m/a x", "= m/b"], "b@1"),
            // The mark is of what lies below, not of what the same layer adds.
            (&["m/a", "-m/a m/a"], "a@1"),
            (&["m/d/a m/d/b", "m/d"], "d@1"),
            (&["m/d", "m/d/a"], "d/a@1"),
            (&["m>other other/a", "m/b"], "b@1"),
            (&["m/a", "-m", "m/b"], "b@2"),
            (&["ma/x m/a", "-ma"], "a@0"),
        ] {
            assert_eq!(files(layers, "m"), expected, "{layers:?}");
        }
    }

    #[test]
    fn links_are_followed_within_the_image() {
        for (layers, expected) in [
            (&["m/v1/a", "m/now>v1"][..], "now/a@0<m/v1/a v1/a@0"),
            (&["data/a m/b>/data/a m/c>../data/a m/d>../../../data/a"], "b@0<data/a c@0<data/a d@0<data/a"),
            (&["m/a>b m/b>c m/c"], "a@0<m/c b@0<m/c c@0"),
            (&["m/self>. m/up>.. m/x m/a>a m/lost>/nowhere m/x2>x/y"], "x@0"),
            (&["data/v/a m>data"], "v/a@0<data/v/a"),
        ] {
            assert_eq!(files(layers, "m"), expected, "{layers:?}");
        }
    }

    #[test]
    fn links_in_links_come_to_an_end() {
        // Each level doubles what is below it.
        let mut all = "m/0/a".to_owned();
        for level in 1..40 {
            all.push_str(&format!(" m/{level}/x>../{0} m/{level}/y>../{0}", level - 1));
        }
        let reason = Merged::of(&[layer(&all)]).files("m").map(drop).expect_err("too many");
        assert_eq!(reason, "it has more than 100000 files");
        let deep: String = (0..70).map(|_| "d/").collect::<String>() + "a";
        assert_eq!(
            Merged::of(&[layer(&deep)]).files("").map(drop).expect_err("deep"),
            "its folders are nested too deep"
        );
    }
}
