//! What is asked for, and how each version of control groups is told.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::SandboxError;
use super::super::protocol::Failure;

/// Resource limits, by cgroup v1 or v2, whichever the host has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes.
    pub memory_swap: Option<u64>,
    /// CPUs, such as 1.5.
    pub cpus: Option<f64>,
    /// Microseconds of processor time in each period, in place of `cpus`.
    pub cpu_quota: Option<u64>,
    /// Microseconds of a period.
    pub cpu_period: Option<u64>,
    /// Share of processor time where others want some, too; 1024 is the usual one.
    pub cpu_shares: Option<u64>,
    /// CPUs that may be used, such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, written in the same way.
    pub cpuset_mems: Option<String>,
    /// Processes.
    pub pids: Option<u64>,
    /// Share of a disk's time where others want some, too: 10 to 1000.
    pub io_weight: Option<u16>,
    /// Limits of single devices.
    pub devices: Vec<DeviceLimit>,
    /// The group that each group is made in: from the top of the hierarchies if it begins with `/`,
    /// else from this process's own.
    pub parent: Option<String>,
}

/// A limit on what is read from or written to a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// What is limited.
    pub what: Rate,
    /// How much of it in each second.
    pub rate: u64,
}

/// See [`DeviceLimit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rate {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Operations that read.
    ReadOperations,
    /// Operations that write.
    WriteOperations,
}

impl Rate {
    /// The file of version 1.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::ReadBytes => "blkio.throttle.read_bps_device",
            Self::WriteBytes => "blkio.throttle.write_bps_device",
            Self::ReadOperations => "blkio.throttle.read_iops_device",
            Self::WriteOperations => "blkio.throttle.write_iops_device",
        }
    }

    /// The word of version 2's `io.max`.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::ReadBytes => "rbps",
            Self::WriteBytes => "wbps",
            Self::ReadOperations => "riops",
            Self::WriteOperations => "wiops",
        }
    }
}

/// Length of the periods in which processor time is dealt out, in microseconds.
const PERIOD: u64 = 100_000;

impl Limits {
    /// Quota and period, in microseconds.
    pub(super) fn quota(&self) -> Option<(u64, u64)> {
        let period = self.cpu_period.unwrap_or(PERIOD);
        let quota = self.cpu_quota.or(self.cpus.map(|cpus| part(cpus, period)));
        quota.map(|quota| (quota, period))
    }

    /// Whether it takes a control group to keep them.
    pub(in super::super) fn need_group(&self) -> bool {
        !self.controllers().is_empty()
    }

    /// The controllers that are needed, by their names in version 2.
    pub(super) fn controllers(&self) -> Vec<&'static str> {
        let mut needed = Vec::new();
        // With a given parent the group is to be in it whatever is limited.
        let placed = self.parent.is_some();
        if self.memory.is_some() || self.memory_swap.is_some() || placed {
            needed.push("memory");
        }
        if self.quota().is_some() || self.cpu_shares.is_some() || placed {
            needed.push("cpu");
        }
        if self.cpuset_cpus.is_some() || self.cpuset_mems.is_some() {
            needed.push("cpuset");
        }
        if self.io_weight.is_some() || !self.devices.is_empty() {
            needed.push("io");
        }
        if self.pids.is_some() || placed {
            needed.push("pids");
        }
        needed
    }
}

/// Refuses what means nothing. On the caller's side: not every number survives the way.
pub(in super::super) fn check(limits: &Limits) -> Result<(), SandboxError> {
    let refuse =
        |stage: &str, detail: String| Err(Failure::new(stage, detail).into_error(Vec::new()));
    if let Some(cpus) = limits.cpus
        && !(cpus.is_finite() && cpus > 0.0)
    {
        return refuse(
            "limit processor time",
            format!("{cpus} is not a number of CPUs"),
        );
    }
    if let Some(parent) = &limits.parent
        && Path::new(parent)
            .components()
            .any(|part| part == std::path::Component::ParentDir)
    {
        return refuse(
            "find the control group to make others in",
            format!("`{parent}` leads up"),
        );
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "checked to be positive and finite; conversion saturates"
)]
fn part(cpus: f64, period: u64) -> u64 {
    // The kernel takes no less than a millisecond.
    ((cpus * period as f64).round() as u64).max(1000)
}

/// Version 1's shares, 2 to 262144, as version 2's weight, 1 to 10000: as runtimes do it.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Version 1's weight, 10 to 1000, as version 2's, 1 to 10000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_parts_of_the_period() {
        let limits = |cpus, cpu_period| Limits {
            cpus: Some(cpus),
            cpu_period,
            ..Limits::default()
        };
        assert_eq!(limits(1.5, None).quota(), Some((150_000, 100_000)));
        assert_eq!(limits(0.000_1, None).quota(), Some((1000, 100_000)));
        assert_eq!(limits(0.5, Some(50_000)).quota(), Some((25_000, 50_000)));
        assert_eq!(Limits::default().quota(), None);
    }

    #[test]
    fn weights_of_version_1_become_those_of_version_2() {
        assert_eq!((cpu_weight(2), cpu_weight(1024)), (1, 39));
        assert_eq!(cpu_weight(u64::MAX), 10_000);
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }

    #[test]
    fn a_parent_above_is_refused() {
        for (parent, fine) in [
            ("/a/b", true),
            ("a", true),
            ("../a", false),
            ("/a/..", false),
        ] {
            let limits = Limits {
                parent: Some(parent.to_owned()),
                ..Limits::default()
            };
            assert_eq!(check(&limits).is_ok(), fine, "{parent}");
        }
    }
}
