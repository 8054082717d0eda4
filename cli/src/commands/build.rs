//! `strata build`

use std::io;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;

use strata_cache::Store;
use strata_image::Images;
use strata_solver::BuildError;
use strata_solver::BuildResult;
use strata_solver::Cancel;
use strata_solver::Event;
use strata_solver::EventSink;
use strata_solver::remote;
use strata_solver::remote::Origin;
use strata_solver::remote::Prepared;
use strata_solver::request::BuildRequest;
use strata_solver::request::Context;
use strata_solver::request::Output;

use super::stored;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::is_of_store;
use crate::flags::context::Elsewhere;
use crate::flags::context::Files;
use crate::flags::high::Build;
use crate::flags::high::Surroundings;
use crate::flags::low;
use crate::metadata;
use crate::output;
use crate::progress::Mode;
use crate::progress::Progress;
use crate::progress::json;
use crate::progress::resources;
use crate::progress::summary;
use crate::root;
use crate::root::Place;
use crate::signals;
use crate::snapshotter;
use crate::terminal;
use crate::vcs;
use crate::verify;

pub(crate) fn run(flags: &low::Build, root: &Path, place: Place) -> Result<(), CommandError> {
    let surroundings = Surroundings::of_process()?;
    let mut build = Build::new(flags, &surroundings, &mut io::stdin())?;
    if let Some(call) = build.call {
        let store;
        // Kept until the question is answered.
        let _files = match build.elsewhere.take() {
            None => None,
            Some(elsewhere) => {
                store = root::open(root)?;
                let cancel = Cancel::default();
                let files = prepare(&store, &mut build, elsewhere, &cancel);
                Some(files.map_err(super::check::failed)?)
            }
        };
        return super::call::run(build.request, call, root);
    }
    if build.progress == Mode::Tty && !terminal::can_redraw() {
        return Err(CommandError::usage(
            "`--progress tty` needs a terminal on standard error",
        ));
    }
    if let Some(path) = &build.iidfile {
        // A build that fails must not leave an older build's ID behind.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && path.is_file() => {
                return Err(unwritable("--iidfile", path, &error));
            }
            _ => {}
        }
    }
    let config = Config::load()?;
    if flags.neutral_modes.is_none() {
        build.request.neutral_modes = config.neutral_modes();
    }
    build.request.isolation = place.isolation;
    build.request.signed = config.signed();
    if !build.request.secrets.is_empty() {
        // Where it can't be had, a build is still better than none.
        strata_executor::sandbox::hide_memory().ok();
    }
    if build.request.step_timeout.is_none() {
        build.request.step_timeout = config.step_timeout();
    }
    let given = flags.networking.network.is_some();
    config.networking(given, &mut build.request.network, &mut build.request.dns);
    let cancel = Cancel::default();
    let signal = watch_signals(&cancel)?;
    let store = root::open(root)?;
    let progress = Progress::start(build.progress);
    let notices = place
        .notice
        .into_iter()
        .chain(build.notices.iter().cloned());
    for notice in notices.chain(snapshotter::choose(&store, place.isolation)?) {
        progress.event(Event::Notice(notice));
    }
    if let Some(Elsewhere {
        files: Files::Remote(remote),
        ..
    }) = &build.elsewhere
    {
        progress.event(Event::Notice(format!("loading the context `{remote}`")));
    }
    // Kept until the build is over.
    let prepared = build
        .elsewhere
        .take()
        .map(|elsewhere| prepare(&store, &mut build, elsewhere, &cancel))
        .transpose();
    let _files = match prepared {
        Ok(files) => files,
        Err(error) => {
            progress.close();
            return Err(fail(&progress, error, signal.load(Ordering::SeqCst)));
        }
    };
    if let Err(notice) = note_commit(&mut build.request) {
        progress.event(Event::Notice(notice));
    }
    let images = Images::new(&store, config.registries()).limited(config.unpack());
    if let Some(format) = build.verify {
        let request = &build.request;
        let verified = strata_solver::verify::verify(&store, &images, request, &progress, &cancel);
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => {
                progress.close();
                show_warnings(&progress, &build);
                return Err(fail(&progress, error, signal.load(Ordering::SeqCst)));
            }
        };
        verify::report(&verified, &build.request.dockerfile_name, format)?;
        if !verified.is_reproducible() {
            progress.close();
            prune(&store, &config, &progress);
            return Err(CommandError::silent(Kind::Program(verify::DIFFERS)));
        }
        // What was made just now is not made a third time.
        build.request.no_cache = false;
        build.request.no_cache_filter.clear();
    }
    let result = strata_solver::build(&store, &images, &build.request, &progress, &cancel);
    progress.close();
    show_warnings(&progress, &build);
    if flags.resources && matches!(progress.mode(), Mode::Plain | Mode::Tty) {
        write_error_line(|out| resources::table(&progress.used(), out));
    }
    match result {
        Ok(result) => {
            finish(&build, &progress, &result)?;
            sign(&build, &result)?;
            // A build that ran nothing has made nothing to prune.
            if result.hits < result.steps {
                prune(&store, &config, &progress);
            }
            Ok(())
        }
        Err(error) => Err(fail(&progress, error, signal.load(Ordering::SeqCst))),
    }
}

