//! A seed from the answers of a short dialogue: one set of targets, users and logins.
//!
//! Renders text; whether it is a good seed is for [`super::load`] to say, as of any other. Policies of more than one
//! application are for a file that somebody writes.

use toml::{Table, Value};

use super::MARK;

/// What was answered. Texts are as they were typed.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The machine's name.
    pub hostname: String,
    /// Name and hash of the password of the account on the console.
    pub account: Option<(String, String)>,
    /// Interfaces that are used.
    pub interfaces: Vec<Addressed>,
    /// Routers to everything else.
    pub routers: Vec<String>,
    /// Names of interfaces where users' connections come in.
    pub users_on: Vec<String>,
    /// Time servers.
    pub ntp: Vec<String>,
    /// Names and addresses of targets.
    pub targets: Vec<(String, String)>,
    /// E-mail and address of each user.
    pub users: Vec<(String, String)>,
    /// Logins that all of them may take at all targets.
    pub logins: Vec<String>,
    /// The recipient's public key.
    pub recipient: String,
    /// URL to which recordings are shipped.
    pub ship: Option<String>,
}

/// An interface and its addresses, or `dhcp`.
#[derive(Clone, Debug, Default)]
pub struct Addressed {
    /// Its name.
    pub name: String,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// Whether it asks by DHCP.
    pub dhcp: bool,
}

impl Answers {
    /// The seed.
    pub fn seed(&self) -> String {
        let mut seed = table([("hostname", text(&self.hostname)), ("recipients", texts([&self.recipient]))]);
        seed.insert("ntp".to_owned(), texts(&self.ntp));
        if let Some((name, password)) = &self.account {
            seed.insert(
                "break_glass".to_owned(),
                Value::Table(table([("account", text(name)), ("password", text(password))])),
            );
        }
        let interfaces =
            self.interfaces.iter().enumerate().map(|(index, interface)| self.interface(index, interface));
        seed.insert("interfaces".to_owned(), Value::Array(interfaces.collect()));
        let mut gateway = table([("datapath", Value::Table(table([("interfaces", texts(&self.users_on))])))]);
        if let Some(url) = &self.ship {
            let destination = table([("name", text("archive")), ("kind", text("http")), ("url", text(url))]);
            gateway.insert("ship".to_owned(), Value::Array(vec![Value::Table(destination)]));
        }
        seed.insert("gateway".to_owned(), Value::Table(gateway));
        seed.insert("policy".to_owned(), Value::Table(self.policy()));
        format!("{MARK}\n{seed}")
    }

    /// The default routes stand at the first interface: the kernel finds the way to a router by its address.
    fn interface(&self, index: usize, interface: &Addressed) -> Value {
        let mut table = table([("name", text(&interface.name)), ("addresses", texts(&interface.addresses))]);
        if interface.dhcp {
            table.insert("dhcp".to_owned(), text("both"));
        }
        if index == 0 && !self.routers.is_empty() {
            let routes = self.routers.iter().map(|via| {
                let to = if via.contains(':') { "::/0" } else { "0.0.0.0/0" };
                Value::Table(self::table([("to", text(to)), ("via", text(via))]))
            });
            table.insert("routes".to_owned(), Value::Array(routes.collect()));
        }
        Value::Table(table)
    }

    fn policy(&self) -> Table {
        let address = |address: &str| {
            let (family, address) = (if address.contains(':') { "ipv6" } else { "ipv4" }, text(address));
            Value::Table(table([(family, Value::Table(table([("ip_addr", address)])))]))
        };
        let targets = self
            .targets
            .iter()
            .map(|(name, at)| Value::Table(table([("hostname", text(name)), ("ip", address(at))])));
        let users = self
            .users
            .iter()
            .map(|(email, at)| Value::Table(table([("email", text(email)), ("addresses", texts([at]))])));
        let mut policy = table([
            ("targets", Value::Array(targets.collect())),
            ("identities", Value::Array(users.collect())),
        ]);
        if self.targets.is_empty() || self.users.is_empty() {
            return policy;
        }
        let hostnames = texts(self.targets.iter().map(|(name, _)| name));
        let criteria = table([
            ("port", Value::Integer(22)),
            ("protocol", text("SSH")),
            ("target_attributes", Value::Table(table([("hostname", hostnames)]))),
        ]);
        let include = self.users.iter().map(|(email, _)| {
            Value::Table(table([("email", Value::Table(table([("email", text(email))])))]))
        });
        let rule = table([
            ("name", text("users")),
            ("decision", text("allow")),
            ("include", Value::Array(include.collect())),
            (
                "connection_rules",
                Value::Table(table([("ssh", Value::Table(table([("usernames", texts(&self.logins))])))])),
            ),
        ]);
        let application = table([
            ("name", text("servers")),
            ("type", text("infrastructure")),
            ("target_criteria", Value::Array(vec![Value::Table(criteria)])),
            ("policies", Value::Array(vec![Value::Table(rule)])),
        ]);
        policy.insert("applications".to_owned(), Value::Array(vec![Value::Table(application)]));
        policy
    }
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn text(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().to_owned())
}

fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Value {
    Value::Array(texts.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::seed;

    #[test]
    fn answers_become_a_seed_that_loads() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let answers = Answers {
            hostname: "gw1".into(),
            account: Some(pair("keeper", "$6$salt$0123456789abcdef")),
            interfaces: vec![
                Addressed { name: "lan0".into(), addresses: vec!["192.0.2.1/24".into()], dhcp: false },
                Addressed { name: "wan0".into(), addresses: Vec::new(), dhcp: true },
            ],
            routers: vec!["192.0.2.254".into(), "2001:db8::1".into()],
            users_on: vec!["lan0".into()],
            ntp: vec!["192.0.2.123".into()],
            targets: vec![pair("db", "10.1.2.3"), pair("web", "2001:db8::7")],
            users: vec![pair("alice@example.com", "192.0.2.10")],
            logins: vec!["root".into()],
            recipient: "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=".into(),
            ship: Some("https://collector.example.com/{path}".into()),
        };
        let text = answers.seed();
        assert!(text.starts_with(MARK));
        let read = seed::load(&text, "seed").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert_eq!(read.account.as_ref().map(|account| account.name.as_str()), Some("keeper"));
        let wan = read
            .host_files(&BTreeMap::new())
            .into_iter()
            .find(|file| file.path.ends_with("30-wan0.network"))
            .unwrap();
        assert!(wan.text.contains("DHCP=yes"), "{}", wan.text);
        let without = Answers { users: Vec::new(), ship: None, account: None, ..answers };
        assert!(seed::load(&without.seed(), "seed").is_ok(), "targets that nobody may reach yet are closed");
    }
}
