//! Output cut into lines, with bounded memory.

use std::mem;

/// A line longer than this is passed on in pieces.
const LONGEST: usize = 64 * 1024;

/// Cuts a stream of bytes into lines.
///
/// A carriage return starts the line again, as on a terminal, so that of a progress bar only the
/// last state is passed on; `\r\n` is a plain end of line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
    /// The last byte was a carriage return: what comes next decides what it meant.
    returned: bool,
}

impl Lines {
    /// Takes `bytes` in; calls `line` for every line that is complete, without its end.
    pub(super) fn push(&mut self, mut bytes: &[u8], line: &mut dyn FnMut(&[u8])) {
        while let Some(&first) = bytes.first() {
            if mem::take(&mut self.returned) && first != b'\n' && first != b'\r' {
                self.pending.clear();
            }
            let end = bytes
                .iter()
                .position(|&byte| byte == b'\n' || byte == b'\r');
            let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.pending.is_empty() && rest.first() == Some(&b'\n') && text.len() <= LONGEST {
                // The common case, without a copy.
                line(text);
                bytes = &rest[1..];
                continue;
            }
            self.append(text, line);
            match rest.split_first() {
                Some((b'\n', after)) => {
                    line(&mem::take(&mut self.pending));
                    bytes = after;
                }
                Some((_, after)) => {
                    self.returned = true;
                    bytes = after;
                }
                None => bytes = rest,
            }
        }
    }

    /// Ends the stream: passes an unfinished line on.
    pub(super) fn finish(&mut self, line: &mut dyn FnMut(&[u8])) {
        self.returned = false;
        if !self.pending.is_empty() {
            line(&mem::take(&mut self.pending));
        }
    }

    fn append(&mut self, mut text: &[u8], line: &mut dyn FnMut(&[u8])) {
        while self.pending.len() + text.len() > LONGEST {
            let (head, tail) = text.split_at(LONGEST - self.pending.len());
            self.pending.extend_from_slice(head);
            line(&self.pending);
            self.pending.clear();
            text = tail;
        }
        self.pending.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        let mut keep = |line: &[u8]| found.push(String::from_utf8_lossy(line).into_owned());
        for chunk in chunks {
            lines.push(chunk, &mut keep);
        }
        lines.finish(&mut keep);
        found
    }

    #[test]
    fn lines_are_joined_across_chunks() {
        assert_eq!(lines(&[b"a", b"b\nc", b"\n\nd"]), ["ab", "c", "", "d"]);
    }

    #[test]
    fn a_carriage_return_starts_the_line_again() {
        assert_eq!(
            lines(&[b" 10%\r 50%", b"\r100%\r\ndone\r\n"]),
            ["100%", "done"]
        );
        assert_eq!(lines(&[b"a\r", b"\nb\r", b"c\n"]), ["a", "c"]);
        assert_eq!(lines(&[b"x\r\r\ny"]), ["x", "y"]);
    }

    #[test]
    fn a_progress_bar_that_ends_without_a_line_end_is_passed_on() {
        assert_eq!(lines(&[b"50%\r100%\r"]), ["100%"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_loses_nothing() {
        let long = vec![b'x'; 3 * LONGEST + 5];
        let found = lines(&[&long[..10], &long[10..], b"\nend\n"]);
        assert_eq!(found.len(), 5);
        assert!(found[..3].iter().all(|piece| piece.len() == LONGEST));
        assert_eq!(found[3].len(), 5);
        assert_eq!(found[4], "end");
    }
}