/// Finds out which commit a context of this machine is from, if that is to be said.
fn note_commit(request: &mut BuildRequest) -> Result<(), String> {
    let asked = &request.attestations;
    let Context::Directory(context) = &request.context else {
        return Ok(());
    };
    if asked.provenance.is_none() && asked.metadata.is_none() {
        return Ok(());
    }
    let variable = |name: &str| std::env::var(name).ok();
    let vcs = vcs::of(context, request.dockerfile_path.as_deref(), variable)?;
    request.attestations.vcs = vcs;
    Ok(())
}

/// Fetches or unpacks context and Dockerfile.
fn prepare<'store>(
    store: &'store Store,
    build: &mut Build,
    elsewhere: Elsewhere,
    cancel: &Cancel,
) -> Result<Prepared<'store>, BuildError> {
    let mut stdin = io::stdin();
    let origin = match elsewhere.files {
        Files::Stdin(start) => Origin::Archive(remote::Stdin {
            start,
            rest: &mut stdin,
        }),
        Files::Remote(remote) => Origin::Remote(remote),
        Files::Directory(path) => Origin::Directory(path),
    };
    remote::prepare(
        store,
        &mut build.request,
        origin,
        elsewhere.dockerfile,
        cancel,
    )
}

/// The first signal cancels the build, the second ends this process, and with it everything that
/// it runs. Answers where the first one is noted.
fn watch_signals(cancel: &Cancel) -> Result<Arc<AtomicI32>, CommandError> {
    let first = Arc::new(AtomicI32::new(0));
    let noted = Arc::clone(&first);
    let cancel = cancel.clone();
    signals::watch(&[], move |signal| {
        let signal = signal as i32;
        if noted.swap(signal, Ordering::SeqCst) != 0 {
            std::process::exit(i32::from(Kind::Cancelled(signal).exit_code()));
        }
        cancel.cancel();
    })?;
    Ok(first)
}

/// Keeps the store within the bounds that are configured. What goes wrong here is no failure of the
/// build, and comes again with `strata cache prune`.
fn prune(store: &Store, config: &Config, progress: &Progress) {
    let rules = config.rules(store.room());
    let budget = config.prune_budget();
    let reports = strata_cache::gc::collect_garbage(store, &rules, budget).unwrap_or_default();
    let freed: u64 = reports.iter().map(|report| report.bytes).sum();
    let records: usize = reports.iter().map(|report| report.records.len()).sum();
    if records > 0 && matches!(progress.mode(), Mode::Plain | Mode::Tty) {
        let steps = crate::human::plural(records as u64, "cached step");
        let freed = crate::human::size(freed);
        write_error_line(|out| writeln!(out, "pruned {steps} by policy: {freed} freed"));
    }
}

/// Tells what was built, and writes the files that were asked for.
fn finish(build: &Build, progress: &Progress, result: &BuildResult) -> Result<(), CommandError> {
    if let (Some(path), Some(id)) = (&build.iidfile, result.image) {
        write_file(path, id.to_string().as_bytes())
            .map_err(|error| unwritable("--iidfile", path, &error))?;
    }
    if let Some(path) = &build.metadata_file {
        let mut text = format!("{:#}", metadata::object(&build.request, result)).into_bytes();
        text.push(b'\n');
        write_file(path, &text).map_err(|error| unwritable("--metadata-file", path, &error))?;
    }
    let names = stored::familiar(&build.request.tags);
    match progress.mode() {
        Mode::Quiet => {}
        Mode::Json => {
            let object = summary::object(result, &names, progress.elapsed());
            write_error_line(|out| json::write_line(out, &object));
        }
        Mode::Plain | Mode::Tty | Mode::Auto => {
            let line = summary::line(result, &names, progress.elapsed());
            write_error_line(|out| writeln!(out, "{line}"));
        }
    }
    if build.print_id
        && let Some(id) = result.image
    {
        output::write(|out| writeln!(out, "{id}"))?;
    }
    Ok(())
}

