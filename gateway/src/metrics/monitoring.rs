//! The alert rules and the dashboard of `appliance-image/monitoring` name what the gateway has.
//!
//! Metrics, outcomes and reasons are compared with the golden file, headings with the documents. That the rules are
//! rules, and fire, is tried with Prometheus by the end-to-end tests.

use std::collections::BTreeSet;

const GOLDEN: &str = include_str!("../../testdata/metrics.txt");
const RULES: &str = include_str!("../../../appliance-image/monitoring/portreeve.rules.yml");
const DASHBOARD: &str = include_str!("../../../appliance-image/monitoring/portreeve-dashboard.json");
const OPERATE: (&str, &str) = ("docs/operate.md#", include_str!("../../../docs/operate.md"));

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("portreeve_")).collect()
}

/// Names of samples that a scrape has.
fn exposed() -> BTreeSet<String> {
    let mut exposed: BTreeSet<String> = named(GOLDEN).into_iter().map(str::to_owned).collect();
    // The golden file leaves buckets out, and has names of families beside those of samples.
    let histograms =
        GOLDEN.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"));
    exposed.extend(histograms.map(|name| format!("{name}_bucket")));
    let families = GOLDEN.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (family, kind) in families {
        if kind != "gauge" {
            exposed.remove(family);
        }
    }
    exposed
}

/// The values of `label` that a text selects by `=`, `!=`, `=~` and `!~`.
fn selected<'t>(text: &'t str, label: &str) -> BTreeSet<&'t str> {
    let mut values = BTreeSet::new();
    for after in text.split(label).skip(1) {
        let operator = after.trim_start_matches(['=', '!', '~']);
        // In JSON the quotes have a backslash.
        let quoted = operator.trim_start_matches('\\').strip_prefix('"');
        if operator.len() < after.len()
            && let Some((pattern, _)) = quoted.and_then(|rest| rest.split_once(['"', '\\']))
        {
            values.extend(pattern.split('|'));
        }
    }
    values
}

/// The anchor of a heading, as it is made of Markdown on the web.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let exposed = exposed();
    assert!(exposed.contains("portreeve_login_duration_seconds_bucket"), "{exposed:?}");
    for (file, text) in [("rules", RULES), ("dashboard", DASHBOARD)] {
        let unknown: Vec<_> = named(text).into_iter().filter(|name| !exposed.contains(*name)).collect();
        assert!(unknown.is_empty(), "the {file} name what no scrape has: {unknown:?}");
        assert!(named(text).len() > 15, "the {file} name next to nothing");
    }
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let shown = named(DASHBOARD);
    let hidden: Vec<_> = GOLDEN
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(family, _)| family)
        .filter(|family| !shown.iter().any(|name| name.starts_with(family)))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn rules_and_dashboard_select_outcomes_and_reasons_that_there_are() {
    for (label, least) in [("outcome", 5), ("reason", 3)] {
        let known = selected(GOLDEN, label);
        let is_known = |value: &&&str| match value.strip_suffix(".*") {
            Some(start) => known.iter().any(|name| name.starts_with(start)),
            None => known.contains(**value),
        };
        let used = &selected(RULES, label) | &selected(DASHBOARD, label);
        let unknown: Vec<_> = used.iter().filter(|value| !is_known(value)).collect();
        assert!(unknown.is_empty() && used.len() >= least, "{label}: {unknown:?} of {used:?}");
    }
}

#[test]
fn every_rule_says_what_to_do_and_where_more_is_told() {
    let (page, text) = OPERATE;
    let anchors: BTreeSet<_> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let rules: Vec<&str> = RULES.split("- alert: ").skip(1).collect();
    assert!(rules.len() >= 20, "{} rules", rules.len());
    for rule in rules {
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "no {part}in {rule}");
        }
        let told = rule.split("docs: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let told = told.strip_prefix(page).unwrap_or_else(|| panic!("no page in {rule}"));
        assert!(anchors.contains(told), "{told} is no heading of {page}: {anchors:?}");
    }
}
