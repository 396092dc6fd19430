//! The way of a steered packet to the local host: a rule on its mark, and a table that delivers.
//!
//! For each family a rule `fwmark MARK lookup TABLE` and in that table the only route `local
//! default dev lo`. Without them a steered packet goes nowhere. Both steps are idempotent.
//!
//! Does not choose mark or table: the configuration does.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteMessage, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use nix::net::if_::if_nametoindex;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::DatapathError;

/// Early, so that no rule of the host leads a steered packet elsewhere.
const RULE_PRIORITY: u32 = 70;

/// Mark and table of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Routes {
    mark: u32,
    table: u32,
}

impl Routes {
    /// Names the rules; changes nothing.
    pub(super) const fn new(mark: u32, table: u32) -> Self {
        Self { mark, table }
    }

    /// Adds what is missing of rules and routes; says whether any rule was. What was added before an
    /// error is taken down again.
    pub(super) async fn install(self) -> Result<bool, DatapathError> {
        let mut added = false;
        match self.add(&mut added).await {
            Ok(()) => Ok(added),
            Err(error) => {
                if added {
                    // The first error is the one to tell.
                    self.remove().await.ok();
                }
                Err(error)
            }
        }
    }

    async fn add(self, added: &mut bool) -> Result<(), DatapathError> {
        let loopback = loopback()?;
        with_netlink(async |netlink| {
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let mut request = netlink.route().add(self.route(family, loopback));
                request = request.replace();
                self.check("add the local route", request.execute().await, &[])?;
                let mut request = netlink.rule().add();
                *request.message_mut() = self.rule(family);
                let result = request.execute().await;
                *added |= result.is_ok();
                self.check("add the rule", result, &[nix::libc::EEXIST])?;
            }
            Ok(())
        })
        .await
    }

    /// Removes what is there of rules and routes. Each is tried, and the first error returned.
    pub(super) async fn remove(self) -> Result<(), DatapathError> {
        const GONE: [i32; 3] = [nix::libc::ENOENT, nix::libc::ESRCH, nix::libc::EAFNOSUPPORT];
        let loopback = loopback()?;
        with_netlink(async move |netlink| {
            let mut removed = Ok(());
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let rule = netlink.rule().del(self.rule(family)).execute().await;
                removed = removed.and(self.check("remove the rule", rule, &GONE));
                let route = netlink.route().del(self.route(family, loopback)).execute().await;
                removed = removed.and(self.check("remove the local route", route, &GONE));
            }
            removed
        })
        .await
    }

    fn rule(self, family: AddressFamily) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = family;
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![
            RuleAttribute::Priority(RULE_PRIORITY),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(u32::MAX),
            RuleAttribute::Table(self.table),
        ];
        rule
    }

    fn route(self, family: AddressFamily, loopback: u32) -> RouteMessage {
        if family == AddressFamily::Inet {
            RouteMessageBuilder::<Ipv4Addr>::new()
                .table_id(self.table)
                .kind(RouteType::Local)
                .scope(RouteScope::Host)
                .output_interface(loopback)
                .build()
        } else {
            RouteMessageBuilder::<Ipv6Addr>::new()
                .table_id(self.table)
                .kind(RouteType::Local)
                .scope(RouteScope::Universe)
                .output_interface(loopback)
                .build()
        }
    }

    /// Takes the errors in `fine` for success.
    fn check(
        self,
        action: &str,
        result: Result<(), rtnetlink::Error>,
        fine: &[i32],
    ) -> Result<(), DatapathError> {
        match result {
            Err(rtnetlink::Error::NetlinkError(error)) if fine.contains(&-error.raw_code()) => Ok(()),
            result => result.map_err(|source| DatapathError::Route {
                action: format!("{action} (mark {:#x}, table {})", self.mark, self.table),
                source,
            }),
        }
    }
}

fn loopback() -> Result<u32, DatapathError> {
    if_nametoindex("lo").map_err(|errno| DatapathError::Netlink(errno.into()))
}

/// Runs `work` with a netlink connection that lives as long as it.
async fn with_netlink<F>(work: impl FnOnce(Handle) -> F) -> Result<(), DatapathError>
where
    F: Future<Output = Result<(), DatapathError>>,
{
    let (connection, handle, _events) = rtnetlink::new_connection().map_err(DatapathError::Netlink)?;
    tokio::select! {
        result = work(handle) => result,
        () = connection => Err(DatapathError::Netlink(io::ErrorKind::ConnectionAborted.into())),
    }
}
