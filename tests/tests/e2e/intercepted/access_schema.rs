//! The access log against its published schema, by a validator that knows nothing of the gateway.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use portreeve_tests::{Options, run};
use serde_json::Value;

use super::{Check, access_event, policy};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, ssh};

pub(super) const CHECKS: &[Check] = &[Check::new("every_access_event_meets_its_published_schema", published)];

/// Prints what is wrong with the lines of standard input, and with the schema itself; a field that it does not describe
/// is wrong too.
const VALIDATOR: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(dict(schema, additionalProperties=False))
for number, line in enumerate(sys.stdin):
    for error in validator.iter_errors(json.loads(line)):
        print(number, error.message)
"#;

fn schema() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access-event.schema.json"))
}

fn wrong(lines: &str) -> Result<String> {
    let mut command = Command::new("python3");
    command.args(["-c", VALIDATOR]).arg(schema());
    run(&mut command, lines.as_bytes(), LIMIT)?.success().context("python3-jsonschema")
}

fn published(_: &Beds) -> Result<()> {
    let bed = own(&Options { policy: Some(policy("\"alice\"", "")), ..Options::default() })?;
    let gateway = bed.gateway()?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let ends = [
        (vec!["-b", "10.1.1.2", "root@10.1.2.3", "true"], "denied"),
        (vec!["alice@10.1.2.5", "true"], "target_unreachable"),
    ];
    for (args, outcome) in &ends {
        ensure!(ssh(&bed, args)?.ending() == "exit 255", "{outcome}");
        access_event(gateway, outcome, |event| event["outcome"] == *outcome)?;
    }
    let lines: Vec<String> = gateway.access_log()?.iter().map(Value::to_string).collect();
    ensure!(lines.len() > ends.len(), "{lines:?}");
    let found = wrong(&lines.join("\n"))?;
    ensure!(found.is_empty(), "{found}{lines:#?}");
    // The validator does find something.
    let mut bad = gateway.access_log()?.first().context("no event")?.clone();
    bad["outcome"] = "dropped".into();
    bad["comand"] = "id".into();
    let found = wrong(&bad.to_string())?;
    ensure!(found.contains("dropped") && found.contains("comand"), "{found}");
    Ok(())
}
