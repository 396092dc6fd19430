//! Peers of WireGuard that are identities of the policy.
//!
//! A peer names the e-mail address of an identity, and its addresses become that identity's on its interface, and on no
//! other. Works on the tables of the seed, so that what is wrong has the key that somebody wrote; what is no table or
//! text there is for others to tell.

use toml::{Table, Value};

/// A peer that is somebody.
#[derive(Debug)]
pub(super) struct Known {
    /// Key path of the name of the identity.
    pub(super) key: String,
    pub(super) interface: String,
    email: String,
    addresses: Vec<Value>,
}

/// A key path, and what is wrong there.
pub(super) type Problem = (String, String);

/// All of them.
pub(super) fn known(seed: &Table) -> Vec<Known> {
    let list =
        |table: &Table, key: &str| table.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut known = Vec::new();
    for (at, interface) in list(seed, "interfaces").iter().enumerate() {
        let Some(device) = interface.get("wireguard").and_then(Value::as_table) else { continue };
        for (index, peer) in list(device, "peers").iter().enumerate() {
            let (Some(interface), Some(email)) = (text(interface, "name"), text(peer, "identity")) else {
                continue;
            };
            let addresses = peer.as_table().map(|peer| list(peer, "allowed_ips")).unwrap_or_default();
            let key = format!("interfaces[{at}].wireguard.peers[{index}].identity");
            known.push(Known { key, interface, email, addresses });
        }
    }
    known
}

/// Gives identities of the policy the addresses of their peers: an entry without addresses gets those of one interface, and
/// for any other interface there is a copy of it.
pub(super) fn fill(policy: &mut Table, known: &[Known]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let written = policy.get("identities").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut filled = Filled { entries: written.clone(), places: Vec::new() };
    for peer in known {
        let found = written.iter().enumerate().find(|(_, entry)| peer.is(entry));
        let Some((at, entry)) = found else {
            let email = &peer.email;
            let message =
                format!("no entry of [[policy.identities]] has the e-mail address {email:?}: add one");
            problems.push((peer.key.clone(), message));
            continue;
        };
        if is_open(entry) && entry.get("interfaces").is_some() {
            let key = format!("policy.identities[{at}].interfaces");
            problems.push((key, "these are those of the peers: take it out, or add addresses".to_owned()));
        }
        filled.add(at, entry, peer);
    }
    if !filled.places.is_empty() {
        policy.insert("identities".to_owned(), Value::Array(filled.entries));
    }
    problems
}

/// Whether an entry has no addresses of its own.
fn is_open(entry: &Value) -> bool {
    entry.get("addresses").is_none()
}

impl Known {
    fn is(&self, entry: &Value) -> bool {
        let email = entry.get("email").and_then(Value::as_str);
        email.is_some_and(|email| email.eq_ignore_ascii_case(&self.email))
    }
}

/// Entries of identities, those of peers among them.
struct Filled<'k> {
    entries: Vec<Value>,
    /// Which entry was written, for which interface, and where its copy is.
    places: Vec<(usize, &'k str, usize)>,
}

impl<'k> Filled<'k> {
    /// Adds the addresses of a peer that is the entry at `at`.
    fn add(&mut self, at: usize, entry: &Value, peer: &'k Known) {
        let place = self.place(at, entry, &peer.interface);
        let addresses = self.entries.get_mut(place).and_then(|entry| entry.get_mut("addresses"));
        if let Some(addresses) = addresses.and_then(Value::as_array_mut) {
            addresses.extend(peer.addresses.iter().cloned());
        }
    }

    /// Where the entry for an interface is, which is made where there is none.
    fn place(&mut self, at: usize, entry: &Value, interface: &'k str) -> usize {
        let of_entry = |place: &&(usize, &str, usize)| place.0 == at;
        if let Some((.., place)) = self.places.iter().filter(of_entry).find(|place| place.1 == interface) {
            return *place;
        }
        let is_first = !self.places.iter().any(|place| place.0 == at);
        let place = if is_open(entry) && is_first { at } else { self.entries.len() };
        let copy = on_interface(entry, interface);
        match self.entries.get_mut(place) {
            Some(open) => *open = copy,
            None => self.entries.push(copy),
        }
        self.places.push((at, interface, place));
        place
    }
}

/// A copy without addresses yet.
fn on_interface(entry: &Value, interface: &str) -> Value {
    let mut copy = entry.clone();
    if let Some(table) = copy.as_table_mut() {
        table.insert("addresses".to_owned(), Value::Array(Vec::new()));
        table.insert("interfaces".to_owned(), Value::Array(vec![Value::from(interface)]));
    }
    copy
}
