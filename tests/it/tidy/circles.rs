//! Circles of imports: at every level of a crate, sibling modules, each with what is below it, import in one direction.
//!
//! Imports are what `use` declarations say and what paths through `crate`, `self` and `super` name elsewhere in the code.
//! A name that a module only re-exports counts for where it is declared. Unit tests are left out: they may know everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, UseTree};

use super::{relative, sources};
use crate::harness::{folder, root};

/// A path of names from the root of a crate; one that may lead into another crate is kept as it is written.
type Names = Vec<String>;

/// A path as it is written, but without `self` and `super`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Written {
    /// From the root of this crate.
    Own(Names),
    /// From a module's child, or from another crate.
    Bare(Names),
}

/// One module: what it declares itself, what its imports are called, and what its code names.
#[derive(Debug, Default)]
struct Module {
    /// What stands behind each name that is imported.
    imported: BTreeMap<String, Written>,
    named: BTreeSet<Written>,
    /// Whether all names of a module above are imported, which hides what is used of it.
    takes_all: bool,
}

/// The modules of a crate, by their paths.
#[derive(Debug, Default)]
pub(crate) struct Modules(BTreeMap<Names, Module>);

impl Modules {
    /// Reads the crate whose root is `lib.rs` or `main.rs` at `root`.
    pub(crate) fn read(root: &Path) -> Self {
        let mut modules = Self::default();
        modules.file(&[], root, root.parent().expect("in a folder"));
        modules
    }

    /// `folder` is where the files of the module's children lie.
    fn file(&mut self, module: &[String], path: &Path, folder: &Path) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.items(module, file.items, folder);
    }

    fn items(&mut self, module: &[String], items: Vec<Item>, folder: &Path) {
        self.0.entry(module.to_vec()).or_default();
        for item in items {
            if attributes(&item).is_some_and(is_test) {
                continue;
            }
            match item {
                Item::Use(item) => self.imports(module, &item.tree, &mut Names::new()),
                Item::Mod(item) => {
                    let name = item.ident.to_string();
                    let inner: Names = module.iter().cloned().chain([name.clone()]).collect();
                    match item.content {
                        Some((_, items)) => self.items(&inner, items, &folder.join(&name)),
                        None => {
                            let beside = folder.join(format!("{name}.rs"));
                            let path = if beside.exists() { beside } else { folder.join(&name).join("mod.rs") };
                            self.file(&inner, &path, &folder.join(&name));
                        }
                    }
                }
                other => self.paths(module, other.to_token_stream()),
            }
        }
    }

    fn imports(&mut self, module: &[String], tree: &UseTree, before: &mut Names) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.imports(module, &path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.imports(module, tree, before)),
            UseTree::Name(name) if name.ident == "self" => {
                let called = before.last().cloned().unwrap_or_default();
                self.import(module, before, Some(called));
            }
            UseTree::Name(name) => {
                let full: Names = before.iter().cloned().chain([name.ident.to_string()]).collect();
                self.import(module, &full, Some(name.ident.to_string()));
            }
            UseTree::Rename(renamed) => {
                let full: Names = before.iter().cloned().chain([renamed.ident.to_string()]).collect();
                self.import(module, &full, Some(renamed.rename.to_string()));
            }
            // Of an ancestor it imports whatever is there, and says so where it is used.
            UseTree::Glob(_) => self.import(module, before, None),
        }
    }

    fn import(&mut self, module: &[String], path: &[String], called: Option<String>) {
        let path = absolute(module, path);
        let own = self.0.entry(module.to_vec()).or_default();
        let of_ancestor = matches!(&path, Written::Own(names) if module.starts_with(names));
        own.takes_all |= called.is_none() && of_ancestor;
        if called.is_some() || !of_ancestor {
            own.named.insert(path.clone());
        }
        if let Some(called) = called {
            own.imported.insert(called, path);
        }
    }

    /// Paths in code that begin with a keyword: others go through an import.
    fn paths(&mut self, module: &[String], tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        let mut path = Names::new();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => self.paths(module, group.stream()),
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    if !path.is_empty() || ["crate", "self", "super"].contains(&name.as_str()) {
                        path.push(name);
                    }
                    let mut colons = 0;
                    while tokens
                        .next_if(|next| matches!(next, TokenTree::Punct(mark) if mark.as_char() == ':'))
                        .is_some()
                    {
                        colons += 1;
                    }
                    if colons != 2 && !path.is_empty() {
                        let found = std::mem::take(&mut path);
                        if found.len() > 1 {
                            let found = absolute(module, &found);
                            self.0.entry(module.to_vec()).or_default().named.insert(found);
                        }
                    }
                }
                _ => path.clear(),
            }
        }
    }

    /// A path from the root of this crate; none for one into another crate.
    fn own(&self, module: &[String], written: &Written) -> Option<Names> {
        match written {
            Written::Own(names) => Some(names.clone()),
            Written::Bare(names) => {
                let child: Names = module.iter().chain(names.first()).cloned().collect();
                self.0.contains_key(&child).then(|| module.iter().chain(names).cloned().collect())
            }
        }
    }

    /// The module in which a path ends: re-exports are followed. None where they lead into another crate.
    fn home(&self, path: &[String]) -> Option<Names> {
        let mut path = path.to_vec();
        // No chain of re-exports is longer.
        for _ in 0..16 {
            let mut module = path.clone();
            while !self.0.contains_key(&module) {
                module.pop();
            }
            let rest = &path[module.len()..];
            let Some(written) = rest.first().and_then(|name| self.0[&module].imported.get(name)) else {
                return Some(module);
            };
            let followed: Names = self.own(&module, written)?.iter().chain(&rest[1..]).cloned().collect();
            if followed == path {
                return Some(module);
            }
            path = followed;
        }
        panic!("{path:?} is re-exported in a circle");
    }

    /// The sets of sibling modules that import one another, each with the imports that hold it together.
    pub(crate) fn circles(&self) -> Vec<String> {
        let mut levels: BTreeMap<Names, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
        for (module, content) in &self.0 {
            for path in content.named.iter().filter_map(|path| self.own(module, path)) {
                let Some(home) = self.home(&path) else { continue };
                let common = module.iter().zip(&home).take_while(|(a, b)| a == b).count();
                let (Some(from), Some(to)) = (module.get(common), home.get(common)) else { continue };
                let edges = levels.entry(module[..common].to_vec()).or_default().entry(from.clone()).or_default();
                edges.entry(to.clone()).or_insert_with(|| format!("{} uses {}", module.join("::"), path.join("::")));
            }
        }
        let hidden = self.0.iter().filter(|(_, content)| content.takes_all);
        let hidden = hidden.map(|(module, _)| format!("{} imports all of a module above it", module.join("::")));
        levels.iter().flat_map(|(level, edges)| circles_of(level, edges)).chain(hidden).collect()
    }
}

