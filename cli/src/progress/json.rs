//! Progress as JSON: one object a line on standard error. The form is described in `docs/cli.md`
//! ("JSON progress") and only ever grows.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use strata_solver::event::Event;
use strata_solver::event::Outcome;
use strata_solver::event::StepId;
use strata_solver::event::Stream;
use strata_solver::explain::Reason;

use super::outlet::Render;

/// The JSON form of a build.
#[derive(Debug)]
pub(crate) struct Json;

impl Render for Json {
    fn render(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>) {
        write_line(out, &object(at, event)).expect("writing to a Vec can't fail");
    }
}

/// Writes `object` and an end of line.
pub(crate) fn write_line(out: &mut dyn Write, object: &Value) -> std::io::Result<()> {
    writeln!(out, "{object}")
}

/// Seconds with three digits: a float that shows no noise.
pub(crate) fn seconds(duration: Duration) -> f64 {
    // Milliseconds fit an f64 exactly for 285 000 years.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let ms = duration.as_millis() as f64;
    ms / 1000.0
}

/// Every input that changed, as `cache why` and the progress write it.
pub(crate) fn differences(reason: &Reason) -> Value {
    let list = reason.differences.iter();
    list.map(|one| json!({"name": one.name, "before": one.before, "now": one.now}))
        .collect()
}

fn object(at: Duration, event: &Event) -> Value {
    let number = |id: &StepId| id.0 + 1;
    let mut object = match event {
        Event::Step(info) => {
            json!({"type": "step", "step": number(&info.id), "name": info.name})
        }
        Event::Started(id) => json!({"type": "started", "step": number(id)}),
        Event::Explained { step, reason } => json!({
            "type": "explained",
            "step": number(step),
            "message": reason.text,
            "differences": differences(reason),
        }),
        Event::Waiting(id) => json!({"type": "waiting", "step": number(id)}),
        Event::Output { step, stream, line } => json!({
            "type": "output",
            "step": number(step),
            "stream": match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            },
            "line": line,
        }),
        Event::Transfer {
            step,
            what,
            done,
            total,
        } => json!({
            "type": "transfer",
            "step": number(step),
            "what": what,
            "done": done,
            "total": total,
        }),
        Event::Used { step, resources } => {
            let mut object = super::resources::object(resources);
            object["type"] = json!("used");
            object["step"] = json!(number(step));
            object
        }
        Event::Finished {
            step,
            outcome,
            elapsed,
        } => json!({
            "type": "finished",
            "step": number(step),
            "cached": *outcome == Outcome::Cached,
            "seconds": seconds(*elapsed),
        }),
        Event::Failed { step, message } => {
            json!({"type": "failed", "step": number(step), "message": message})
        }
        Event::Stopped(id) => json!({"type": "stopped", "step": number(id)}),
        Event::Warning(diagnostic) => json!({
            "type": "warning",
            "code": diagnostic.code,
            "message": diagnostic.message,
            "start": diagnostic.span.start,
            "end": diagnostic.span.end,
            "help": diagnostic.help,
        }),
        Event::Notice(notice) => json!({"type": "notice", "message": notice}),
    };
    object["at"] = json!(seconds(at));
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::line;
    use crate::progress::tests::step;

    #[test]
    fn each_event_is_one_line_that_says_its_type_first() {
        let mut out = Vec::new();
        for event in [
            step(0, "[1/1] RUN make"),
            line(0, "a \"quoted\"\nline"),
            Event::Finished {
                step: StepId(0),
                outcome: Outcome::Ran,
                elapsed: Duration::from_millis(1234),
            },
        ] {
            Json.render(Duration::from_millis(1500), &event, &mut out);
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"type":"step","step":1,"name":"[1/1] RUN make","at":1.5}"#,
                "\n",
                r#"{"type":"output","step":1,"stream":"stdout","line":"a \"quoted\"\nline","at":1.5}"#,
                "\n",
                r#"{"type":"finished","step":1,"cached":false,"seconds":1.234,"at":1.5}"#,
                "\n",
            )
        );
    }
}
