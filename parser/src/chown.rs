//! `--chown` and USER: `user[:group]`, each a name or a number.

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A number, taken as it is.
    Id(u32),
    /// A name, to be looked up in the image's files.
    Name(String),
}

/// An owner. A part that is empty beside the colon is 0: `user:` has the group 0, `:group` the user 0.
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
        let error = |reason| OwnerError {
            owner: text.to_owned(),
            reason,
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if group.is_some_and(|group| group.contains(':')) {
            return Err(error("it has more than one colon"));
        }
        let part = |text: &str| match (text, group) {
            ("", Some(_)) => Ok(Principal::Id(0)),
            (text, _) => Principal::parse(text).map_err(error),
        };
        Ok(Self {
            user: part(user)?,
            group: group.map(part).transpose()?,
        })
    }
}

impl Principal {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("a part of it is empty");
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // The largest value means "no one" to chown(2).
            return match text.parse() {
                Ok(u32::MAX) | Err(_) => Err("the number is too large"),
                Ok(id) => Ok(Self::Id(id)),
            };
        }
        Ok(Self::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_names_or_numbers() {
        let name = |name: &str| Principal::Name(name.to_owned());
        let rows = [
            ("app", name("app"), None),
            ("1000", Principal::Id(1000), None),
            ("app:staff", name("app"), Some(name("staff"))),
            ("0:0", Principal::Id(0), Some(Principal::Id(0))),
            ("1000:staff", Principal::Id(1000), Some(name("staff"))),
            ("1a", name("1a"), None),
            ("app:", name("app"), Some(Principal::Id(0))),
            (":b", Principal::Id(0), Some(name("b"))),
            (":", Principal::Id(0), Some(Principal::Id(0))),
        ];
        for (text, user, group) in rows {
            assert_eq!(Owner::parse(text), Ok(Owner { user, group }), "{text}");
        }
        for text in ["", "a:b:c", "b:4294967295", "4294967295", "99999999999"] {
            assert!(Owner::parse(text).is_err(), "{text}");
        }
    }
}
