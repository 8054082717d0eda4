//! Users and groups by name, looked up in an image's own files: never the host's, never NSS.

use strata_cache::LayerView;
use strata_cache::view::ViewError;

use crate::sandbox::Credentials;

/// Why a user could not be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// No such name.
    #[error("no {what} `{name}` in the image's `{file}`")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
    /// A number out of range, or an empty part.
    #[error("`{text}` is not a user: expected `name`, `uid`, `name:group` or `uid:gid`")]
    Malformed {
        /// The text.
        text: String,
    },
    /// The file can't be read, or is no regular file of at most 10 MiB.
    #[error("`{file}` of the image can't be used: {reason}")]
    File {
        /// Which file.
        file: &'static str,
        /// Why.
        reason: String,
    },
    /// A layer can't be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// `USER`: who a command runs as. A user by number needs no passwd entry (gid 0 then, or the
/// entry's group if there is one); supplementary groups come from /etc/group when no group is named.
pub fn credentials(view: &LayerView, text: &str) -> Result<Credentials, UserError> {
    let _ = (view, text);
    todo!()
}

/// `--chown`: owner of copied files. User only: a number gives gid = uid, a name its primary group.
pub fn owner(view: &LayerView, text: &str) -> Result<(u32, u32), UserError> {
    let _ = (view, text);
    todo!()
}
