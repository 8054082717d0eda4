//! RUN --device: the host's devices, by CDI.

use strata_executor::cdi::{CdiError, Devices, Edits, check_name};
use strata_parser::instruction::{Device, RunInstruction};
use strata_parser::{Diagnostic, Spanned};

use super::Planner;
use super::stage::Applied;
use crate::graph::DeviceOp;

/// The entitlement to every device.
const EVERY: &str = "device";

impl Planner<'_> {
    /// What a step asks for, and what the host's specs say of it. A device that the host doesn't
    /// have and that isn't `required` is left out.
    pub(super) fn devices(
        &mut self,
        applied: &Applied<'_>,
        run: &RunInstruction,
    ) -> Result<(Vec<DeviceOp>, Edits), Diagnostic> {
        let mut asked = Vec::with_capacity(run.devices.len());
        let mut found = Vec::new();
        for device in &run.devices {
            check_name(&device.value.name).map_err(|error| refused(applied, device, &error))?;
            asked.push(DeviceOp {
                name: device.value.name.clone(),
                required: device.value.required,
            });
            let Some(directories) = &self.request.cdi_directories else {
                continue;
            };
            let known = self
                .devices
                .get_or_insert_with(|| Devices::read(directories));
            let names = known
                .find(&device.value.name)
                .map_err(|error| refused(applied, device, &error))?;
            if names.is_empty() {
                let missing = missing(applied, device, known);
                if device.value.required {
                    return Err(missing);
                }
                self.warnings.push(missing);
                continue;
            }
            for name in names {
                if !known.is_for_everybody(name) && !allowed(&self.request.allow, known, name) {
                    let message =
                        format!("this step wants the device `{name}`, which is not allowed");
                    return Err(applied
                        .error("entitlement", device.span, message)
                        .with_help(format!(
                            "if you trust this Dockerfile, build with `--allow device={name}`, or with \
                             `--allow device` for every device"
                        )));
                }
                let name = name.to_owned();
                known
                    .edits(std::slice::from_ref(&name))
                    .map_err(|error| refused(applied, device, &error))?;
                found.push(name);
            }
        }
        let edits = match &self.devices {
            Some(known) => known.edits(&found).map_err(|error| {
                applied.error("no-devices", applied.instruction.span, error.to_string())
            })?,
            None => Edits::default(),
        };
        Ok((asked, edits))
    }
}

/// Whether an entitlement covers the device, which it may name as `--device` may.
fn allowed(allow: &[String], known: &Devices, name: &str) -> bool {
    allow.iter().any(|given| {
        given == EVERY
            || given
                .strip_prefix("device=")
                .and_then(|wanted| known.find(wanted).ok())
                .is_some_and(|names| names.contains(&name))
    })
}

fn refused(applied: &Applied<'_>, device: &Spanned<Device>, error: &CdiError) -> Diagnostic {
    applied.error("no-devices", device.span, error.to_string())
}

fn missing(applied: &Applied<'_>, device: &Spanned<Device>, known: &Devices) -> Diagnostic {
    let Device { name, required } = &device.value;
    let mut diagnostic = if *required {
        applied
            .error(
                "no-devices",
                device.span,
                format!("the device `{name}` is required, and no CDI spec of this host has it"),
            )
            .with_help("without `required` the step runs without the device")
    } else {
        Diagnostic::warning(
            "no-devices",
            applied.at(device.span),
            format!("the step runs without the device `{name}`: no CDI spec of this host has it"),
        )
    };
    for broken in known.broken() {
        diagnostic = diagnostic.with_help(format!("a spec is left out: {broken}"));
    }
    diagnostic
}
