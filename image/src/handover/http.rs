//! As much of HTTP/1.1 (RFC 9112) as docker's daemon needs, over any stream: one request after the
//! other, bodies that are sent in chunks.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::endpoint::Dialler;

/// The longest line of a head that is read.
const MAX_LINE: u64 = 64 << 10;
/// The most lines of a head.
const MAX_HEADERS: usize = 200;
/// The largest answer that is read.
const MAX_BODY: u64 = 256 << 20;
/// Bytes in one chunk of what is sent.
const CHUNK: usize = 128 << 10;

/// A connection to a server.
pub(super) struct Connection {
    input: BufReader<Box<dyn Read + Send>>,
    output: Option<Box<dyn Write + Send>>,
    /// Dropped, and so ended, after the streams.
    _dialler: Option<Dialler>,
    /// The server will close it.
    ended: bool,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// What writes a body.
pub(super) type WriteBody<'a> = dyn FnMut(&mut dyn Write) -> Result<(), BodyError> + 'a;

/// Its writing failed.
#[derive(Debug)]
pub(super) struct BodyError;

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

impl Connection {
    pub(super) fn new(
        input: BufReader<Box<dyn Read + Send>>,
        output: Option<Box<dyn Write + Send>>,
        dialler: Option<Dialler>,
    ) -> Self {
        Self {
            input,
            output,
            _dialler: dialler,
            ended: false,
        }
    }

    /// True if no further request can be made.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Makes a request. `path` is a path with its query, of characters that need no escape.
    pub(super) fn request(&mut self, method: &str, path: &str) -> io::Result<Response> {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        let output = self.output.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        output.write_all(head.as_bytes())?;
        output.flush()?;
        self.response()
    }

    /// Makes a request with a body. If the body can't be written because the server takes no more of it,
    /// its answer counts; if it fails by itself, the request is broken off, and the server has an
    /// unfinished one.
    pub(super) fn send(
        &mut self,
        path: &str,
        media_type: &str,
        write: &mut WriteBody<'_>,
    ) -> io::Result<Option<Response>> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        let output = self.output.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut chunked = Chunked {
            output,
            buffer: Vec::with_capacity(CHUNK),
            failure: None,
        };
        let sent = chunked
            .direct(head.as_bytes())
            .map_err(|_| BodyError)
            .and_then(|()| write(&mut chunked))
            .and_then(|()| chunked.finish().map_err(|_| BodyError));
        let failure = chunked.failure.take();
        match (sent, failure) {
            (Ok(()), _) => self.response().map(Some),
            (Err(BodyError), Some(failure)) => {
                self.ended = true;
                // It may have said why before it hung up.
                match self.response() {
                    Ok(response) => Ok(Some(response)),
                    Err(_) => Err(failure),
                }
            }
            (Err(BodyError), None) => {
                self.ended = true;
                self.output = None;
                Ok(None)
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.input)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(if line.len() as u64 == MAX_LINE {
                invalid("a line of the answer is too long")
            } else {
                io::ErrorKind::UnexpectedEof.into()
            });
        }
        String::from_utf8(line)
            .map(|line| line.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|_| invalid("the answer is not text"))
    }

    fn response(&mut self) -> io::Result<Response> {
        let status = loop {
            let line = self.line()?;
            let mut words = line.split(' ');
            let (version, status) = (words.next().unwrap_or_default(), words.next());
            let status = status.and_then(|status| status.parse::<u16>().ok());
            let Some(status) = status.filter(|_| version.starts_with("HTTP/1.")) else {
                return Err(invalid("it does not speak HTTP/1.1"));
            };
            if version == "HTTP/1.0" {
                self.ended = true;
            }
            // Others that begin with 1 come before the answer.
            if !(100..200).contains(&status) {
                break status;
            }
            while !self.line()?.is_empty() {}
        };
        let (mut length, mut chunked) = (None, false);
        let mut headers = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            headers += 1;
            if headers > MAX_HEADERS {
                return Err(invalid("the answer has too many headers"));
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(invalid("a header of the answer is none"));
            };
            let value = value.trim().to_ascii_lowercase();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    let size = value.parse::<u64>();
                    length = Some(size.map_err(|_| invalid("the answer's length is no number"))?);
                }
                "transfer-encoding" => chunked = value == "chunked",
                "connection" if value == "close" => self.ended = true,
                _ => {}
            }
        }
        let mut body = Vec::new();
        if chunked {
            self.chunks(&mut body)?;
        } else if let Some(length) = length {
            self.exactly(length, &mut body)?;
        } else if status != 204 && status != 304 {
            self.ended = true;
            let mut rest = (&mut self.input).take(MAX_BODY);
            rest.read_to_end(&mut body)?;
        }
        Ok(Response { status, body })
    }

    fn exactly(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        if length > MAX_BODY || body.len() as u64 + length > MAX_BODY {
            return Err(invalid("the answer is too large"));
        }
        let read = (&mut self.input).take(length).read_to_end(body)?;
        if read as u64 == length {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16)
                .map_err(|_| invalid("a chunk's length is no number"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            self.exactly(size, body)?;
            if !self.line()?.is_empty() {
                return Err(invalid("a chunk is longer than it says"));
            }
        }
    }
}

