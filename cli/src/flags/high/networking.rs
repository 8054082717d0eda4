//! Which network, and how names are looked up in it.

use strata_executor::sandbox::Dns;
use strata_executor::sandbox::Network;

use super::each;
use super::flag;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::value;

/// The network of steps or of a container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Networking {
    /// None if no flag says which.
    pub(crate) network: Option<Network>,
    /// Lines for /etc/hosts.
    pub(crate) extra_hosts: Vec<(String, String)>,
    /// How names are looked up.
    pub(crate) dns: Dns,
}

impl Networking {
    /// Checks the flags.
    pub(crate) fn new(low: &low::Networking) -> Result<Self, CommandError> {
        Ok(Self {
            network: low
                .network
                .as_deref()
                .map(|text| flag("--network", value::network(text)))
                .transpose()?,
            extra_hosts: each("--add-host", &low.add_host, value::extra_host)?,
            dns: Dns {
                servers: each("--dns", &low.dns, value::address)?,
                search: each("--dns-search", &low.dns_search, value::word)?,
                options: each("--dns-option", &low.dns_option, value::word)?,
            },
        })
    }
}
