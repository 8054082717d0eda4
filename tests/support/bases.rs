//! The root file systems that images start from.

use std::path::PathBuf;

/// A root file system tar that `make bases` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// busybox-static, with users root, daemon (1:1), app (1000:1001) and nobody.
    Busybox,
    /// Debian 12 with gcc and make.
    Debian,
}

impl Base {
    /// Its tar.
    pub(crate) fn path(self) -> PathBuf {
        let name = match self {
            Self::Busybox => "busybox.tar",
            Self::Debian => "debian.tar",
        };
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.test-cache")).join(name);
        assert!(
            path.exists(),
            "{} is not there: run `make bases`",
            path.display()
        );
        path
    }

    /// The name that it is imported as.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Debian => "demo/debian:12",
        }
    }
}