/// Writes a body in chunks.
struct Chunked<'a> {
    output: &'a mut Box<dyn Write + Send>,
    buffer: Vec<u8>,
    /// Why the server takes no more.
    failure: Option<io::Error>,
}

impl Chunked<'_> {
    fn direct(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes).map_err(|error| {
            let told = io::Error::from(error.kind());
            self.failure.get_or_insert(error);
            told
        })
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let head = format!("{:x}\r\n", self.buffer.len());
        let mut buffer = std::mem::take(&mut self.buffer);
        self.direct(head.as_bytes())?;
        self.direct(&buffer)?;
        self.direct(b"\r\n")?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.send()?;
        self.direct(b"0\r\n\r\n")?;
        self.output.flush()
    }
}

impl Write for Chunked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Sent(mpsc::Sender<Vec<u8>>);

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A connection to a server that answers this, and what it is sent.
    fn connection(answer: &str) -> (Connection, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel();
        let input = io::Cursor::new(answer.as_bytes().to_vec());
        let connection = Connection::new(
            BufReader::new(Box::new(input)),
            Some(Box::new(Sent(sender))),
            None,
        );
        (connection, receiver)
    }

    #[test]
    fn answers_of_every_form_are_read_one_after_the_other() {
        let (mut connection, _sent) = connection(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
             HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nde\r\n1;x=y\r\nf\r\n0\r\n\r\n\
             HTTP/1.1 204 No Content\r\n\r\n\
             HTTP/1.1 200 OK\r\n\r\nto the end",
        );
        for (status, body, ended) in [
            (200, "abc", false),
            (404, "def", false),
            (204, "", false),
            (200, "to the end", true),
        ] {
            let response = connection.request("GET", "/x").unwrap();
            assert_eq!((response.status, response.body), (status, body.into()));
            assert_eq!(connection.has_ended(), ended);
        }
    }

    #[test]
    fn answers_that_make_no_sense_are_errors() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(300));
        for answer in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab\r\n",
            &long,
            &many,
        ] {
            let (mut connection, _sent) = connection(answer);
            assert!(connection.request("GET", "/x").is_err(), "{answer:.80}");
        }
    }

    #[test]
    fn a_body_goes_in_chunks_and_ends_only_if_it_is_whole() {
        let text = vec![b'x'; CHUNK + 2];
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let (mut connection, sent) = connection(answer);
        let response = connection.send("/load", "application/x-tar", &mut |output| {
            output.write_all(&text).map_err(|_| BodyError)
        });
        assert_eq!(response.unwrap().unwrap().status, 200);
        drop(connection);
        let all: Vec<u8> = sent.iter().flatten().collect();
        let all = String::from_utf8(all).unwrap();
        let (head, body) = all.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /load HTTP/1.1\r\n"));
        assert!(body.starts_with("20000\r\nxxx") && body.ends_with("\r\n2\r\nxx\r\n0\r\n\r\n"));

        let (mut connection, sent) = self::connection(answer);
        let response = connection.send("/load", "application/x-tar", &mut |output| {
            output.write_all(b"half").map_err(|_| BodyError)?;
            Err(BodyError)
        });
        assert_eq!(response.unwrap(), None);
        assert!(connection.has_ended());
        let all: Vec<u8> = sent.iter().flatten().collect();
        assert!(!all.ends_with(b"0\r\n\r\n"));
    }
}
