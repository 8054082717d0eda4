//! `strata completion`

use clap::CommandFactory;

use crate::error::CommandError;
use crate::flags::low;
use crate::output;

pub(crate) fn run(flags: &low::Completion) -> Result<(), CommandError> {
    // Written at once: the generator can't tell of a reader that went away.
    let mut text = Vec::new();
    clap_complete::generate(flags.shell, &mut low::Cli::command(), "strata", &mut text);
    output::write(|out| out.write_all(&text))
}
