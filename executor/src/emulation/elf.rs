//! What the first bytes of a program say about the machine that it is for.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a header that tell: up to the machine.
pub(super) const HEADER: usize = 20;

/// A kind of machine that programs are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Its name in platforms.
    architecture: &'static str,
    /// Its name in those of emulators.
    qemu: &'static str,
    /// 64 bits.
    wide: bool,
    big_endian: bool,
    /// `e_machine`.
    number: u16,
}

const fn machine(
    architecture: &'static str,
    qemu: &'static str,
    wide: bool,
    big_endian: bool,
    number: u16,
) -> Machine {
    Machine {
        architecture,
        qemu,
        wide,
        big_endian,
        number,
    }
}

/// Those that there are platforms for.
const KNOWN: [Machine; 13] = [
    machine("amd64", "x86_64", true, false, 62),
    machine("386", "i386", false, false, 3),
    machine("arm64", "aarch64", true, false, 183),
    machine("arm", "arm", false, false, 40),
    machine("riscv64", "riscv64", true, false, 243),
    machine("s390x", "s390x", true, true, 22),
    machine("ppc64le", "ppc64le", true, false, 21),
    machine("ppc64", "ppc64", true, true, 21),
    machine("loong64", "loongarch64", true, false, 258),
    machine("mips64le", "mips64el", true, false, 8),
    machine("mips64", "mips64", true, true, 8),
    machine("mipsle", "mipsel", false, false, 8),
    machine("mips", "mips", false, true, 8),
];

impl Machine {
    /// The machine that a platform's architecture names.
    pub fn of_architecture(architecture: &str) -> Option<Self> {
        KNOWN
            .iter()
            .find(|machine| machine.architecture == architecture)
            .copied()
    }

    /// The machine that a program is for, by its first bytes; none if it is no ELF file, or for a
    /// machine without a platform.
    pub fn of_program(start: &[u8]) -> Option<Self> {
        KNOWN
            .iter()
            .find(|machine| {
                let header = machine.header(2);
                let shared = machine.header(3);
                let fits = |header: &[u8; HEADER]| {
                    start.len() >= HEADER
                        && start[..6] == header[..6]
                        && start[16..HEADER] == header[16..]
                };
                fits(&header) || fits(&shared)
            })
            .copied()
    }

    /// Every machine that is known.
    pub fn known() -> impl Iterator<Item = Self> {
        KNOWN.into_iter()
    }

    /// Its name in platforms.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// True if this machine's processor runs its programs.
    pub fn is_native(&self) -> bool {
        let host = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        self.architecture == host || (self.architecture == "386" && host == "amd64")
    }

    /// The first bytes of a program of the type (`e_type`).
    pub(super) fn header(&self, kind: u16) -> [u8; HEADER] {
        let bytes = |number: u16| {
            if self.big_endian {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        };
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(b"\x7fELF");
        header[4] = 1 + u8::from(self.wide);
        header[5] = 1 + u8::from(self.big_endian);
        header[6] = 1;
        header[16..18].copy_from_slice(&bytes(kind));
        header[18..].copy_from_slice(&bytes(self.number));
        header
    }

    /// An emulator for it in PATH that needs nothing beside it.
    pub fn emulator(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let names = [
            format!("qemu-{}-static", self.qemu),
            format!("qemu-{}", self.qemu),
        ];
        std::env::split_paths(&path)
            .filter(|directory| directory.is_absolute())
            .flat_map(|directory| names.clone().map(|name| directory.join(name)))
            .find(|candidate| {
                rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
                    && is_static(candidate)
            })
    }

    /// What has to be written to `/proc/sys/fs/binfmt_misc/register` to have `emulator` run its
    /// programs: opened at once (`F`), with the name by which a program was called (`P`).
    pub fn registration(&self, emulator: &Path) -> String {
        // Byte 7 names a system's flavour; the type is that of a program or of a shared object.
        let mut mask = [0xff; HEADER];
        mask[7] = 0;
        mask[if self.big_endian { 17 } else { 16 }] = 0xfe;
        let escaped = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                write!(text, "\\x{byte:02x}").expect("writing to a String can't fail");
                text
            })
        };
        format!(
            ":qemu-{}:M::{}:{}:{}:OPF",
            self.qemu,
            escaped(&self.header(2)),
            escaped(&mask),
            emulator.display()
        )
    }
}

/// True if a program names no loader. Only what `e_phoff` and the program headers say is looked at.
fn is_static(path: &Path) -> bool {
    const INTERPRETER: u32 = 3;
    let read = || -> Option<bool> {
        let mut start = Vec::new();
        let file = std::fs::File::open(path).ok()?;
        file.take(64 << 10).read_to_end(&mut start).ok()?;
        let short = |at: usize| -> Option<usize> {
            let bytes = start.get(at..at + 2)?;
            Some(usize::from(u16::from_ne_bytes(bytes.try_into().ok()?)))
        };
        // Of this machine's own kind: 64 bits, or no emulator is of use.
        if start.get(..5)? != b"\x7fELF\x02" {
            return None;
        }
        let offset = u64::from_ne_bytes(start.get(32..40)?.try_into().ok()?);
        let offset = usize::try_from(offset).ok()?;
        let (size, count) = (short(54)?, short(56)?);
        for number in 0..count {
            let at = offset.checked_add(size.checked_mul(number)?)?;
            let kind = start.get(at..at.checked_add(4)?)?;
            if u32::from_ne_bytes(kind.try_into().ok()?) == INTERPRETER {
                return Some(false);
            }
        }
        Some(true)
    };
    read().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_machine() {
        for machine in KNOWN {
            for kind in [2, 3] {
                let mut header = machine.header(kind);
                header[7] = 3;
                assert_eq!(Machine::of_program(&header), Some(machine));
            }
            let found = Machine::of_architecture(machine.architecture());
            assert_eq!(found, Some(machine));
        }
        assert_eq!(Machine::of_program(b"#!/bin/sh\n"), None);
        assert_eq!(Machine::of_program(&[0; HEADER]), None);
        assert_eq!(Machine::of_architecture("amd128"), None);
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(Machine::of_program(&own).unwrap().is_native());
    }

    #[test]
    fn a_registration_has_the_form_that_the_kernel_reads() {
        let arm64 = Machine::of_architecture("arm64").unwrap();
        assert_eq!(
            arm64.registration(Path::new("/usr/bin/qemu-aarch64-static")),
            ":qemu-aarch64:M::\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\
             \\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\
             \\xff\\xff\\xff\\xfe\\xff\\xff\\xff:/usr/bin/qemu-aarch64-static:OPF"
        );
        let s390x = Machine::of_architecture("s390x").unwrap();
        let line = s390x.registration(Path::new("/q"));
        assert!(line.contains("\\x00\\x02\\x00\\x16:"), "{line}");
        assert!(line.contains("\\xff\\xfe\\xff\\xff:/q"), "{line}");
    }

    #[test]
    fn a_script_is_no_emulator() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qemu");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(!is_static(&path));
        // As every program of the tests, this one is linked to a loader.
        let dynamic = Path::new("/bin/ls");
        assert!(!is_static(dynamic));
    }
}
