//! How long files and functions are.

use std::fs;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::{relative, sources};

/// Lines of the longest file, tests included. CONTRIBUTING names the same number.
const FILE: usize = 500;

/// Lines from which a function counts as long, and how many such functions there may be.
const FUNCTION: usize = 60;
const LONG_FUNCTIONS: usize = 10;

#[test]
fn files_are_short() {
    for path in sources() {
        let lines = fs::read_to_string(&path).expect("read").lines().count();
        assert!(lines <= FILE, "{} has {lines} lines", relative(&path));
    }
    let said = fs::read_to_string(super::root().join("CONTRIBUTING.md")).expect("read");
    assert!(said.contains(&format!("{FILE} lines")), "CONTRIBUTING.md does not say {FILE} lines");
}

#[test]
fn few_functions_are_long() {
    let mut long = Long::default();
    for path in sources() {
        let file = syn::parse_file(&fs::read_to_string(&path).expect("read")).expect("Rust");
        long.file = relative(&path);
        long.visit_file(&file);
    }
    assert!(long.found.len() <= LONG_FUNCTIONS, "more than {LONG_FUNCTIONS}:\n{}", long.found.join("\n"));
}

#[derive(Default)]
struct Long {
    file: String,
    found: Vec<String>,
}

impl Long {
    fn see(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = block.span().end().line - signature.span().start().line + 1;
        if lines > FUNCTION {
            self.found.push(format!("{}: {} has {lines} lines", self.file, signature.ident));
        }
    }
}

impl<'a> Visit<'a> for Long {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.see(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.see(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}
