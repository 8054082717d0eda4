//! What RUN steps need, tried out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use strata_cache::Flavour;
use strata_cache::RootfsPlan;
use strata_executor::sandbox;
use strata_executor::sandbox::Confinement;
use strata_executor::sandbox::Credentials;
use strata_executor::sandbox::Dns;
use strata_executor::sandbox::Ended;
use strata_executor::sandbox::Isolated;
use strata_executor::sandbox::Isolation;
use strata_executor::sandbox::Limits;
use strata_executor::sandbox::Network;
use strata_executor::sandbox::Redactor;
use strata_executor::sandbox::RunSpec;
use strata_executor::sandbox::Stdio;
use strata_executor::userns;
use strata_executor::userns::IdMapping;
use strata_executor::userns::UsernsError;
use strata_solver::error::chain;

use super::Check;
use super::State;

/// Enters a user namespace if a build would. Also answers which walls commands can have, if any.
pub(super) fn rights() -> (Check, Option<Isolation>) {
    let check = match userns::enter_user_namespace_if_needed() {
        Ok(IdMapping::Root) => Check::ok("rights", "root, who needs no user namespace"),
        Ok(mapping @ IdMapping::Ranges { .. }) => Check::ok("rights", mapping.to_string()),
        Ok(mapping @ IdMapping::OneId { .. }) => Check::wanting(
            "rights",
            State::Limited,
            mapping.to_string(),
            "all files of images belong to you while they are built, and steps that change owners or \
             become another user fail",
            "install Debian's uidmap and, as root, `usermod --add-subuids 100000-165535 \
             --add-subgids 100000-165535 USER`",
        ),
        Err(error @ UsernsError::Refused { .. }) if sandbox::can_change_root() => {
            let check = Check::wanting(
                "rights",
                State::Limited,
                format!(
                    "root that may only change its root directory: {}",
                    chain(&error)
                ),
                "steps run with `--isolation chroot`: they share this container's processes and network, \
                 and have neither /proc nor mounts; layers are copied",
                "start the container with user namespaces allowed and `/proc` unmasked (docker: \
                 `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`), or with \
                 `--privileged`",
            );
            return (check, Some(Isolation::Chroot));
        }
        Err(error) => {
            let check = Check::wanting(
                "rights",
                State::Missing,
                chain(&error),
                "nothing can be built or run by this user",
                "let this user have user namespaces, or start strata as root; in a container, as its root \
                 with the capabilities SYS_CHROOT and MKNOD, which most engines give",
            );
            return (check, None);
        }
    };
    (check, Some(Isolation::Sandbox))
}

/// Whether layers can be mounted. `place` is an empty directory on the store's file system.
pub(super) fn overlay(place: Option<&Path>) -> Check {
    let Some(place) = place else {
        return untried("layers");
    };
    let userxattr = Flavour::of_process() == Flavour::User;
    match sandbox::probe_overlay(place, userxattr) {
        Ok(()) if userxattr => Check::ok("layers", "overlayfs, with marks in `user.` attributes"),
        Ok(()) => Check::ok("layers", "overlayfs"),
        Err(error) => Check::wanting(
            "layers",
            State::Limited,
            format!("copied, because {}", chain(&error)),
            "each RUN step copies the files of the layers below it, which is slower and takes more \
             room",
            "put the store (`--root`) on ext4, xfs or btrfs, use Linux 5.11 or newer, and load the \
             module `overlay`",
        ),
    }
}

