//! The root file systems that images start from.

use std::path::{Path, PathBuf};

use super::users::readable_by_all;

/// A root file system tar that `make bases` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// busybox-static, with users root, daemon (1:1), app (1000:1001) and nobody.
    Busybox,
    /// The same for arm64.
    BusyboxArm64,
    /// The same for s390x.
    BusyboxS390x,
    /// Debian 12 with gcc and make.
    Debian,
}

impl Base {
    /// Its tar, readable by whoever the case runs as.
    pub(crate) fn path(self) -> PathBuf {
        let name = match self {
            Self::Busybox => "busybox.tar",
            Self::BusyboxArm64 => "busybox-arm64.tar",
            Self::BusyboxS390x => "busybox-s390x.tar",
            Self::Debian => "debian.tar",
        };
        // A name without `..`, which could not be walked up from.
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = top.join(".test-cache").join(name);
        assert!(
            path.exists(),
            "{} is not there: run `make bases`",
            path.display()
        );
        if !rustix::process::geteuid().is_root() {
            return path;
        }
        // The name is a link to the file of the recipe's latest version.
        let file = std::fs::read_link(&path).map(|name| path.with_file_name(name));
        readable_by_all(&file.unwrap_or(path))
    }

    /// The platform that it is imported for, if that is not this machine's.
    pub(crate) fn platform(self) -> Option<&'static str> {
        match self {
            Self::BusyboxArm64 => Some("linux/arm64"),
            Self::BusyboxS390x => Some("linux/s390x"),
            Self::Busybox | Self::Debian => None,
        }
    }

    /// The name that it is imported as.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::BusyboxArm64 => "busybox-arm64",
            Self::BusyboxS390x => "busybox-s390x",
            Self::Debian => "demo/debian:12",
        }
    }
}
