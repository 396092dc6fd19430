//! Rules for a single Rust file: module doc, size, names. Pure.

use syn::visit::{self, Visit};

use super::SourceFile;
use super::finding::{Finding, Severity};
use super::uses::is_test_only;

/// Lines of production code above which a file is worth a thought.
const WORTH_A_THOUGHT: usize = 300;
/// Lines of production code above which a file must be divided.
const LIMIT: usize = 600;

/// Names that say nothing about what a module or type is.
const EMPTY_NAMES: &[&str] = &[
    "common",
    "data",
    "engine",
    "handler",
    "handlers",
    "helper",
    "helpers",
    "info",
    "manager",
    "misc",
    "mitm",
    "processor",
    "service",
    "services",
    "util",
    "utils",
];
/// Names that do not say which side of the gateway is meant; tests have machines of these names, and in
/// the protocol's own crate they are the roles of RFC 4253.
const SIDELESS_NAMES: &[&str] = &["client", "server"];
/// Beginnings of function names that say nothing about what a function does.
const EMPTY_VERBS: &[&str] = &["get_", "handle_", "process_"];

/// Checks a Rust file.
pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let parsed = match syn::parse_file(&file.text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let line = error.span().start().line;
            return vec![Finding::error(&file.path, line, "parse", format!("is not Rust: {error}"))];
        }
    };
    let mut findings: Vec<Finding> =
        [module_doc(file, &parsed), size(file, &parsed), file_name(file)].into_iter().flatten().collect();
    let mut names = Names { path: &file.path, findings: Vec::new() };
    names.visit_file(&parsed);
    findings.append(&mut names.findings);
    findings
}

fn module_doc(file: &SourceFile, parsed: &syn::File) -> Option<Finding> {
    let documented = parsed.attrs.iter().any(|attribute| attribute.path().is_ident("doc"));
    let message = "begin the file with `//!`: what it owns, its invariants, what it does not do";
    (!documented).then(|| Finding::error(&file.path, 1, "module-doc", message))
}

fn size(file: &SourceFile, parsed: &syn::File) -> Option<Finding> {
    let lines = production_lines(file, parsed);
    let mut finding = Finding::error(
        &file.path,
        1,
        "file-size",
        format!(
            "{lines} lines of production code (aim {WORTH_A_THOUGHT}, limit {LIMIT}): divide it by concern"
        ),
    );
    if lines <= LIMIT {
        finding.severity = Severity::Warning;
    }
    (lines > WORTH_A_THOUGHT).then_some(finding)
}

/// Lines before the tests: the first inline module under `#[cfg(test)]`.
fn production_lines(file: &SourceFile, parsed: &syn::File) -> usize {
    if file.is_unit_test() {
        return 0;
    }
    let tests = parsed.items.iter().find_map(|item| {
        let syn::Item::Mod(module) = item else { return None };
        let inline_tests = module.content.is_some() && is_test_only(&module.attrs);
        inline_tests.then(|| module.attrs[0].pound_token.spans[0].start().line - 1)
    });
    tests.unwrap_or_else(|| file.text.lines().count())
}

fn file_name(file: &SourceFile) -> Option<Finding> {
    let path = file.path.strip_suffix(".rs").unwrap_or(&file.path);
    let empty = path.split('/').find(|part| is_empty_name(&file.path, part))?;
    Some(Finding::error(&file.path, 1, "name", format!("`{empty}` says nothing: name it by what it owns")))
}

fn is_empty_name(path: &str, name: &str) -> bool {
    let has_sides = path.starts_with("gateway/") && !path.starts_with("gateway/ssh/");
    EMPTY_NAMES.contains(&name) || (SIDELESS_NAMES.contains(&name) && has_sides)
}

struct Names<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Names<'_> {
    fn module(&mut self, ident: &syn::Ident) {
        if is_empty_name(self.path, &ident.to_string()) {
            self.add(ident, "name it by what it owns");
        }
    }

    fn function(&mut self, ident: &syn::Ident) {
        let name = ident.to_string();
        if EMPTY_VERBS.iter().any(|verb| name.starts_with(verb)) {
            self.add(ident, "name it by what it yields or does");
        }
    }

    fn add(&mut self, ident: &syn::Ident, instead: &str) {
        let message = format!("`{ident}` says nothing: {instead}");
        self.findings.push(Finding::error(self.path, ident.span().start().line, "name", message));
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module(&module.ident);
        visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig.ident);
        visit::visit_item_fn(self, function);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // The methods of a trait are named by the trait.
        if item.trait_.is_none() {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig.ident);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        self.function(&function.sig.ident);
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, source: &str) -> Vec<(&'static str, Severity)> {
        check(&SourceFile::new(path, source)).iter().map(|found| (found.rule, found.severity)).collect()
    }

    #[test]
    fn a_file_without_a_module_doc_is_found() {
        assert_eq!(rules("a/flow.rs", "fn f() {}"), [("module-doc", Severity::Error)]);
        assert_eq!(rules("a/flow.rs", "/// An item.\nfn f() {}"), [("module-doc", Severity::Error)]);
        assert_eq!(rules("a/flow.rs", "#![no_std]\n//! Flows.\n"), []);
    }

    #[test]
    fn size_counts_production_code_only() {
        let code = |lines: usize| format!("//! Flows.\n{}", "fn f() {}\n".repeat(lines - 1));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(700));
        assert_eq!(rules("a/flow.rs", &code(300)), []);
        assert_eq!(rules("a/flow.rs", &format!("{}{tests}", code(300))), []);
        assert_eq!(rules("a/flow.rs", &code(301)), [("file-size", Severity::Warning)]);
        assert_eq!(rules("a/flow.rs", &format!("{}{tests}", code(601))), [("file-size", Severity::Error)]);
        assert_eq!(rules("a/src/flow/tests.rs", &code(700)), []);
        let test_import_first = code(601).replacen("fn f", "#[cfg(test)]\nuse a::b;\nfn f", 1);
        assert_eq!(rules("a/flow.rs", &test_import_first).last(), Some(&("file-size", Severity::Error)));
    }

    #[test]
    fn empty_names_are_found() {
        for path in ["a/utils.rs", "a/helpers/mod.rs", "gateway/src/ssh/client.rs"] {
            assert_eq!(rules(path, "//! Flows."), [("name", Severity::Error)], "{path}");
        }
        for source in ["mod common {}", "fn get_flow() {}", "impl Flow { fn handle_it(&self) {} }"] {
            let source = format!("//! Flows.\n{source}");
            assert_eq!(rules("a/flow.rs", &source), [("name", Severity::Error)], "{source}");
        }
        assert_eq!(rules("tests/src/server.rs", "//! The server's namespace."), []);
        assert_eq!(rules("gateway/ssh/src/kex/server.rs", "//! The server's role."), []);
        for source in ["impl Handler for Flow { fn handle_it(&self) {} }", "fn getters() {}", "fn info() {}"]
        {
            assert_eq!(rules("a/flow.rs", &format!("//! Flows.\n{source}")), [], "{source}");
        }
    }

    #[test]
    fn a_file_that_is_not_rust_is_found() {
        assert_eq!(rules("a/flow.rs", "fn {"), [("parse", Severity::Error)]);
    }
}
