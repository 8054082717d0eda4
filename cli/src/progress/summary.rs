//! The end of a build: what came of it, in a line, a block or an object.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use strata_solver::BuildError;
use strata_solver::BuildResult;

use super::FailedStep;
use super::json::seconds;
use crate::error::Kind;
use crate::human;

/// `built sha256:12ab… (name) in 1.2s: 10 steps, 8 cached, 2 ran, 45.2 MB`.
pub(crate) fn line(result: &BuildResult, names: &[String], elapsed: Duration) -> String {
    let mut line = match &result.image {
        Some(id) => format!("built sha256:{}", id.short()),
        None => "done".to_owned(),
    };
    if !names.is_empty() && result.image.is_some() {
        write!(line, " ({})", names.join(", ")).expect("writing to a String can't fail");
    }
    write!(
        line,
        " in {}: {}, {} cached, {} ran, {}",
        human::duration(elapsed),
        human::plural(result.steps as u64, "step"),
        result.hits,
        result.steps.saturating_sub(result.hits),
        human::size(result.size)
    )
    .expect("writing to a String can't fail");
    line
}

/// The last object of `--progress json` for a build that went well.
pub(crate) fn object(result: &BuildResult, names: &[String], elapsed: Duration) -> Value {
    json!({
        "type": "done",
        "image": result.image.map(|id| id.to_string()),
        "names": names,
        "manifests": result
            .manifests
            .iter()
            .map(|(output, made)| json!({"output": output, "digest": made.digest.to_string()}))
            .collect::<Vec<_>>(),
        "steps": result.steps,
        "cached": result.hits,
        "ran": result.steps.saturating_sub(result.hits),
        "size": result.size,
        "at": seconds(elapsed),
    })
}

/// The last object of `--progress json` for a build that failed.
pub(crate) fn error(kind: Kind, error: &BuildError, elapsed: Duration) -> Value {
    let mut object = json!({
        "type": "error",
        "kind": match kind {
            Kind::Cancelled(_) => "cancelled",
            Kind::Usage => "usage",
            Kind::Store => "store",
            Kind::Failed | Kind::Program(_) => "failed",
        },
        "code": kind.exit_code(),
        "message": strata_solver::error::chain(error),
    });
    if let BuildError::Step { step, exit, .. } = error {
        object["step"] = json!(step.0 + 1);
        object["exit"] = json!(exit);
    }
    if let Some(report) = error.report() {
        object["picture"] = json!(report.render(false));
    }
    object["at"] = json!(seconds(elapsed));
    object
}

/// What a step that failed said last.
pub(crate) fn last_words(step: &FailedStep) -> String {
    let name = super::text::printable(&step.name);
    let mut text = format!("------\n > {name}:\n");
    for line in &step.tail {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("------\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_cache::Digest;

    fn result() -> BuildResult {
        BuildResult {
            image: Some(Digest::of(b"")),
            manifests: Vec::new(),
            index: false,
            platforms: Vec::new(),
            size: 45_200_000,
            steps: 10,
            hits: 8,
            invocation: String::new(),
            epoch: None,
        }
    }

    #[test]
    fn the_summary_names_image_time_steps_and_size() {
        let names = ["x:latest".to_owned(), "x:1".to_owned()];
        assert_eq!(
            line(&result(), &names, Duration::from_millis(1234)),
            "built sha256:e3b0c44298fc (x:latest, x:1) in 1.2s: \
             10 steps, 8 cached, 2 ran, 45.2 MB"
        );
        let nothing = BuildResult {
            image: None,
            steps: 1,
            hits: 1,
            ..result()
        };
        assert_eq!(
            line(&nothing, &names, Duration::ZERO),
            "done in 0.0s: 1 step, 1 cached, 0 ran, 45.2 MB"
        );
    }

    #[test]
    fn last_words_are_set_off() {
        let step = FailedStep {
            name: "[1/1] RUN make".into(),
            tail: vec!["one".into(), "two".into()],
        };
        assert_eq!(
            last_words(&step),
            "------\n > [1/1] RUN make:\none\ntwo\n------\n"
        );
    }
}
