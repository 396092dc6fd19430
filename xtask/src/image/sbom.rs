//! The list of what is in an image, as SPDX 2.3 in JSON: Debian's packages, and the crates built into the gateway.
//!
//! Dates and identities follow from the commit and the contents. Licences of packages lie in the image, as
//! `/usr/share/doc/NAME/copyright`; those of crates are as their authors declare them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use super::digest;
use super::lock::Lock;
use super::recipe::Recipe;
use super::verity::uuid;
use crate::workspace::{self, printed};

/// The gateway's package in this workspace.
const GATEWAY: &str = "portreeve";
/// For what it is built.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What is used of cargo's metadata.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
    resolve: Resolve,
}

#[derive(Clone, Debug, Deserialize)]
struct Crate {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

/// `kind` is absent for what is built into a program.
#[derive(Debug, Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// The document. `created` is the commit's time as `YYYY-MM-DDThh:mm:ssZ`.
///
/// # Errors
/// When cargo does not tell the crates.
pub(super) fn document(recipe: &Recipe, lock: &Lock, created: &str) -> anyhow::Result<String> {
    let mut cargo = workspace::cargo();
    cargo.args(["metadata", "--format-version=1", "--locked", "--filter-platform", TARGET]);
    let metadata: Metadata = serde_json::from_str(&printed(&mut cargo)?)?;
    let crates = built_in(&metadata).context("cargo does not know the gateway")?;
    Ok(serde_json::to_string_pretty(&spdx(recipe, lock, &crates, created))? + "\n")
}

/// The gateway's crate and all that are built into it, sorted by name and version.
fn built_in(metadata: &Metadata) -> Option<Vec<Crate>> {
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let gateway = metadata.packages.iter().find(|package| package.name == GATEWAY)?;
    let (mut found, mut ask) = (BTreeSet::new(), vec![gateway.id.as_str()]);
    while let Some(id) = ask.pop() {
        if found.insert(id) {
            let normal = |kinds: &[Kind]| kinds.iter().any(|kind| kind.kind.is_none());
            let needed = nodes.get(id)?.deps.iter().filter(|needed| normal(&needed.dep_kinds));
            ask.extend(needed.map(|needed| needed.pkg.as_str()));
        }
    }
    let mut crates: Vec<_> =
        metadata.packages.iter().filter(|package| found.contains(package.id.as_str())).cloned().collect();
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Some(crates)
}

fn spdx(recipe: &Recipe, lock: &Lock, crates: &[Crate], created: &str) -> Value {
    let image = package("image", &recipe.prefix(), &recipe.version, None, None);
    let debian = lock.packages().map(|(name, locked)| {
        let purl = format!("pkg:deb/debian/{name}@{}?arch={}", locked.version, locked.architecture);
        package(&format!("deb-{name}"), name, &locked.version, None, Some(&purl))
    });
    let crates = crates.iter().map(|built| {
        let Crate { name, version, license, .. } = built;
        let purl = format!("pkg:cargo/{name}@{version}");
        package(&format!("crate-{name}-{version}"), name, version, license.as_deref(), Some(&purl))
    });
    let contents: Vec<Value> = debian.chain(crates).collect();
    let contains = contents.iter().filter_map(|package| {
        let id = package.get("SPDXID")?;
        Some(json!({"spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS", "relatedSpdxElement": id}))
    });
    let describes = json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-image",
    });
    let relationships: Vec<Value> = std::iter::once(describes).chain(contains).collect();
    let identity = uuid(&digest(&[&recipe.prefix(), created, &json!(contents).to_string()]));
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": recipe.prefix(),
        "documentNamespace": format!("urn:uuid:{identity}"),
        "creationInfo": {"created": created, "creators": ["Tool: cargo-xtask-image"]},
        "packages": std::iter::once(image).chain(contents).collect::<Vec<_>>(),
        "relationships": relationships,
    })
}

fn package(id: &str, name: &str, version: &str, license: Option<&str>, purl: Option<&str>) -> Value {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let mut package = json!({
        "SPDXID": format!("SPDXRef-{}", id.replace('+', "-plus").chars().map(plain).collect::<String>()),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": license.map_or_else(|| "NOASSERTION".to_owned(), |license| license.replace('/', " OR ")),
        "copyrightText": "NOASSERTION",
    });
    if let (Some(purl), Some(fields)) = (purl, package.as_object_mut()) {
        let reference = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl.replace('+', "%2B"),
        }]);
        fields.insert("externalRefs".to_owned(), reference);
    }
    package
}

#[cfg(test)]
mod tests {
    use super::super::recipe::Flavour;
    use super::*;

    #[test]
    fn a_document_names_packages_and_built_in_crates_each_once() {
        let recipe = Recipe { flavour: Flavour::Cloud, frr: false, version: "1.2".to_owned() };
        let lock = Lock::parse("libstdc++6 14.2.0-19 amd64\nsystemd 257-1 amd64\n").unwrap();
        let text = document(&recipe, &lock, "2026-01-02T03:04:05Z").unwrap();
        assert_eq!(text, document(&recipe, &lock, "2026-01-02T03:04:05Z").unwrap());
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let packages = parsed["packages"].as_array().unwrap();
        let ids: BTreeSet<_> = packages.iter().map(|package| package["SPDXID"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), packages.len());
        for id in ["SPDXRef-image", "SPDXRef-deb-libstdc-plus-plus6", "SPDXRef-deb-systemd"] {
            assert!(ids.contains(id), "{ids:?}");
        }
        let has = |name: &str| packages.iter().any(|package| package["name"] == name);
        assert!(has("portreeve-core") && has("tokio") && !has("proptest") && !has("xtask"));
        assert_eq!(parsed["relationships"].as_array().unwrap().len(), packages.len());
        assert!(text.contains("pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64"));
    }
}