/// The sets of nodes each of which leads to each other one.
fn circles_of(level: &[String], edges: &BTreeMap<String, BTreeMap<String, String>>) -> Vec<String> {
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(node) = next.pop() {
            for to in edges.get(node).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> = edges.keys().map(|node| (node, reach(node))).collect();
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for (node, ahead) in &reached {
        let circle: BTreeSet<&String> =
            ahead.iter().copied().filter(|other| reached.get(other).is_some_and(|back| back.contains(node))).collect();
        if circle.len() < 2 || !told.insert(circle.clone()) {
            continue;
        }
        let place = if level.is_empty() { "the root".to_owned() } else { level.join("::") };
        let within = |from: &&String| edges.get(*from).into_iter().flatten().filter(|(to, _)| circle.contains(to));
        let reasons: Vec<&str> = circle.iter().flat_map(within).map(|(_, reason)| reason.as_str()).collect();
        circles.push(format!("at {place}: {circle:?}\n    {}", reasons.join("\n    ")));
    }
    circles
}

/// A path without `self` and `super`.
fn absolute(module: &[String], path: &[String]) -> Written {
    let mut base = match path.first().map(String::as_str) {
        Some("crate") => return Written::Own(path[1..].to_vec()),
        Some("self" | "super") => module.to_vec(),
        _ => return Written::Bare(path.to_vec()),
    };
    let mut rest = path;
    while let Some(first) = rest.first() {
        match first.as_str() {
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        rest = &rest[1..];
    }
    base.extend(rest.iter().cloned());
    Written::Own(base)
}

fn attributes(item: &Item) -> Option<&[syn::Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

/// `#[cfg(test)]`, alone or among others.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let written: String = attribute.meta.to_token_stream().to_string().split_whitespace().collect();
        written == "cfg(test)" || written.starts_with("cfg(all(test,")
    })
}

/// The circles of a crate of these files; the first is its root.
fn circles_in(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    let folder = folder(&files);
    Modules::read(&folder.path().join(files[0].0)).circles()
}

#[test]
fn circles_are_found_at_every_level_and_through_re_exports() {
    let straight = [
        ("lib.rs", "mod a; mod b; pub use a::One; pub use std::fs as files;"),
        ("a.rs", "use crate::b::Two; pub struct One(Two); #[cfg(test)] mod tests { use crate::c::Three; }"),
        ("b.rs", "use std::a::One; use crate::files; pub struct Two;"),
    ];
    assert_eq!(circles_in(&straight), Vec::<String>::new());
    for back in
        ["use crate::One;", "use super::a::One;", "fn f(_: crate::a::One) {}", "fn f() { let _ = vec![super::One]; }"]
    {
        let circle = [straight[0], straight[1], ("b.rs", back)];
        let found = circles_in(&circle);
        assert_eq!(found.len(), 1, "{back}: {found:?}");
        assert!(found[0].starts_with("at the root: {\"a\", \"b\"}"), "{back}: {}", found[0]);
    }
    let all = [("lib.rs", "mod a;"), ("a.rs", "use super::*;")];
    assert_eq!(circles_in(&all), ["a imports all of a module above it"]);
    let below = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod x; mod y;"),
        ("a/x.rs", "use super::y::{self, Y}; pub struct X;"),
        ("a/y.rs", "pub struct Y; mod inner { use super::super::x::X; }"),
    ];
    let found = circles_in(&below);
    assert!(found.len() == 1 && found[0].starts_with("at a: {\"x\", \"y\"}"), "{found:?}");
}

#[test]
fn sibling_modules_import_in_one_direction() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|path| path.parent().is_some_and(|folder| folder.ends_with("src"))) {
        if source.file_name().is_some_and(|name| name == "lib.rs" || name == "main.rs") {
            let circles = Modules::read(source).circles();
            found.extend(circles.into_iter().map(|circle| format!("{} {circle}", relative(source))));
        }
    }
    found.extend(Modules::read(&root().join("tests/it/main.rs")).circles());
    assert!(found.is_empty(), "{}", found.join("\n"));
}
