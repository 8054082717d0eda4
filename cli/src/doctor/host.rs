//! The kernel, the clock, and programs of other platforms.

use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use strata_executor::emulation::Machine;

use super::Check;
use super::State;

/// The oldest kernel that sandboxes work on: it brought `mount_setattr`.
const OLDEST: (u32, u32) = (5, 12);

pub(super) fn kernel() -> Check {
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy();
    let found = format!("Linux {release}, {}", kernel.machine().to_string_lossy());
    if version(&release).is_none_or(|version| version >= OLDEST) {
        return Check::ok("kernel", found);
    }
    Check::wanting(
        "kernel",
        State::Missing,
        found,
        "RUN steps and `strata run` can't mount what they need",
        "use Linux 5.12 or newer",
    )
}

/// The first two numbers of a release, such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The beginning of 2024: strata is younger than that.
const PAST: Duration = Duration::from_hours(54 * 8766);

pub(super) fn clock() -> Check {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let shown = crate::human::timestamp(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    if now >= PAST {
        return Check::ok("clock", shown);
    }
    Check::wanting(
        "clock",
        State::Limited,
        format!("{shown}, which is past"),
        "certificates of registries are refused as not yet valid, and nothing in the cache grows old",
        "set the clock",
    )
}

/// Where the kernel keeps which programs run programs of other platforms.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

pub(super) fn emulators() -> Check {
    let names = handlers(Path::new(BINFMT));
    if !names.is_empty() {
        return Check::ok("emulators", names.join(", "));
    }
    let installed: Vec<&str> = Machine::known()
        .filter(|machine| !machine.is_native() && machine.emulator().is_some())
        .map(|machine| machine.architecture())
        .collect();
    let consequence =
        "RUN steps of `--platform` images whose programs this processor doesn't know fail";
    if installed.is_empty() {
        return Check::wanting(
            "emulators",
            State::Limited,
            "none for programs of other platforms",
            consequence,
            "install Debian's qemu-user-static, or register others with binfmt_misc (flag F)",
        );
    }
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy();
    let own = version(&release).is_some_and(|version| version >= OWN_REGISTRATIONS);
    if own && !rustix::process::geteuid().is_root() {
        let found = format!("for this user's builds alone: {}", installed.join(", "));
        return Check::ok("emulators", found);
    }
    Check::wanting(
        "emulators",
        State::Limited,
        format!("installed, but not registered: {}", installed.join(", ")),
        consequence,
        "as root: `systemctl restart systemd-binfmt`, or write to /proc/sys/fs/binfmt_misc/register",
    )
}

/// Since then each user namespace has registrations of its own.
const OWN_REGISTRATIONS: (u32, u32) = (6, 7);

/// The handlers that are switched on and work in a sandbox, which hasn't their program: those that
/// the kernel has opened already.
fn handlers(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags: "));
            text.starts_with("enabled\n") && flags.is_some_and(|flags| flags.contains('F'))
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version("5.4.0-1-amd64"), Some((5, 4)));
        assert!(version("5.9").unwrap() < OLDEST);
        assert!(version("6.1.0").unwrap() > OLDEST);
        assert_eq!(version("custom"), None);
    }

    #[test]
    fn only_handlers_that_work_in_a_sandbox_count() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let entry = "interpreter /usr/bin/qemu\noffset 0\n";
        write("status", "enabled\n");
        write("qemu-arm", &format!("enabled\n{entry}flags: POCF\n"));
        write("qemu-ppc", &format!("disabled\n{entry}flags: F\n"));
        write("python3", &format!("enabled\n{entry}flags: \n"));
        assert_eq!(handlers(directory.path()), ["qemu-arm"]);
        assert!(handlers(&directory.path().join("none")).is_empty());
    }
}
