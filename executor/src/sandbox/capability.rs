//! The capabilities that a command keeps.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// What container users expect root to be able to do: the default set of the common engines.
pub(super) const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Takes all but the [`DEFAULT`] capabilities out of the bounding set, so that no program gains
/// more by being started, and empties the ambient set.
///
/// This thread's own permitted set is left alone: with the bounding set as it is, the exec narrows
/// it for uid 0 and empties it for others.
pub(super) fn drop_bounding() -> io::Result<()> {
    for number in 0..64_u32 {
        let bit = CapabilitySet::from_bits_retain(1 << number);
        if DEFAULT.contains(bit) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(bit) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient()
}

fn clear_ambient() -> io::Result<()> {
    match rustix::thread::clear_ambient_capability_set() {
        // Kernels before 4.3 have none.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Empties the inheritable set: through it, files with inheritable capabilities would give more.
pub(super) fn clear_inheritable() -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    Ok(rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            inheritable: CapabilitySet::empty(),
            ..now
        },
    )?)
}
