//! What the two files say that does not go together.
//!
//! Either file is valid without the other; what is found here is probably not meant, and is a warning.

use super::daemon::Config;
use crate::snapshot::PolicySnapshot;

/// What the policy says that this gateway's configuration makes pointless; each a sentence.
pub fn warnings(config: &Config, policy: &PolicySnapshot) -> Vec<String> {
    let steered = &config.datapath.interfaces;
    let untold = (!policy.alerts.is_empty() && config.alert_exports.is_empty()).then(|| {
        "the alerts of the policy are recorded and logged, and nobody is sent a notice: add [[alerts.export]]"
            .to_owned()
    });
    let elsewhere = policy.identities.interfaces().iter();
    let elsewhere =
        elsewhere.filter(|name| !steered.iter().any(|interface| name.is_on(interface))).map(|name| {
            format!(
                "identities that are bound to the interface \"{name}\" are never known there: it is none of \
                 datapath.interfaces ({})",
                steered.join(", ")
            )
        });
    elsewhere.chain(untold).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Format, daemon, policy};
    use crate::id::Generation;

    #[test]
    fn an_identity_that_is_bound_where_nothing_is_steered_is_told() {
        let config =
            "[datapath]\ninterfaces = [\"lan0\", \"lan1\"]\n[recording]\nrecipient_key_file = \"/k\"\n";
        let config = daemon::load(config, "portreeve.toml").unwrap();
        let warnings = |names: &str| {
            let text = format!(
                "targets = []\n[[identities]]\naddresses = [\"10.0.0.1\"]\nemail = \"a@example.com\"\n{names}"
            );
            let loaded = policy::load(&text, Format::Toml, "policy.toml", Generation(1)).unwrap();
            super::warnings(&config, &loaded.snapshot)
        };
        let good = [String::new(), r#"interfaces = ["lan0", "lan1", "lan1.100"]"#.to_owned()];
        assert_eq!(good.map(|names| warnings(&names)), [Vec::<String>::new(), Vec::new()]);
        let told = warnings(r#"interfaces = ["lan0", "lan10"]"#);
        assert!(
            matches!(&told[..], [one] if one.contains("\"lan10\"") && one.contains("(lan0, lan1)")),
            "{told:?}"
        );
    }

    #[test]
    fn alerts_that_nobody_is_told_of_are_told() {
        let least = "[datapath]\ninterfaces = [\"lan0\"]\n[recording]\nrecipient_key_file = \"/k\"\n";
        let export = "[[alerts.export]]\nkind = \"http\"\nurl = \"https://h/\"\n";
        let alert = "[[alerts]]\nname = \"n\"\nseverity = \"low\"\ncommand = \"x\"\n";
        for (policy, config, told) in [(alert, "", 1), (alert, export, 0), ("", "", 0)] {
            let config = daemon::load(&format!("{least}{config}"), "portreeve.toml").unwrap();
            let text = format!("targets = []\n{policy}");
            let loaded = policy::load(&text, Format::Toml, "policy.toml", Generation(1)).unwrap();
            assert_eq!(super::warnings(&config, &loaded.snapshot).len(), told, "{policy}");
        }
    }
}
