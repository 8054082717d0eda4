//! Commands for other machines than this one: whether they can run, before they are tried.

use std::io::Read;
use std::path::{Path, PathBuf};

use strata_cache::LayerView;
use strata_executor::emulation::{self, Machine, Support};
use strata_parser::Diagnostic;

use super::{Failure, Shared};
use crate::event::Event;
use crate::graph::{Graph, Op, RunOp, Vertex};

impl Shared<'_> {
    /// An error if the command of `vertex` is for a machine whose programs don't run here. Emulators
    /// that are installed are made to run them, if only this build sees that.
    pub(super) fn check_machine(
        &self,
        vertex: &Vertex,
        run: &RunOp,
        view: &LayerView,
    ) -> Result<(), Failure> {
        let Some(platform) = machine_of(&vertex.platform) else {
            return Ok(());
        };
        if runs(&platform) {
            return Ok(());
        }
        // An image may be another than its stage says: what is there to be run counts.
        let machine = match first_bytes(view, run) {
            None => return Ok(()),
            Some(start) => Machine::of_program(&start).unwrap_or(platform),
        };
        if runs(&machine) {
            return Ok(());
        }
        let mut needed = machines(self.graph);
        if !needed.contains(&machine) {
            needed.push(machine);
        }
        let registered = emulation::register_for_children(&needed);
        if runs(&machine) {
            if registered {
                let names: Vec<&str> = needed.iter().map(Machine::architecture).collect();
                self.events.event(Event::Notice(format!(
                    "commands for {} run emulated: the emulators that are installed here are \
                     registered for this build alone",
                    names.join(", ")
                )));
            }
            return Ok(());
        }
        match emulation::support(&machine) {
            Support::Native | Support::Emulated | Support::Unknown => Ok(()),
            trouble => Err(cant_run(vertex, &machine, &trouble).into()),
        }
    }
}

/// The machine that a platform is for, if its programs are known by sight.
fn machine_of(platform: &str) -> Option<Machine> {
    let architecture = platform.split('/').nth(1)?;
    Machine::of_architecture(architecture)
}

fn runs(machine: &Machine) -> bool {
    matches!(
        emulation::support(machine),
        Support::Native | Support::Emulated
    )
}

/// The other machines that commands of the build are for.
fn machines(graph: &Graph) -> Vec<Machine> {
    let mut machines: Vec<Machine> = Vec::new();
    for vertex in &graph.vertices {
        if let (Op::Run(_), Some(machine)) = (&vertex.op, machine_of(&vertex.platform))
            && !machine.is_native()
            && !machines.contains(&machine)
        {
            machines.push(machine);
        }
    }
    machines
}

/// The beginning of the program that the command starts; none if it can't be found: then that is what
/// people have to be told.
fn first_bytes(view: &LayerView, run: &RunOp) -> Option<Vec<u8>> {
    let name = run.argv.first()?;
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![Path::new(&run.cwd).join(name)]
    } else {
        let path = run.env.iter().rfind(|(known, _)| known == "PATH");
        let path = path.map_or("", |(_, value)| value.as_str());
        let directories = path.split(':').filter(|directory| !directory.is_empty());
        directories
            .map(|directory| Path::new(directory).join(name))
            .collect()
    };
    for candidate in candidates {
        let relative = candidate.strip_prefix("/").unwrap_or(&candidate);
        let Ok(Some(entry)) = view.lookup(relative, true) else {
            continue;
        };
        if let Ok(file) = view.open(&entry) {
            let mut start = Vec::new();
            if file.take(64).read_to_end(&mut start).is_ok() {
                return Some(start);
            }
        }
    }
    None
}

fn cant_run(vertex: &Vertex, machine: &Machine, trouble: &Support) -> Diagnostic {
    let architecture = machine.architecture();
    let message = format!(
        "this step runs programs for `{architecture}`, which this machine can't run by itself"
    );
    let diagnostic = Diagnostic::error("no-emulator", vertex.span, message)
        .with_label(format!("built for {}", vertex.platform));
    let docker = format!(
        "with docker: `docker run --privileged --rm tonistiigi/binfmt --install {architecture}`"
    );
    match trouble {
        Support::NotFixed { name, interpreter } => diagnostic
            .with_note(format!(
                "`{interpreter}` is registered for them as `{name}`, but without the flag `F`, so that \
                 sandboxes can't reach it"
            ))
            .with_help(format!(
                "take it away, as root: `echo -1 > /proc/sys/fs/binfmt_misc/{name}`, and register one \
                 with `F`, as Debian's package `qemu-user-static` does"
            ))
            .with_help(docker),
        Support::Missing {
            emulator: Some(emulator),
        } => diagnostic
            .with_note(format!(
                "the emulator `{}` is installed, but not registered with the kernel (binfmt_misc)",
                emulator.display()
            ))
            .with_help("register it, as root: `systemctl restart systemd-binfmt`, or without systemd:")
            .with_help(format!(
                "`mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; printf %s '{}' \
                 > /proc/sys/fs/binfmt_misc/register`",
                machine.registration(emulator)
            )),
        _ => diagnostic
            .with_note("no emulator is registered for them with the kernel (binfmt_misc)")
            .with_help(
                "install one: `apt-get install qemu-user-static` (Debian, Ubuntu), or \
                 `dnf install qemu-user-static` (Fedora)",
            )
            .with_help(docker),
    }
}
