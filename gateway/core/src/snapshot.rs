//! Everything a connection is decided by, immutable: one snapshot per connection.

use std::net::IpAddr;
use std::sync::Arc;

use crate::alert::AlertRules;
use crate::expression::FlowFacts;
use crate::geo::{CountryCode, GeoTable};
use crate::id::Generation;
use crate::identity::{Identity, IdentityTable, Unidentified};
use crate::infrastructure::{self, AccessRequest, ApproachingUser, Denial, InfrastructureSet};
use crate::login::Login;
use crate::net::FlowTuple;
use crate::net::interface::InterfaceName;
use crate::network_policy::{self, NetworkPolicySet, NetworkVerdict};

/// A validated policy file.
#[derive(Clone, Debug)]
pub struct PolicySnapshot {
    /// Which load made it.
    pub generation: Generation,
    /// Who is behind which address.
    pub identities: IdentityTable,
    /// Which address is in which country.
    pub geo: GeoTable,
    /// The first decision.
    pub network: NetworkPolicySet,
    /// The second decision.
    pub infrastructure: InfrastructureSet,
    /// What somebody is to be told of.
    pub alerts: AlertRules,
}

impl PolicySnapshot {
    /// The identity behind the source address of a flow that came in on `ingress`, where that is known.
    ///
    /// # Errors
    /// Why nobody is known there.
    pub fn identify(
        &self,
        ip: IpAddr,
        ingress: Option<&InterfaceName>,
    ) -> Result<&Arc<Identity>, Unidentified> {
        self.identities.lookup(ip, ingress)
    }

    /// ISO 3166-1 alpha-2 code of the country of an address.
    pub fn country(&self, ip: IpAddr) -> Option<&str> {
        self.geo.country(ip).map(CountryCode::as_str)
    }

    /// The facts of a flow, for the network policies.
    pub fn facts<'a>(&'a self, flow: FlowTuple, identity: Option<&'a Identity>) -> FlowFacts<'a> {
        let dst = flow.original_dst;
        let address = self.infrastructure.target_address_at(dst);
        FlowFacts {
            flow,
            source_country: self.country(flow.client.ip()),
            vnet_id: address.and_then(|address| address.virtual_network_id.as_deref()),
            identity,
            target: self.infrastructure.target_at(dst).map(|target| target.hostname.as_str()),
        }
    }

    /// The first decision about a flow.
    pub fn network_verdict(&self, flow: FlowTuple, identity: Option<&Identity>) -> NetworkVerdict {
        network_policy::evaluate(&self.network, &self.facts(flow, identity))
    }

    /// Whether the infrastructure policies know the user of a flow at its target, whichever the login.
    ///
    /// # Errors
    /// As [`infrastructure::approach`].
    pub fn approach(&self, flow: FlowTuple, identity: &Identity) -> Result<(), Denial> {
        let source_country = self.country(flow.client.ip());
        infrastructure::approach(&self.infrastructure, ApproachingUser { flow, identity, source_country })
    }

    /// What a user asks for, for the infrastructure policies.
    pub fn access_request<'a>(
        &'a self,
        flow: FlowTuple,
        identity: &'a Identity,
        login: &'a Login,
    ) -> AccessRequest<'a> {
        AccessRequest { flow, identity, source_country: self.country(flow.client.ip()), login }
    }
}
