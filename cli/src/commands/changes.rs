//! `--change`: instructions that make the config of an imported image.
//!
//! They are planned as a Dockerfile on an empty image, so they mean exactly what they mean in one.

use strata_executor::sandbox::Network;
use strata_image::ImageConfig;
use strata_parser::Diagnostics;
use strata_parser::Dockerfile;
use strata_parser::InstructionKind;
use strata_solver::BuildRequest;
use strata_solver::bases::NoBases;
use strata_solver::plan;
use strata_solver::request::Context;
use strata_solver::request::Pull;

use crate::error::CommandError;

/// The config that `changes` make.
pub(super) fn config(changes: &[String]) -> Result<ImageConfig, CommandError> {
    if changes.is_empty() {
        return Ok(ImageConfig::default());
    }
    let mut text = String::from("FROM scratch\n");
    for change in changes {
        if change.contains('\n') {
            return Err(CommandError::usage(format!(
                "`--change`: `{}` has several lines: give each instruction its own `--change`",
                change.escape_debug()
            )));
        }
        text.push_str(change);
        text.push('\n');
    }
    let refused =
        |diagnostics: Diagnostics| {
            CommandError::usage(format!("`--change`: {diagnostics}"))
                .with_picture(diagnostics.render("--change", &text, crate::terminal::colour()))
        };
    let dockerfile = Dockerfile::parse(text.as_bytes()).map_err(refused)?;
    if dockerfile.stages.len() > 1 {
        return Err(CommandError::usage("`--change`: `FROM` changes no config"));
    }
    for instruction in &dockerfile.stages[0].instructions {
        if matches!(
            instruction.kind,
            InstructionKind::Run(_)
                | InstructionKind::Copy(_)
                | InstructionKind::Add(_)
                | InstructionKind::Arg(_)
        ) {
            return Err(CommandError::usage(format!(
                "`--change`: `{}` changes no config",
                instruction.name()
            )));
        }
    }
    let mut plan = plan::plan(&dockerfile, &request(&text), &NoBases).map_err(refused)?;
    Ok(plan.targets.swap_remove(0).state.config)
}

fn request(text: &str) -> BuildRequest {
    BuildRequest {
        pull: Pull::Never,
        network: Network::None,
        ..BuildRequest::new(text.as_bytes().to_vec(), "--change", Context::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig, String> {
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        config(&changes).map_err(|error| error.message())
    }

    #[test]
    fn changes_mean_what_they_mean_in_a_dockerfile() {
        let config = changed(&[
            r#"CMD ["sh", "-c"]"#,
            "ENV A=1 B=${A}2",
            "WORKDIR /srv",
            "EXPOSE 80",
            "USER 7",
        ])
        .unwrap()
        .config;
        assert_eq!(config.cmd, Some(vec!["sh".into(), "-c".into()]));
        assert_eq!(config.env("A"), Some("1"));
        assert_eq!(config.working_dir, "/srv");
        assert_eq!(config.user, "7");
        assert!(config.exposed_ports.contains("80/tcp"));
    }

    #[test]
    fn instructions_that_change_no_config_are_refused() {
        for (change, part) in [
            ("RUN true", "`RUN`"),
            ("COPY a b", "`COPY`"),
            ("FROM debian", "`FROM`"),
            ("NONSENSE", "--change"),
            ("CMD a\nRUN b", "several lines"),
        ] {
            let error = changed(&[change]).unwrap_err();
            assert!(error.contains(part), "{change}: {error}");
        }
    }
}
