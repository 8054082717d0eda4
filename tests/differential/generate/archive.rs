//! Archives for ADD.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::super::super::support::Random;

/// A file name and an archive, or something that only looks like one.
pub(crate) fn any(random: &mut Random) -> (&'static str, Vec<u8>) {
    let tar = tar(random);
    match random.below(12) {
        0..=3 => ("pack.tar", tar),
        4..=6 => ("pack.tar.gz", gzip(&tar)),
        7 => ("pack.tar.bz2", filter("bzip2", &tar)),
        8 => ("pack.tar.xz", filter("xz", &tar)),
        // By its content it is one, whatever its name.
        9 => ("pack.bin", gzip(&tar)),
        // By its name only.
        10 => ("text.tar.gz", b"no archive\n".to_vec()),
        _ => ("text.gz", gzip(b"compressed, but no archive\n")),
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn filter(program: &str, data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}: run `make deps`"));
    // A few kilobytes: they fit into the pipe.
    child.stdin.take().unwrap().write_all(data).unwrap();
    child.wait_with_output().unwrap().stdout
}

fn tar(random: &mut Random) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let prefix = random.of(&["", "", "./", "pack-1.0/", "./pack/", "/"]);
    if random.chance(30) && prefix.ends_with('/') && prefix != "/" {
        entry(random, &mut builder, prefix, tar::EntryType::Directory, "");
    }
    let long = format!("{prefix}{}/end", "long-name-".repeat(12));
    let mut files = Vec::new();
    for number in 0..2 + random.below(6) {
        let name = random.of(&[
            "one",
            "two",
            "bin/tool",
            "etc/conf",
            "s p",
            "ü",
            "deep/er/x",
        ]);
        let path = format!("{prefix}{name}{number}");
        match random.below(14) {
            0..=6 => {
                entry(random, &mut builder, &path, tar::EntryType::Regular, "");
                files.push(path);
            }
            7 | 8 => {
                let path = format!("{path}/");
                entry(random, &mut builder, &path, tar::EntryType::Directory, "");
            }
            9 => {
                let to = random.of(&["one0", "nowhere", "../up", "/etc/passwd", "."]);
                entry(random, &mut builder, &path, tar::EntryType::Symlink, to);
            }
            10 => {
                if let Some(to) = random.any(&files).cloned() {
                    entry(random, &mut builder, &path, tar::EntryType::Link, &to);
                }
            }
            11 => entry(random, &mut builder, &path, tar::EntryType::Fifo, ""),
            // The same name again: the later one counts.
            12 => {
                if let Some(path) = random.any(&files).cloned() {
                    entry(random, &mut builder, &path, tar::EntryType::Regular, "");
                }
            }
            _ => entry(random, &mut builder, &long, tar::EntryType::Regular, ""),
        }
    }
    builder.into_inner().unwrap()
}

fn entry(
    random: &mut Random,
    builder: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    target: &str,
) {
    let content = if kind == tar::EntryType::Regular {
        format!("{path} {}\n", random.below(1000))
    } else {
        String::new()
    };
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    // What a directory with set-group-id hands on to those that are only implied is not compared.
    header.set_mode(random.of(&[0o644, 0o755, 0o600, 0o4755, 0o1777, 0o750, 0o444]));
    header.set_uid(random.of(&[0, 0, 1000, 33, 65_534]));
    header.set_gid(random.of(&[0, 0, 1001, 33, 65_534]));
    header.set_mtime(1_200_000_000 + random.below(100_000_000));
    if !target.is_empty() {
        header.set_link_name_literal(target).unwrap();
    }
    if path.len() > 100 {
        // The crate writes a GNU long name entry.
        builder
            .append_data(
                &mut header,
                path.trim_start_matches('/'),
                content.as_bytes(),
            )
            .unwrap();
        return;
    }
    // As it is: the crate's own way refuses absolute names.
    let name = &mut header.as_old_mut().name;
    name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    builder.append(&header, content.as_bytes()).unwrap();
}
