//! What is registered with the kernel: <https://docs.kernel.org/admin-guide/binfmt-misc.html>.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::Machine;
use super::elf::HEADER;

/// Where the machine's registrations are shown.
const PLACE: &str = "/proc/sys/fs/binfmt_misc";

/// Registrations that are in force.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Handlers(Vec<Handler>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handler {
    pub(super) name: String,
    pub(super) interpreter: String,
    /// The interpreter is open already, so every root has it.
    pub(super) fixed: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Handlers {
    /// The machine's. None if they are not shown here.
    pub(super) fn of_machine() -> io::Result<Option<Self>> {
        if Path::new(PLACE).join("register").exists() {
            return Self::read(&File::open(PLACE)?).map(Some);
        }
        if super::in_user_namespace() || !rustix::process::geteuid().is_root() {
            // Looking would make new registrations, which hide the machine's.
            return Ok(None);
        }
        match new_mount() {
            Ok(mount) => Self::read(&mount).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Those that a mount shows.
    pub(super) fn of_mount(mount: &OwnedFd) -> io::Result<Self> {
        Self::read(mount)
    }

    fn read(directory: &impl AsFd) -> io::Result<Self> {
        let mut handlers = Vec::new();
        let status = read(directory, "status")?;
        if status.trim() != "enabled" {
            return Ok(Self(handlers));
        }
        // A new mount's descriptor only says where it is.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
        for entry in rustix::fs::Dir::new(listed)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if matches!(name, "." | ".." | "status" | "register") {
                continue;
            }
            // It may be gone meanwhile.
            if let Ok(text) = read(directory, name) {
                handlers.extend(Handler::parse(name, &text));
            }
        }
        Ok(Self(handlers))
    }

    /// The one that gets programs for `machine`, of shared objects and of others.
    pub(super) fn for_machine(&self, machine: &Machine) -> Option<&Handler> {
        let headers = [machine.header(2), machine.header(3)];
        let all = |handler: &&Handler| headers.iter().all(|header| handler.takes(header));
        let fixed = self.0.iter().filter(|handler| handler.fixed).find(all);
        fixed.or_else(|| self.0.iter().find(all))
    }
}

impl Handler {
    /// Reads what the kernel shows of a registration. None if it is off, or goes by a file's name.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "enabled" {
            return None;
        }
        let mut handler = Self {
            name: name.to_owned(),
            interpreter: String::new(),
            fixed: false,
            offset: 0,
            magic: Vec::new(),
            mask: Vec::new(),
        };
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "interpreter" => value.clone_into(&mut handler.interpreter),
                "flags:" => handler.fixed = value.contains('F'),
                "offset" => handler.offset = value.parse().ok()?,
                "magic" => handler.magic = unhex(value)?,
                "mask" => handler.mask = unhex(value)?,
                _ => {}
            }
        }
        (!handler.magic.is_empty()).then_some(handler)
    }

    fn takes(&self, header: &[u8; HEADER]) -> bool {
        let Some(start) = header.get(self.offset..) else {
            return false;
        };
        // Bytes beyond the header say nothing of the machine.
        self.magic.iter().zip(start).enumerate().all(|(at, pair)| {
            let (magic, byte) = pair;
            let mask = self.mask.get(at).copied().unwrap_or(0xff);
            magic & mask == byte & mask
        })
    }
}

/// The registrations of this process's user namespace, which are made if there are none.
pub(super) fn new_mount() -> io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        .union(MountAttrFlags::MOUNT_ATTR_NODEV)
        .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
    crate::sandbox::new_filesystem("binfmt_misc", &[], attributes)
}

/// Adds a registration.
pub(super) fn register(mount: &OwnedFd, line: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(mount, "register", flags, Mode::empty())?;
    File::from(file).write_all(line)
}

fn read(directory: &impl AsFd, name: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let mut text = String::new();
    File::from(file).take(64 << 10).read_to_string(&mut text)?;
    Ok(text)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
";

    fn machine(architecture: &str) -> Machine {
        Machine::of_architecture(architecture).unwrap()
    }

    #[test]
    fn a_registration_is_for_the_machine_whose_programs_it_takes() {
        let handlers = Handlers(Handler::parse("qemu-aarch64", ARM64).into_iter().collect());
        let found = handlers.for_machine(&machine("arm64")).unwrap();
        assert!(found.fixed);
        assert_eq!(
            found.interpreter,
            "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
        );
        for other in ["arm", "riscv64", "s390x", "amd64", "ppc64le"] {
            assert_eq!(handlers.for_machine(&machine(other)), None, "{other}");
        }
    }

    #[test]
    fn what_is_off_or_goes_by_names_is_no_emulator() {
        let off = ARM64.replacen("enabled", "disabled", 1);
        assert_eq!(Handler::parse("x", &off), None);
        let by_name = "enabled\ninterpreter /x\nflags: \nextension .py\n";
        assert_eq!(Handler::parse("x", by_name), None);
        for broken in ["", "enabled\nmagic 7\n", "enabled\noffset x\nmagic 7f\n"] {
            assert_eq!(Handler::parse("x", broken), None, "{broken}");
        }
        let late = Handler::parse("jar", "enabled\noffset 100\nmagic 00\n").unwrap();
        assert!(!late.takes(&machine("arm64").header(2)));
    }

    #[test]
    fn a_fixed_registration_is_preferred() {
        let loose = ARM64.replace("POF", "P");
        let handlers = Handlers(vec![
            Handler::parse("loose", &loose).unwrap(),
            Handler::parse("fixed", ARM64).unwrap(),
        ]);
        let found = handlers.for_machine(&machine("arm64")).unwrap();
        assert_eq!(found.name, "fixed");
        let handlers = Handlers(vec![Handler::parse("loose", &loose).unwrap()]);
        assert!(!handlers.for_machine(&machine("arm64")).unwrap().fixed);
    }
}
