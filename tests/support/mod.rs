//! What the cases stand on: scratch directories, the command under test, users to run it as, a
//! registry, and readers for what it writes.

mod bases;
mod containerd;
mod delegated;
mod disk;
mod dockerd;
mod filter;
mod gate;
mod image;
mod meter;
mod oracle;
mod proxy;
mod random;
mod registry;
mod sandbox;
mod steps;
mod strata;
pub(crate) mod token;
mod tools;
mod tree;
mod tunnel;
mod users;
mod web;
pub(crate) mod world;

pub(crate) use bases::Base;
pub(crate) use containerd::Containerd;
pub(crate) use delegated::Delegated;
pub(crate) use disk::{Broken, Disk, Left, Log};
pub(crate) use dockerd::Dockerd;
pub(crate) use filter::redact;
pub(crate) use gate::Gate;
pub(crate) use image::Image;
pub(crate) use meter::Meter;
pub(crate) use proxy::{At, Harm, Proxy, Reply};
pub(crate) use random::Random;
pub(crate) use registry::{PASSWORD, Registry, certificates};
pub(crate) use sandbox::Sandbox;
pub(crate) use steps::Steps;
pub(crate) use strata::{Output, Running, Strata, wait_until};
pub(crate) use tools::{run, run_quietly};
pub(crate) use tree::{Kind, Tree, hex};
pub(crate) use tunnel::Tunnel;
pub(crate) use users::Who;
pub(crate) use web::Web;

/// Turns case functions (`fn(&Sandbox)`) into tests, one for each kind of user.
///
/// `cases! { Root, User => a_fact, another_fact }` makes `a_fact::as_root`, `a_fact::as_user`, …
/// A case that the machine can't run says why and passes, unless `STRATA_TEST_REQUIRE` is set.
macro_rules! cases {
    (Root => $($case:ident),+ $(,)?) => {
        $(mod $case {
            #[test]
            fn as_root() { $crate::support::run_case($crate::support::Who::Root, super::$case); }
        })+
    };
    (User => $($case:ident),+ $(,)?) => {
        $(mod $case {
            #[test]
            fn as_user() { $crate::support::run_case($crate::support::Who::User, super::$case); }
        })+
    };
    (OneId => $($case:ident),+ $(,)?) => {
        $(mod $case {
            #[test]
            fn as_one_id() { $crate::support::run_case($crate::support::Who::OneId, super::$case); }
        })+
    };
    (Root, User => $($case:ident),+ $(,)?) => {
        $(mod $case {
            #[test]
            fn as_root() { $crate::support::run_case($crate::support::Who::Root, super::$case); }
            #[test]
            fn as_user() { $crate::support::run_case($crate::support::Who::User, super::$case); }
        })+
    };
    (Root, User, OneId => $($case:ident),+ $(,)?) => {
        $(mod $case {
            #[test]
            fn as_root() { $crate::support::run_case($crate::support::Who::Root, super::$case); }
            #[test]
            fn as_user() { $crate::support::run_case($crate::support::Who::User, super::$case); }
            #[test]
            fn as_one_id() { $crate::support::run_case($crate::support::Who::OneId, super::$case); }
        })+
    };
}
pub(crate) use cases;

/// Runs one case as one kind of user, in a sandbox of its own.
pub(crate) fn run_case(who: Who, case: fn(&Sandbox)) {
    match Sandbox::new(who) {
        Ok(sandbox) => case(&sandbox),
        Err(reason) => skip(&reason),
    }
}

/// Says that the running test can't be done here and why; fails if the tests are to be complete.
///
/// The caller returns right after.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var_os("STRATA_TEST_REQUIRE").is_none(),
        "can't run here, and STRATA_TEST_REQUIRE is set: {reason}"
    );
    #[expect(
        clippy::print_stderr,
        reason = "the only way for a test to say that it was skipped"
    )]
    {
        eprintln!("skipped: {reason}");
    }
}
