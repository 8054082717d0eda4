//! `--chown` and USER: `user[:group]`, each a name or a number.

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A number, taken as it is.
    Id(u32),
    /// A name, to be looked up in the image's files.
    Name(String),
}

/// An owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user.
    pub user: Principal,
    /// The group, if written.
    pub group: Option<Principal>,
}

/// Why a text is no owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid owner `{owner}`: {reason}")]
pub struct OwnerError {
    /// What was written.
    pub owner: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Owner {
    /// Reads an expanded value.
    pub fn parse(text: &str) -> Result<Self, OwnerError> {
        let _ = text;
        todo!()
    }
}
