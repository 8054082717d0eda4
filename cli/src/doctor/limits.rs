//! Limits of steps, by control group.

use strata_executor::sandbox::LimitProspect;
use strata_executor::sandbox::limit_prospects;
use strata_solver::error::chain;

use super::Check;
use super::State;

/// Before a user namespace is entered: in it everybody is root by name.
pub(super) fn limits() -> Check {
    from(&limit_prospects())
}

fn from(prospects: &[LimitProspect]) -> Check {
    let mut parts = Vec::new();
    let mut lost = Vec::new();
    // That of the first that can't be set: the others' are most likely the same.
    let mut reason = None;
    for prospect in prospects {
        let (flags, noun) = match prospect.controller {
            "memory" => ("--memory", "memory"),
            "cpu" => ("--cpus", "processors"),
            "cpuset" => ("--cpuset-cpus", "sets of processors"),
            "io" => ("--device-write-bps", "disks"),
            _ => ("--pids-limit", "processes"),
        };
        let version = prospect.version.map_or_else(
            || "no control groups".to_owned(),
            |version| format!("version {version}"),
        );
        if let Some(hindrance) = &prospect.hindrance {
            parts.push(format!("{noun}: no ({version})"));
            lost.push(flags);
            reason.get_or_insert_with(|| chain(hindrance));
        } else {
            parts.push(format!("{noun} ({version})"));
        }
    }
    let found = parts.join(", ");
    if lost.is_empty() {
        return Check::ok("limits", found);
    }
    Check::wanting(
        "limits",
        State::Limited,
        found,
        format!("builds and runs with {} fail", lost.join(", ")),
        reason
            .as_deref()
            .and_then(|reason| reason.strip_prefix("set up the sandbox: "))
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_the_host_has_no_controller_for_is_lost_alone() {
        let have = |controller| LimitProspect {
            controller,
            version: Some(2),
            hindrance: None,
        };
        let check = from(&[have("memory"), have("cpu"), have("pids")]);
        assert_eq!(check.state, State::Ok);
        let lacking = LimitProspect {
            controller: "cpu",
            version: None,
            hindrance: Some(strata_executor::sandbox::SandboxError::SetUp {
                stage: "limit cpu".to_owned(),
                source: std::io::Error::other("no such controller"),
                created: Vec::new(),
            }),
        };
        let check = from(&[have("memory"), lacking, have("pids")]);
        assert_eq!(check.state, State::Limited);
        assert_eq!(
            check.found,
            "memory (version 2), processors: no (no control groups), processes (version 2)"
        );
        assert!(check.consequence.unwrap().contains("with --cpus fail"));
        assert_eq!(check.advice.unwrap(), "limit cpu: no such controller");
    }
}
