//! ONBUILD.

use super::Context;
use super::Outcome;
use super::Statement;
use super::instruction;
use super::no_arguments;
use super::run::with_bodies;
use crate::diagnostic::Diagnostic;
use crate::instruction::OnbuildInstruction;

/// What can't wait for another build.
pub(crate) const NO_TRIGGERS: [&str; 3] = ["ONBUILD", "FROM", "MAINTAINER"];

pub(super) fn parse(
    context: &mut Context<'_>,
    statement: &Statement<'_>,
) -> Outcome<OnbuildInstruction> {
    if statement.rest.is_empty() {
        return Err(no_arguments(
            context,
            statement,
            "ONBUILD needs an instruction".to_owned(),
        ));
    }
    let inner = Statement::split(statement.rest, context.escape);
    if let Some(name) = NO_TRIGGERS.iter().find(|name| inner.is(name)) {
        return Err(Diagnostic::error(
            "invalid-trigger",
            context.span(inner.name),
            format!("{name} can't be an ONBUILD trigger"),
        )
        .into());
    }
    // BuildKit keeps the blanks at the end of the line, and only here.
    let text = with_bodies(context, &format!("{}{}", inner.text, statement.trailing));
    let instruction = Box::new(instruction(context, &inner)?);
    Ok(OnbuildInstruction { text, instruction })
}