/// Signs every name that something was pushed to.
fn sign(build: &Build, result: &BuildResult) -> Result<(), CommandError> {
    let Some(sign) = &build.sign else {
        return Ok(());
    };
    let mut pushed = result.manifests.iter();
    for output in &build.request.outputs {
        // Each output with a manifest has noted it, in order; a push one for each name.
        let count = match output {
            Output::Registry { names, .. } if names.is_empty() => build.request.tags.len(),
            Output::Registry { names, .. } => names.len(),
            Output::Oci { .. } | Output::Docker { .. } => 1,
            Output::Store { .. }
            | Output::Tar { .. }
            | Output::Local { .. }
            | Output::Engine { .. }
            | Output::CacheOnly => 0,
        };
        for (name, manifest) in pushed.by_ref().take(count) {
            if matches!(output, Output::Registry { .. }) {
                sign.sign(name, manifest.digest)?;
            }
        }
    }
    Ok(())
}

fn unwritable(flag: &str, path: &Path, error: &io::Error) -> CommandError {
    CommandError::failed(format!(
        "`{flag}`: can't write `{}`: {error}",
        path.display()
    ))
}

/// Writes a file so that a reader sees the old content or the new, never a part. What is no
/// regular file (`/dev/stdout`) is written to as it is.
fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let regular = match path.symlink_metadata() {
        Ok(metadata) => metadata.is_file(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !regular {
        return std::fs::write(path, content);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let scratch = path.with_file_name(name);
    std::fs::write(&scratch, content)
        .and_then(|()| std::fs::rename(&scratch, path))
        .inspect_err(|_| drop(std::fs::remove_file(&scratch)))
}

/// Findings, each with its line of the Dockerfile. They were events in JSON already.
fn show_warnings(progress: &Progress, build: &Build) {
    if !matches!(progress.mode(), Mode::Plain | Mode::Tty) {
        return;
    }
    let warnings = progress.warnings();
    if warnings.is_empty() {
        return;
    }
    let source = strata_parser::source::text(&build.request.dockerfile);
    let source = strata_image::redact::in_place(&source);
    let colour = terminal::colour();
    for warning in &warnings {
        let picture = strata_parser::diagnostic::render_with(
            warning,
            &build.request.dockerfile_name,
            &source,
            colour,
        );
        write_error_line(|out| writeln!(out, "{picture}\n"));
    }
}

/// Shows the last words of the step that failed, and makes the error.
fn fail(progress: &Progress, error: BuildError, signal: i32) -> CommandError {
    let kind = match &error {
        _ if signal != 0 => Kind::Cancelled(signal),
        BuildError::Cancelled => Kind::Cancelled(nix::sys::signal::Signal::SIGINT as i32),
        BuildError::Dockerfile(report) | BuildError::Step { report, .. }
            if report
                .diagnostics
                .errors()
                .any(|error| matches!(error.code, "no-space" | "disk")) =>
        {
            Kind::Store
        }
        // What can't be had is no mistake in the Dockerfile.
        BuildError::Dockerfile(report)
            if report
                .diagnostics
                .errors()
                .all(|error| ["base-image", "remote"].contains(&error.code)) =>
        {
            Kind::Failed
        }
        BuildError::Dockerfile(_) | BuildError::Context { .. } | BuildError::Request(_) => {
            Kind::Usage
        }
        BuildError::Store(_) => Kind::Store,
        error if is_of_store(error) => Kind::Store,
        _ => Kind::Failed,
    };
    let cancelled = matches!(kind, Kind::Cancelled(_));
    if progress.mode() == Mode::Json {
        let object = summary::error(kind, &error, progress.elapsed());
        write_error_line(|out| json::write_line(out, &object));
        return CommandError::silent(kind);
    }
    if cancelled {
        return CommandError::new(
            kind,
            anyhow::anyhow!("cancelled; steps that were finished are kept"),
        );
    }
    if matches!(error, BuildError::Step { .. })
        && let Some(step) = progress.failed_step()
        && !step.tail.is_empty()
    {
        let text = summary::last_words(&step);
        write_error_line(|out| out.write_all(text.as_bytes()));
    }
    let picture = error
        .report()
        .map(|report| report.render(terminal::colour()));
    let error = CommandError::new(kind, error);
    match picture {
        Some(picture) => error.with_picture(picture),
        None => error,
    }
}

/// Writes to standard error. If nobody reads it, the exit code has to be enough.
fn write_error_line(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let mut text = Vec::new();
    if write(&mut text).is_ok() {
        drop(io::stderr().write_all(&text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_special_ones_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        for content in ["old and long", "new"] {
            write_file(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        write_file(Path::new("/dev/null"), b"x").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(write_file(&directory.path().join("no/such"), b"x").is_err());
    }
}
