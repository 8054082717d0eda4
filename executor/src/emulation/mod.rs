//! Programs of other architectures: whether this machine runs them, and how it can be made to.
//!
//! The kernel hands a program that it can't run to an interpreter that was registered for its first
//! bytes (`binfmt_misc`); for other architectures that is `qemu-user`. A sandbox has another root, so
//! only an interpreter that was opened when it was registered (flag `F`) can be found from there.
//!
//! In a user namespace of its own, a process has registrations of its own since Linux 6.7: there an
//! emulator that is installed is all that is needed, and nothing on the machine changes.

mod elf;
mod handlers;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

pub use elf::Machine;
use handlers::Handlers;

/// Whether programs for a machine run here, and if not, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// By the processor.
    Native,
    /// By an interpreter that sandboxes can reach.
    Emulated,
    /// An interpreter is registered, but a sandbox can't reach it: without the flag `F`.
    NotFixed {
        /// Name of the registration.
        name: String,
        /// The interpreter.
        interpreter: String,
    },
    /// None is registered.
    Missing {
        /// An emulator that is installed.
        emulator: Option<PathBuf>,
    },
    /// It can't be seen what is registered: `binfmt_misc` is not mounted.
    Unknown,
}

/// Looks for how programs for `machine` run.
pub fn support(machine: &Machine) -> Support {
    if machine.is_native() {
        return Support::Native;
    }
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let handlers = match &*own {
        Some(mount) => Handlers::of_mount(mount).map(Some),
        None => Handlers::of_machine(),
    };
    match handlers {
        Ok(Some(handlers)) => match handlers.for_machine(machine) {
            Some(handler) if handler.fixed => Support::Emulated,
            Some(handler) => Support::NotFixed {
                name: handler.name.clone(),
                interpreter: handler.interpreter.clone(),
            },
            None => Support::Missing {
                emulator: machine.emulator(),
            },
        },
        Ok(None) | Err(_) => match machine.emulator() {
            None => Support::Unknown,
            emulator => Support::Missing { emulator },
        },
    }
}

/// Registrations of this process's user namespace, kept for as long as the process lives.
static OWN: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Registers every installed emulator for this process and its children alone, so that programs for
/// all of `machines` run. True if that was done now. It can't be if this process is in no user
/// namespace of its own, if the kernel is too old, or if an emulator is not installed.
pub fn register_for_children(machines: &[Machine]) -> bool {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if own.is_some() {
        // Another step was quicker.
        return false;
    }
    // What the machine has registered is not seen any more from here on.
    if !in_user_namespace() || machines.iter().any(|machine| machine.emulator().is_none()) {
        return false;
    }
    match register_all(machines) {
        Ok(mount) => {
            *own = Some(mount);
            true
        }
        Err(_) => false,
    }
}

fn register_all(machines: &[Machine]) -> io::Result<OwnedFd> {
    let mount = handlers::new_mount()?;
    for machine in Machine::known() {
        if machine.is_native() {
            continue;
        }
        if let Some(emulator) = machine.emulator() {
            let line = machine.registration(&emulator);
            match handlers::register(&mount, line.as_bytes()) {
                Err(error) if machines.contains(&machine) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(mount)
}

/// True if ids of this process are mapped: registrations are this namespace's then, if the kernel has
/// such.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_whitespace().collect();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}