/// Sets up a whole sandbox, with an empty root. Removes `place`.
pub(super) fn sandbox(place: Option<&Path>, isolation: Isolation) -> Check {
    let Some(place) = place else {
        return untried("sandbox");
    };
    let network = match isolation {
        Isolation::Sandbox => Network::None,
        Isolation::Chroot => Network::Host,
    };
    let answer = try_sandbox(place, network, isolation);
    let removed = std::fs::remove_dir_all(place);
    match (answer, removed) {
        (Ok(()), Ok(())) if isolation == Isolation::Chroot => Check::wanting(
            "sandbox",
            State::Limited,
            "another root directory and fewer capabilities, and no more",
            "steps that ask for mounts, secrets, a terminal or another network than the host's fail; \
             build only what you trust",
            "see `rights`",
        ),
        (Ok(()), Ok(())) => Check::ok(
            "sandbox",
            "namespaces, mounts, capabilities and the system call filter",
        ),
        (Err(found), _) => Check::wanting(
            "sandbox",
            State::Missing,
            found,
            "RUN steps and `strata run` fail; builds without RUN work",
            "in a container, give it the right to mount and unmasked `/proc` (`--privileged`, or \
             `--security-opt systempaths=unconfined --security-opt seccomp=unconfined`); else see \
             the cause",
        ),
        (Ok(()), Err(error)) => Check::wanting(
            "sandbox",
            State::Limited,
            format!(
                "works, but `{}` could not be removed: {error}",
                place.display()
            ),
            "the directory is left",
            "remove it by hand",
        ),
    }
}

/// Gives a sandbox an isolated network. Removes `place`.
pub(super) fn network(place: Option<&Path>) -> Check {
    const NAME: &str = "network";
    const LOST: &str = "builds and runs with `--network isolated` fail; `host` and `none` work";
    let Some(place) = place else {
        return untried(NAME);
    };
    let helpers = sandbox::network_helpers();
    if helpers.is_empty() {
        return Check::wanting(
            NAME,
            State::Limited,
            "neither `pasta` nor `slirp4netns` is installed",
            LOST,
            "install Debian's passt or slirp4netns",
        );
    }
    let answer = std::fs::create_dir_all(place)
        .map_err(|error| format!("`{}`: {error}", place.display()))
        .and_then(|()| {
            let network = Network::Isolated(Isolated::default());
            try_sandbox(place, network, Isolation::Sandbox)
        });
    // What is left is told by the trial of a sandbox.
    std::fs::remove_dir_all(place).ok();
    let names: Vec<&str> = helpers.iter().map(|helper| helper.program()).collect();
    match answer {
        Ok(()) => Check::ok(NAME, format!("isolated by {}", names.join(" or "))),
        Err(found) => Check::wanting(NAME, State::Limited, found, LOST, "see the cause"),
    }
}

/// A program that isn't there is looked for as the last thing, when all the rest has worked.
fn try_sandbox(place: &Path, network: Network, isolation: Isolation) -> Result<(), String> {
    let tree = place.join("root");
    std::fs::create_dir(&tree).map_err(|error| format!("`{}`: {error}", tree.display()))?;
    let spec = RunSpec {
        rootfs: RootfsPlan::Native { tree },
        argv: vec!["/nothing".to_owned()],
        env: Vec::new(),
        cwd: "/".into(),
        credentials: Credentials::default(),
        hostname: "doctor".to_owned(),
        network,
        extra_hosts: Vec::new(),
        dns: Dns::default(),
        mounts: Vec::new(),
        limits: Limits::default(),
        ulimits: BTreeMap::new(),
        shm_size: 1 << 20,
        insecure: false,
        confinement: Confinement::default(),
        isolation,
        hooks: None,
        stdio: Stdio::Piped,
        redactor: Redactor::default(),
        timeout: None,
        stop_signal: 15,
        stop_timeout: Duration::from_secs(1),
    };
    let said = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&said);
    let running = sandbox::spawn(
        &spec,
        Box::new(move |_, line| {
            if let Ok(mut said) = sink.lock() {
                said.push_str(&String::from_utf8_lossy(line));
            }
        }),
    );
    let outcome = running.and_then(sandbox::Running::wait);
    match outcome.map_err(|error| chain(&error))?.ended {
        Ended::Exit(127) => Ok(()),
        other => {
            let said = said.lock().map(|said| said.clone()).unwrap_or_default();
            Err(format!("a trial command ended with {other:?} {said}"))
        }
    }
}

fn untried(name: &'static str) -> Check {
    Check::wanting(
        name,
        State::Missing,
        "not tried: the store's place can't be written",
        "not known",
        "choose another directory with `--root` or `STRATA_ROOT`",
    )
}
