//! Short files, read with few system calls.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The text of a file of at most a few kilobytes, such as those of `/proc` whose size nothing tells: asked
/// for its size first, and then for 32 bytes and twice as many each time, it would take ten calls.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(4096);
    let mut file = File::open(path)?;
    let mut buffer = [0; 4096];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_and_must_be_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, 4095, 4096, 4097, 10_000] {
            std::fs::write(&path, "x".repeat(length)).unwrap();
            assert_eq!(read_to_string(&path).unwrap().len(), length);
        }
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(
            read_to_string(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            read_to_string(directory.path()).unwrap_err().kind(),
            io::ErrorKind::IsADirectory
        );
    }
}
