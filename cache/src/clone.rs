//! Copying a file's content in the cheapest way that the file systems allow.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::Errno;

/// How much the kernel is asked to copy at once.
const STEP: usize = 8 << 20;

/// Copies all of `from` into the empty file `to`: as a clone that shares blocks (`FICLONE`), inside
/// the kernel (`copy_file_range`), or by reading and writing. Both are read and written from where
/// they stand, which must be the start. Returns the number of bytes.
pub fn clone_file(from: &File, to: &File) -> io::Result<u64> {
    clone_file_in_steps(from, to, &mut |_| Ok(()))
}

/// [`clone_file`] that tells `told` now and then how many bytes there are so far, unless it takes no
/// time. Ends with the first error of it.
pub fn clone_file_in_steps(
    from: &File,
    to: &File,
    told: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<u64> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => return Ok(to.metadata()?.len()),
        // Another file system, or one without clones; EPERM and ENOTTY are answers of old ones.
        Err(
            Errno::XDEV
            | Errno::OPNOTSUPP
            | Errno::INVAL
            | Errno::NOTTY
            | Errno::PERM
            | Errno::NOSYS
            | Errno::BADF
            | Errno::TXTBSY,
        ) => {}
        Err(error) => return Err(error.into()),
    }
    append_file(from, to, u64::MAX, told)
}

/// Copies up to `size` bytes of `from` to where `to` stands: inside the kernel, or by reading and writing.
/// Ends with the end of `from`, or the first error of `told`, which hears now and then how many there are so
/// far. Returns how many there are.
pub fn append_file(
    from: &File,
    to: &File,
    size: u64,
    told: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<u64> {
    let most = |copied: u64, step: usize| {
        usize::try_from(size - copied).map_or(step, |left| left.min(step))
    };
    let mut copied = 0;
    while copied < size {
        match rustix::fs::copy_file_range(from, None, to, None, most(copied, STEP)) {
            // Some file systems (of the kernel's own making) say 0 though there is more: reading
            // decides.
            Ok(0) => break,
            Ok(count) => {
                copied += count as u64;
                told(copied)?;
            }
            Err(Errno::INTR) => {}
            Err(
                Errno::XDEV
                | Errno::OPNOTSUPP
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::PERM
                | Errno::IO
                | Errno::BADF
                | Errno::TXTBSY,
            ) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if copied == size {
        return Ok(copied);
    }
    // The position of both has moved with what was copied so far.
    let (mut from, mut to) = (from, to);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let wanted = most(copied, buffer.len());
        match from.read(&mut buffer[..wanted]) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                copied += count as u64;
                told(copied)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn content_arrives_whole_on_one_and_across_file_systems() {
        let data: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("from");
        std::fs::write(&path, &data).unwrap();
        std::fs::write(here.path().join("empty"), "").unwrap();
        let shared_memory = tempfile::tempdir_in("/dev/shm").ok();
        for place in [Some(&here), shared_memory.as_ref()].into_iter().flatten() {
            let to = place.path().join("to");
            let copied = clone_file(&File::open(&path).unwrap(), &File::create(&to).unwrap());
            assert_eq!(copied.unwrap(), data.len() as u64);
            assert!(std::fs::read(&to).unwrap() == data);
            let empty = File::open(here.path().join("empty")).unwrap();
            assert_eq!(clone_file(&empty, &File::create(&to).unwrap()).unwrap(), 0);
        }
        // Files of /proc have no size that could be trusted.
        let to = here.path().join("proc");
        let copied = clone_file(
            &File::open("/proc/self/status").unwrap(),
            &File::create(&to).unwrap(),
        );
        assert!(copied.unwrap() > 0);
        assert!(std::fs::read(&to).unwrap().starts_with(b"Name:"));
    }

    #[test]
    fn a_part_is_put_behind_what_is_there() {
        use std::io::Seek as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("from");
        let data: Vec<u8> = (0..300_001_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let mut places = vec![directory.path().to_owned()];
        places.extend(Path::new("/dev/shm").is_dir().then(|| "/dev/shm".into()));
        for place in places {
            let mut to = tempfile::tempfile_in(place).unwrap();
            to.write_all(b"head").unwrap();
            let mut from = File::open(&path).unwrap();
            from.seek(io::SeekFrom::Start(10)).unwrap();
            let mut last = 0;
            let mut told = |so_far| {
                last = so_far;
                Ok(())
            };
            let copied = append_file(&from, &to, 200_000, &mut told).unwrap();
            assert_eq!((copied, last), (200_000, 200_000));
            to.write_all(b"tail").unwrap();
            // The file ends before so much.
            assert_eq!(
                append_file(&from, &to, 200_000, &mut |_| Ok(())).unwrap(),
                99_991
            );
            to.rewind().unwrap();
            let mut found = Vec::new();
            to.read_to_end(&mut found).unwrap();
            let expected = [b"head", &data[10..200_010], b"tail", &data[200_010..]].concat();
            assert!(found == expected);
        }
    }
}
