//! Every path that a Rust file names, with its line. Pure.
//!
//! Found in `use` trees, in types, expressions and patterns, and in the arguments of macros, which
//! are searched token by token. Code under `#[cfg(test)]` is left out: a test may look at anything.

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path as it is written, and the inline modules that it is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    /// Line, from 1.
    pub(super) line: usize,
    /// Names of the inline modules around it, outermost first.
    pub(super) within: Vec<String>,
    /// Its segments; a glob ends in `*`.
    pub(super) segments: Vec<String>,
}

/// All paths of more than one segment, and all imports.
pub(super) fn named_paths(file: &syn::File) -> Vec<NamedPath> {
    let mut collector = Collector { within: Vec::new(), paths: Vec::new() };
    collector.visit_file(file);
    collector.paths
}

/// Whether one of `attributes` is `#[cfg(test)]`.
pub(super) fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
    })
}

struct Collector {
    within: Vec<String>,
    paths: Vec<NamedPath>,
}

impl Collector {
    fn add(&mut self, line: usize, segments: Vec<String>) {
        self.paths.push(NamedPath { line, within: self.within.clone(), segments });
    }

    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.add(line_of(&name.ident), with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(line_of(&rename.ident), with(&rename.ident)),
            syn::UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.add(line, [before, &["*".to_owned()]].concat());
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before);
                }
            }
        }
    }

    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(line, &mut segments);
                        line = ident.span().start().line;
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    if colons == 1 && punct.spacing() == Spacing::Alone {
                        self.flush(line, &mut segments);
                    }
                }
                TokenTree::Group(group) => {
                    self.flush(line, &mut segments);
                    colons = 0;
                    self.add_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.flush(line, &mut segments);
                    colons = 0;
                }
            }
        }
        self.flush(line, &mut segments);
    }

    fn flush(&mut self, line: usize, segments: &mut Vec<String>) {
        let segments = std::mem::take(segments);
        if segments.len() > 1 {
            self.add(line, segments);
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_only(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.within.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.within.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add(line_of(&path.segments[0].ident), segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_path(&item.path);
        self.add_tokens(item.tokens.clone());
    }
}

fn line_of(ident: &syn::Ident) -> usize {
    ident.span().start().line
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what syn adds, or hardly anybody writes, is looked at")]
fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(source: &str) -> Vec<String> {
        let file = syn::parse_file(source).unwrap();
        named_paths(&file).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_spread_out() {
        let source = "use crate::{ca::Signer, session::{self, outcome::*}, store as place};\nuse std::io;";
        let expected = [
            "crate::ca::Signer",
            "crate::session::self",
            "crate::session::outcome::*",
            "crate::store",
            "std::io",
        ];
        assert_eq!(written(source), expected);
    }

    #[test]
    fn inline_paths_are_found_in_types_expressions_and_patterns() {
        let source = "fn f(a: crate::a::T) -> Vec<crate::b::T> { match a { crate::c::V => super::d::g() } }";
        assert_eq!(written(source), ["crate::a::T", "crate::b::T", "crate::c::V", "super::d::g"]);
    }

    #[test]
    fn arguments_of_macros_are_searched() {
        let source =
            "fn f() { tokio::select! { x = crate::a::g(b::<C>::d, e: f) => { log!(\"{}\", crate::h::I) } } }";
        let found = written(source);
        assert_eq!(found[..2], ["tokio::select", "crate::a::g"]);
        assert_eq!(found.last().map(String::as_str), Some("crate::h::I"));
    }

    #[test]
    fn test_code_is_left_out() {
        let source = "#[cfg(test)]\nmod tests { use crate::a; }\n#[cfg(test)]\nuse crate::b;\n#[cfg(unix)]\nuse crate::c;";
        assert_eq!(written(source), ["crate::c"]);
    }

    #[test]
    fn lines_and_inline_modules_are_told() {
        let file = syn::parse_file("\nmod inner {\n    use super::a::b;\n}\n").unwrap();
        let segments = ["super", "a", "b"].map(str::to_owned).to_vec();
        let expected = NamedPath { line: 3, within: vec!["inner".into()], segments };
        assert_eq!(named_paths(&file), [expected]);
    }
}
