//! Users and groups by name, looked up in an image's own files: never the host's, never NSS.

use std::io::Read;
use std::path::Path;

use strata_cache::LayerView;
use strata_cache::view::{FileKind, ViewError};

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

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Larger files are no user lists.
const MAX_SIZE: u64 = 10 << 20;

/// `USER`: who a command runs as. A user by number needs no passwd entry (gid 0 then, or the
/// entry's group if there is one); supplementary groups come from /etc/group when no group is named.
/// `:group` is the superuser with that group.
pub fn credentials(view: &LayerView, text: &str) -> Result<Credentials, UserError> {
    let (user, group) = split(text)?;
    let passwd = Users::read(view)?;
    let (uid, entry) = match user.unwrap_or(Id::Number(0)) {
        Id::Number(uid) => (uid, passwd.by_number(uid)),
        Id::Name(name) => match passwd.by_name(name) {
            Some(entry) => (entry.uid, Some(entry)),
            // An image without a passwd file still has the superuser.
            None if name == "root" => (0, None),
            None => return Err(unknown_user(name)),
        },
    };
    if let Some(Some(group)) = group {
        return Ok(Credentials {
            uid,
            gid: find_group(view, group)?,
            groups: Vec::new(),
        });
    }
    let gid = entry.map_or(0, |entry| entry.gid);
    let mut groups = Vec::new();
    if let Some(entry) = entry {
        for group in read_groups(view)? {
            if group.gid != gid
                && !groups.contains(&group.gid)
                && group.members.contains(&entry.name)
            {
                groups.push(group.gid);
            }
        }
    }
    Ok(Credentials { uid, gid, groups })
}

/// `--chown`: owner of copied files. User only: a number gives gid = uid, a name its primary group.
/// A part that is empty beside the colon is 0.
pub fn owner(view: &LayerView, text: &str) -> Result<(u32, u32), UserError> {
    let (user, group) = split(text)?;
    let (uid, gid) = find_owner(view, user)?;
    match group {
        None => Ok((uid, gid)),
        Some(None) => Ok((uid, 0)),
        Some(Some(group)) => Ok((uid, find_group(view, group)?)),
    }
}

/// The owner of directories that WORKDIR makes under the USER `text`: as for `--chown`, but a name
/// that the image lacks is no error. The superuser then, or the user's own group, and what was
/// missing.
pub fn directory_owner(
    view: &LayerView,
    text: &str,
) -> Result<((u32, u32), Option<UserError>), UserError> {
    let (user, group) = split(text)?;
    let mut missing = None;
    let mut unless_missing = |result: Result<u32, UserError>, or: u32| match result {
        Err(error @ UserError::Unknown { .. }) => {
            missing = Some(error);
            Ok(or)
        }
        result => result,
    };
    let (uid, gid) = match find_owner(view, user) {
        Ok(owner) => owner,
        Err(error) => (unless_missing(Err(error), 0)?, 0),
    };
    let gid = match group {
        None => gid,
        Some(None) => 0,
        Some(Some(group)) => unless_missing(find_group(view, group), gid)?,
    };
    Ok(((uid, gid), missing))
}

fn find_owner(view: &LayerView, user: Option<Id<'_>>) -> Result<(u32, u32), UserError> {
    match user {
        Some(Id::Number(uid)) => Ok((uid, uid)),
        // Without a look-up: it works on an empty image, too.
        None | Some(Id::Name("root")) => Ok((0, 0)),
        Some(Id::Name(name)) => Users::read(view)?
            .by_name(name)
            .map(|entry| (entry.uid, entry.gid))
            .ok_or_else(|| unknown_user(name)),
    }
}

/// Whether the owner that `text` names stands in no number, so that an image's files must tell. False for
/// what is no owner at all.
pub fn has_names(text: &str) -> bool {
    let name = |id: &Option<Id<'_>>| matches!(id, Some(Id::Name(name)) if *name != "root");
    split(text).is_ok_and(|(user, group)| name(&user) || group.as_ref().is_some_and(name))
}

fn unknown_user(name: &str) -> UserError {
    UserError::Unknown {
        what: "user",
        name: name.to_owned(),
        file: PASSWD,
    }
}

fn find_group(view: &LayerView, group: Id<'_>) -> Result<u32, UserError> {
    match group {
        Id::Number(gid) => Ok(gid),
        Id::Name("root") => Ok(0),
        Id::Name(name) => read_groups(view)?
            .into_iter()
            .find(|group| group.name == name)
            .map(|group| group.gid)
            .ok_or_else(|| UserError::Unknown {
                what: "group",
                name: name.to_owned(),
                file: GROUP,
            }),
    }
}

