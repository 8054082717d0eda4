//! `strata doctor`

use std::path::Path;

use serde_json::json;

use crate::doctor;
use crate::doctor::State;
use crate::error::CommandError;
use crate::error::Kind;
use crate::flags::low;
use crate::output;
use crate::progress::text::printable;

pub(crate) fn run(flags: &low::Doctor, root: &Path) -> Result<(), CommandError> {
    let checks = doctor::examine(root);
    let verdict = doctor::verdict(&checks);
    match flags.format {
        low::DoctorFormat::Json => output::json(&json!({
            "verdict": verdict.word(),
            "checks": checks
                .iter()
                .map(|check| {
                    json!({
                        "name": check.name,
                        "state": check.state.word(),
                        "found": check.found,
                        "consequence": check.consequence,
                        "advice": check.advice,
                    })
                })
                .collect::<Vec<_>>(),
        }))?,
        low::DoctorFormat::Text => output::write(|out| {
            for check in &checks {
                let (state, found) = (check.state.word(), printable(&check.found));
                writeln!(out, "{state:<8} {:<10} {found}", check.name)?;
                if let Some(consequence) = &check.consequence {
                    writeln!(out, "{:20}=> {}", "", printable(consequence))?;
                }
                if let Some(advice) = &check.advice {
                    writeln!(out, "{:20}-> {}", "", printable(advice))?;
                }
            }
            Ok(())
        })?,
    }
    match verdict {
        State::Ok | State::Limited => Ok(()),
        State::Missing => Err(CommandError::silent(Kind::Failed)),
    }
}
