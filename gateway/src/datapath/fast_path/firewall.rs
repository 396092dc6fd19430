//! What the host does with forwarded packets that the fast path would skip.
//!
//! Asked: the base chains of nftables (and so of `iptables-nft`, firewalld and Docker), the tables of
//! `iptables-legacy`, and IPsec policies. Connection tracking and NAT have no hooks without rules of
//! one of these. Not asked, and named in docs/fast-path.md: queueing disciplines and TC filters of others,
//! IPVS, and BPF programs on netfilter hooks.

use std::fmt;
use std::fs;
use std::io;

use nix::libc;
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_XFRM};

use super::super::netlink::{ask, find, network_number};
use super::error::FastPathError;

/// Something that the fast path would skip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A chain of nftables that sees forwarded packets, and has rules or drops.
    Chain {
        /// Family, table and chain.
        name: String,
    },
    /// Tables of `iptables-legacy` or `ip6tables-legacy`; they may be empty.
    LegacyTables {
        /// File of `/proc/net` that names them.
        file: &'static str,
        /// Their names, separated by commas.
        names: String,
    },
    /// Policies that encrypt or refuse packets.
    IpsecPolicies,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain { name } => {
                write!(f, "the nftables chain {name} has rules for forwarded packets (`nft list ruleset`)")
            }
            Self::LegacyTables { file, names } => {
                write!(f, "there are iptables tables ({names}; /proc/net/{file})")
            }
            Self::IpsecPolicies => f.write_str("there are IPsec policies (`ip xfrm policy`)"),
        }
    }
}

/// The first obstacle of the network namespace, if there is any.
pub(super) fn obstacle() -> Result<Option<Obstacle>, FastPathError> {
    let unknown = |what| move |source| FastPathError::Unknown { what, source };
    if let Some(name) = chain().map_err(unknown("nftables"))? {
        return Ok(Some(Obstacle::Chain { name }));
    }
    for file in ["ip_tables_names", "ip6_tables_names"] {
        let names = legacy_tables(file).map_err(unknown("iptables"))?;
        if !names.is_empty() {
            return Ok(Some(Obstacle::LegacyTables { file, names }));
        }
    }
    let policies = has_policies().map_err(unknown("IPsec policies"))?;
    Ok(policies.then_some(Obstacle::IpsecPolicies))
}

fn chain() -> io::Result<Option<String>> {
    /// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETCHAIN`.
    const GET_CHAIN: u16 = 10 << 8 | 4;
    // `struct nfgenmsg`: any family.
    match ask(NETLINK_NETFILTER, GET_CHAIN, NLM_F_DUMP, &[0; 4]) {
        Ok(chains) => Ok(chains.iter().find_map(|chain| skipped_chain(chain))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Name of a chain that the fast path would skip: a base chain on the way of forwarded packets with rules, or
/// that drops what no rule takes.
fn skipped_chain(message: &[u8]) -> Option<String> {
    /// `NFTA_CHAIN_TABLE`, `_NAME`, `_HOOK`, `_POLICY`, `_USE`; `NFTA_HOOK_HOOKNUM`.
    const ATTRIBUTES: [u16; 6] = [1, 3, 4, 5, 6, 1];
    const ACCEPT: u32 = 1;
    let [table, name, hook, policy, uses, number] = ATTRIBUTES;
    let (header, attributes) = message.split_first_chunk::<4>()?;
    let [family, ..] = *header;
    let hook = find(find(attributes, hook)?, number).and_then(network_number)?;
    let family = on_the_way(family, hook)?;
    let value = |kind| find(attributes, kind).and_then(network_number);
    if value(uses).unwrap_or(1) == 0 && value(policy).unwrap_or(ACCEPT) == ACCEPT {
        return None;
    }
    let text = |kind| find(attributes, kind).unwrap_or_default().trim_ascii_end().to_vec();
    let name = [text(table), text(name)].map(|text| String::from_utf8_lossy(&text).replace('\0', ""));
    Some(format!("{family} {}", name.join(" ")))
}

/// Name of the family, if forwarded packets come by this hook of it (`enum nf_inet_hooks`, `enum
/// nf_dev_hooks`).
const fn on_the_way(family: u8, hook: u32) -> Option<&'static str> {
    const INET: u8 = 1;
    const IPV4: u8 = 2;
    const NETDEV: u8 = 5;
    const IPV6: u8 = 10;
    const INPUT: u32 = 1;
    const OUTPUT: u32 = 3;
    match (family, hook) {
        (INET | IPV4 | IPV6, INPUT | OUTPUT) => None,
        (INET, _) => Some("inet"),
        (IPV4, _) => Some("ip"),
        (IPV6, _) => Some("ip6"),
        (NETDEV, _) => Some("netdev"),
        _ => None,
    }
}

fn legacy_tables(file: &str) -> io::Result<String> {
    match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
        Ok(names) => Ok(names.split_whitespace().collect::<Vec<_>>().join(", ")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn has_policies() -> io::Result<bool> {
    /// `XFRM_MSG_GETSPDINFO`, whose payload and answer begin with a word of flags; `XFRMA_SPD_INFO`, three counts.
    const GET_POLICY_COUNTS: u16 = 0x25;
    const COUNTS: u16 = 1;
    let answers = match ask(NETLINK_XFRM, GET_POLICY_COUNTS, 0, &[0; 4]) {
        Ok(answers) => answers,
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let counts = answers.first().and_then(|answer| find(answer.get(4..)?, COUNTS)).and_then(|v| v.get(..12));
    Ok(counts.ok_or(io::ErrorKind::InvalidData)?.iter().any(|byte| *byte != 0))
}

/// What the kernel says of a part that it does not have.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP))
}