/// A user or group as written.
#[derive(Clone, Copy)]
enum Id<'a> {
    Number(u32),
    Name(&'a str),
}

/// The user and, behind a colon, the group; each none if nothing is written in its place.
type Parts<'a> = (Option<Id<'a>>, Option<Option<Id<'a>>>);

fn split(text: &str) -> Result<Parts<'_>, UserError> {
    let malformed = || UserError::Malformed {
        text: text.to_owned(),
    };
    let id = |part: &'_ str| -> Option<u32> { part.parse().ok().filter(|id| *id != u32::MAX) };
    let parse = |part| -> Result<Option<Id<'_>>, UserError> {
        match part {
            "" => Ok(None),
            // The last number means "leave it" to the kernel.
            part if part.bytes().all(|byte| byte.is_ascii_digit()) => id(part)
                .map(|id| Some(Id::Number(id)))
                .ok_or_else(malformed),
            part => Ok(Some(Id::Name(part))),
        }
    };
    match text.split_once(':') {
        None if text.is_empty() => Err(malformed()),
        None => Ok((parse(text)?, None)),
        Some((user, group)) => Ok((parse(user)?, Some(parse(group)?))),
    }
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
}

struct Users(Vec<User>);

impl Users {
    fn read(view: &LayerView) -> Result<Self, UserError> {
        let text = read(view, PASSWD)?;
        // name:password:uid:gid:comment:home:shell. Lines that are nothing of the kind are skipped,
        // as the C library does.
        let users = text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            fields.next()?;
            Some(User {
                name: name.to_owned(),
                uid: fields.next()?.parse().ok()?,
                gid: fields.next()?.parse().ok()?,
            })
        });
        Ok(Self(users.collect()))
    }

    fn by_name(&self, name: &str) -> Option<&User> {
        self.0.iter().find(|user| user.name == name)
    }

    fn by_number(&self, uid: u32) -> Option<&User> {
        self.0.iter().find(|user| user.uid == uid)
    }
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

fn read_groups(view: &LayerView) -> Result<Vec<Group>, UserError> {
    let text = read(view, GROUP)?;
    // name:password:gid:member,member
    let groups = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        fields.next()?;
        let gid = fields.next()?.parse().ok()?;
        let members = fields.next().unwrap_or_default().split(',');
        Some(Group {
            name: name.to_owned(),
            gid,
            members: members.map(|member| member.trim().to_owned()).collect(),
        })
    });
    Ok(groups.collect())
}

