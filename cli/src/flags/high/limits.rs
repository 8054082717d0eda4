//! Limits by control group.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;

use strata_executor::sandbox::DeviceLimit;
use strata_executor::sandbox::Limits;
use strata_executor::sandbox::Rate;

use super::each;
use super::flag;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::value;
use crate::human;

/// Checks the limits by control group.
pub(super) fn limits(low: &low::Limits) -> Result<Limits, CommandError> {
    let memory = low
        .memory
        .as_deref()
        .map(|text| flag("--memory", value::memory(text)))
        .transpose()?;
    let memory_swap = match low.memory_swap.as_deref() {
        None => None,
        Some("-1") => Some(u64::MAX),
        Some(text) => Some(flag("--memory-swap", value::memory(text))?),
    };
    match (memory, memory_swap) {
        (None, Some(_)) => {
            return Err(CommandError::usage("`--memory-swap` needs `--memory`"));
        }
        (Some(memory), Some(both)) if both < memory => {
            return Err(CommandError::usage(
                "`--memory-swap` is memory and swap together and can't be less than `--memory`",
            ));
        }
        _ => {}
    }
    let cpus = low
        .cpus
        .as_deref()
        .map(|text| flag("--cpus", value::cpus(text)))
        .transpose()?;
    let pids = match low.pids_limit.as_deref() {
        None | Some("-1" | "0") => None,
        Some(text) => Some(flag(
            "--pids-limit",
            text.parse()
                .map_err(|_| format!("`{text}` is not a number of processes")),
        )?),
    };
    if low.cpus.is_some() && low.cpu_quota.is_some() {
        return Err(CommandError::usage(
            "`--cpus` and `--cpu-quota` contradict each other",
        ));
    }
    // What the kernel takes.
    for (name, value, range) in [
        ("--cpu-quota", low.cpu_quota, 1000..=u64::MAX),
        ("--cpu-period", low.cpu_period, 1000..=1_000_000),
        ("--cpu-shares", low.cpu_shares, 2..=262_144),
        ("--blkio-weight", low.blkio_weight.map(u64::from), 10..=1000),
    ] {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            return Err(CommandError::usage(format!(
                "`{name}`: {value} is not between {} and {}",
                range.start(),
                range.end()
            )));
        }
    }
    let set = |name: &str, given: &Option<String>| {
        given
            .as_deref()
            .map(|text| flag(name, cpu_list(text)))
            .transpose()
    };
    let mut devices = Vec::new();
    for (name, given, what) in [
        ("--device-read-bps", &low.device_read_bps, Rate::ReadBytes),
        (
            "--device-write-bps",
            &low.device_write_bps,
            Rate::WriteBytes,
        ),
        (
            "--device-read-iops",
            &low.device_read_iops,
            Rate::ReadOperations,
        ),
        (
            "--device-write-iops",
            &low.device_write_iops,
            Rate::WriteOperations,
        ),
    ] {
        devices.extend(each(name, given, |text| device_limit(text, what))?);
    }
    Ok(Limits {
        memory,
        memory_swap,
        cpus,
        cpu_quota: low.cpu_quota,
        cpu_period: low.cpu_period,
        cpu_shares: low.cpu_shares,
        cpuset_cpus: set("--cpuset-cpus", &low.cpuset_cpus)?,
        cpuset_mems: set("--cpuset-mems", &low.cpuset_mems)?,
        pids,
        io_weight: low.blkio_weight,
        devices,
        parent: low.cgroup_parent.clone(),
    })
}

/// Numbers and ranges of them, such as `0-2,4`. Which of them there are, the kernel knows.
fn cpu_list(text: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let fine = text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => number(first).is_some_and(|it| Some(it) <= number(last)),
        None => number(part).is_some(),
    });
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a list of numbers such as `0-2,4`"))
    }
}

/// `/dev/sda:1m`
fn device_limit(text: &str, what: Rate) -> Result<DeviceLimit, String> {
    let (path, rate) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("`{text}` is not of the form `DEVICE:RATE`"))?;
    let rate = match what {
        Rate::ReadBytes | Rate::WriteBytes => human::parse_size(rate)?,
        Rate::ReadOperations | Rate::WriteOperations => rate
            .parse()
            .map_err(|_| format!("`{rate}` in `{text}` is not a number"))?,
    };
    if rate == 0 {
        return Err(format!("`{text}` would let nothing through"));
    }
    let metadata = std::fs::metadata(path).map_err(|error| format!("`{path}`: {error}"))?;
    if !metadata.file_type().is_block_device() {
        return Err(format!("`{path}` is not a block device"));
    }
    Ok(DeviceLimit {
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        what,
        rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_numbers_and_ranges() {
        for text in ["0", "0-2,4", "3,1"] {
            assert_eq!(cpu_list(text).unwrap(), text);
        }
        for text in ["", "a", "2-1", "1-", "-1", "1,,2", "0 1"] {
            assert!(cpu_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_block_devices_have_rates() {
        for (text, part) in [
            ("/dev/null:1m", "not a block device"),
            ("/none/such:1m", "/none/such"),
            ("/dev/null", "DEVICE:RATE"),
            ("/dev/null:0", "nothing"),
        ] {
            let error = device_limit(text, Rate::WriteBytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
