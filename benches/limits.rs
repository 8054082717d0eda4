//! What the machine itself needs for the work that `benches/compare` gives to builders.
//!
//! - `limits walk DIR`: asks for the metadata of everything below `DIR`, on every core.
//! - `limits copy FROM TO`: copies the files of one directory and hashes them, side by side.
//! - `limits run ROOT SCRATCH COUNT`: COUNT times one after another, new namespaces, an overlay of its
//!   own on `ROOT` below `SCRATCH`, and `/bin/true` in it. Needs root.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::error::Error;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest as _, Sha256};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["walk", directory] => walk(Path::new(directory)),
        ["copy", from, to] => copy(Path::new(from), Path::new(to)),
        ["run", root, scratch, count] => {
            for number in 0..count.parse()? {
                run(root, &Path::new(scratch).join(format!("{number}")))?;
            }
            Ok(())
        }
        // Called by `run`, in a process that may change its namespaces.
        ["inner", root, scratch] => inner(root, Path::new(scratch)),
        _ => Err("usage: limits walk DIR | copy FROM TO | run ROOT SCRATCH COUNT".into()),
    }
}

/// Directories that wait for a thread, and how many are being read.
struct Queue {
    waiting: Vec<PathBuf>,
    busy: usize,
}

fn walk(top: &Path) -> Outcome {
    let queue = Mutex::new(Queue {
        waiting: vec![top.to_owned()],
        busy: 0,
    });
    let changed = Condvar::new();
    let count = AtomicU64::new(0);
    let cores = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| walk_some(&queue, &changed, &count)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    println!("{} entries", count.into_inner());
    Ok(())
}

fn walk_some(queue: &Mutex<Queue>, changed: &Condvar, count: &AtomicU64) -> Outcome {
    loop {
        let directory = {
            let lock = |_| "a thread panicked";
            let mut held = queue.lock().map_err(lock)?;
            loop {
                if let Some(directory) = held.waiting.pop() {
                    held.busy += 1;
                    break directory;
                }
                if held.busy == 0 {
                    return Ok(());
                }
                held = changed.wait(held).map_err(lock)?;
            }
        };
        let mut below = Vec::new();
        let mut seen = 0;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            seen += 1;
            if entry.metadata()?.is_dir() {
                below.push(entry.path());
            }
        }
        count.fetch_add(seen, Ordering::Relaxed);
        let mut held = queue.lock().map_err(|_| "a thread panicked")?;
        held.waiting.append(&mut below);
        held.busy -= 1;
        drop(held);
        changed.notify_all();
    }
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir(to)?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(from)? {
        files.push(entry?.path());
    }
    let hash_all = || -> Outcome {
        let mut buffer = vec![0; 1 << 20];
        for file in &files {
            let mut hasher = Sha256::new();
            let mut source = fs::File::open(file)?;
            loop {
                let length = source.read(&mut buffer)?;
                if length == 0 {
                    break;
                }
                hasher.update(&buffer[..length]);
            }
            println!("{:02x?} {}", &hasher.finalize()[..], file.display());
        }
        Ok(())
    };
    let copy_all = || -> Outcome {
        for file in &files {
            fs::copy(file, to.join(file.file_name().unwrap_or_default()))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let hashing = scope.spawn(hash_all);
        copy_all()?;
        hashing.join().map_err(|_| "the hashing thread panicked")?
    })
}

fn run(root: &str, scratch: &Path) -> Outcome {
    let status = Command::new("/proc/self/exe")
        .args(["inner", root])
        .arg(scratch)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the sandbox ended with {status}").into())
    }
}

fn inner(root: &str, scratch: &Path) -> Outcome {
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for part in ["upper", "work", "merged"] {
        fs::create_dir_all(scratch.join(part))?;
    }
    let at = |part: &str| scratch.join(part).display().to_string();
    let layers = format!(
        "lowerdir={root},upperdir={},workdir={}",
        at("upper"),
        at("work")
    );
    let merged = at("merged");
    mount(
        Some("overlay"),
        merged.as_str(),
        Some("overlay"),
        MsFlags::empty(),
        Some(layers.as_str()),
    )?;
    nix::unistd::chroot(merged.as_str())?;
    nix::unistd::chdir("/")?;
    // The first process of the new PID namespace.
    let status = Command::new("/bin/true").status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("true ended with {status}").into())
    }
}