/// The text of a file of the view; empty if there is none.
fn read(view: &LayerView, file: &'static str) -> Result<String, UserError> {
    let unusable = |reason: String| UserError::File { file, reason };
    let Some(entry) = view.lookup(Path::new(file), true)? else {
        return Ok(String::new());
    };
    if entry.metadata.kind != FileKind::File {
        return Err(unusable(String::from("it is not a regular file")));
    }
    let mut content = Vec::new();
    view.open(&entry)?
        .take(MAX_SIZE + 1)
        .read_to_end(&mut content)
        .map_err(|error| unusable(error.to_string()))?;
    if content.len() as u64 > MAX_SIZE {
        return Err(unusable(String::from("it is larger than 10 MiB")));
    }
    // Comments may be in any encoding; names that are asked for are UTF-8.
    Ok(String::from_utf8_lossy(&content).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD_TEXT: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # comment\n\
        broken:x:y:z\n\
        www:x:33:34:web:/var/www:/bin/false\n\
        www:x:99:99:second::\n\
        \n\
        build:x:1000:1001::/home/build:/bin/sh\n";
    const GROUP_TEXT: &str = "root:x:0:\nwww:x:34:\nadm:x:4:build,www\nvideo:x:44:build\n\
        video:x:45:\nbuild:x:1001:build\n";

    fn image() -> (tempfile::TempDir, LayerView) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("etc/passwd"), PASSWD_TEXT).unwrap();
        fs::write(directory.path().join("etc/group"), GROUP_TEXT).unwrap();
        let view = LayerView::new(vec![directory.path().to_owned()]);
        (directory, view)
    }

    #[test]
    fn only_names_need_an_image() {
        for text in ["app", "1:staff", "app:1", ":staff", "app:"] {
            assert!(has_names(text), "{text}");
        }
        for text in ["1", "1:2", "root", "root:3", "1:", ":1", ":root"] {
            assert!(!has_names(text), "{text}");
        }
    }

    #[test]
    fn owners_are_looked_up_in_the_image() {
        let (_directory, view) = image();
        for (text, expected) in [
            ("0", (0, 0)),
            ("12", (12, 12)),
            ("12:13", (12, 13)),
            ("root", (0, 0)),
            ("www", (33, 34)),
            ("www:video", (33, 44)),
            ("build:0", (1000, 0)),
            ("33:www", (33, 34)),
            ("33", (33, 33)),
            ("4294967294", (4_294_967_294, 4_294_967_294)),
            ("build:", (1000, 0)),
            (":video", (0, 44)),
            (":", (0, 0)),
        ] {
            assert_eq!(owner(&view, text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn commands_run_with_the_groups_of_their_user() {
        let (_directory, view) = image();
        let expect = |text: &str, uid, gid, groups: &[u32]| {
            let found = credentials(&view, text).unwrap();
            assert_eq!((found.uid, found.gid), (uid, gid), "{text}");
            assert_eq!(found.groups, groups, "{text}");
        };
        expect("build", 1000, 1001, &[4, 44]);
        expect("1000", 1000, 1001, &[4, 44]);
        expect("www", 33, 34, &[4]);
        expect("build:www", 1000, 34, &[]);
        expect("5000", 5000, 0, &[]);
        expect("5000:7", 5000, 7, &[]);
        expect("root", 0, 0, &[]);
        expect("build:", 1000, 1001, &[4, 44]);
        expect(":7", 0, 7, &[]);
    }

    #[test]
    fn unknown_names_and_malformed_texts_are_told_apart() {
        let (_directory, view) = image();
        for text in ["nobody", "www:nogroup", "broken", "-1"] {
            let error = owner(&view, text).unwrap_err();
            assert!(matches!(error, UserError::Unknown { .. }), "{text}");
        }
        for text in ["", "4294967295", "99999999999", "1:4294967295"] {
            let error = credentials(&view, text).unwrap_err();
            assert!(matches!(error, UserError::Malformed { .. }), "{text}");
            let error = owner(&view, text).unwrap_err();
            assert!(matches!(error, UserError::Malformed { .. }), "{text}");
        }
        assert_eq!(
            owner(&view, "nobody").unwrap_err().to_string(),
            "no user `nobody` in the image's `/etc/passwd`"
        );
    }

    #[test]
    fn a_directory_of_an_unknown_user_belongs_to_root() {
        let (_directory, view) = image();
        for (text, expected, known) in [
            ("12", (12, 12), true),
            ("12:13", (12, 13), true),
            ("build", (1000, 1001), true),
            ("nobody", (0, 0), false),
            ("nobody:video", (0, 44), false),
            ("build:nogroup", (1000, 1001), false),
            (":7", (0, 7), true),
        ] {
            let (owner, missing) = directory_owner(&view, text).unwrap();
            assert_eq!((owner, missing.is_none()), (expected, known), "{text}");
        }
        assert!(directory_owner(&view, "4294967295").is_err());
    }

    #[test]
    fn an_empty_image_knows_numbers_and_root() {
        let directory = tempfile::tempdir().unwrap();
        let view = LayerView::new(vec![directory.path().to_owned()]);
        assert_eq!(owner(&view, "root:root").unwrap(), (0, 0));
        assert_eq!(owner(&view, "7:8").unwrap(), (7, 8));
        assert_eq!(credentials(&view, "root").unwrap().uid, 0);
        assert_eq!(credentials(&view, "7").unwrap().gid, 0);
        assert!(owner(&view, "www").is_err());
    }

    #[test]
    fn links_stay_inside_the_image_and_odd_files_are_refused() {
        let (directory, view) = image();
        let passwd = directory.path().join("etc/passwd");
        fs::rename(&passwd, directory.path().join("users")).unwrap();
        symlink("../../../users", &passwd).unwrap();
        assert_eq!(owner(&view, "www").unwrap(), (33, 34));
        fs::remove_file(&passwd).unwrap();
        fs::create_dir(&passwd).unwrap();
        assert!(matches!(
            owner(&view, "www").unwrap_err(),
            UserError::File { .. }
        ));
        fs::remove_dir(&passwd).unwrap();
        let large = fs::File::create(&passwd).unwrap();
        large.set_len(MAX_SIZE + 1).unwrap();
        assert!(matches!(
            owner(&view, "www").unwrap_err(),
            UserError::File { .. }
        ));
    }
}
