//! A web proxy as companies have it: the only way out, by CONNECT or by whole URLs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running proxy. Whatever it is asked for lies at one port of this machine. Its threads end with the
/// test program.
pub(crate) struct Tunnel {
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// A way to `upstream`; who uses it has to say `authorization`, if that is something.
    pub(crate) fn start(upstream: u16, authorization: Option<&'static str>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, upstream, authorization, &log)));
            }
        });
        Self { port, log }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// First lines of what was asked since the last call.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn serve(
    stream: TcpStream,
    upstream: u16,
    authorization: Option<&str>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut first = String::new();
    reader.read_line(&mut first)?;
    log.lock().unwrap().push(first.trim_end().to_owned());
    let mut head = String::new();
    let mut told = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("proxy-authorization") => {
                told = Some(value.to_owned());
            }
            _ => head.push_str(&line),
        }
    }
    if authorization.is_some() && told.as_deref() != authorization {
        return stream.write_all(
            b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n\r\n",
        );
    }
    let mut other = TcpStream::connect(("127.0.0.1", upstream))?;
    if first.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        // One request, in the form that servers want.
        let mut words = first.split(' ');
        let (method, url) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = url.splitn(4, '/').nth(3).unwrap_or("");
        other.write_all(format!("{method} /{path} HTTP/1.0\r\n{head}\r\n").as_bytes())?;
    }
    let mut back = other.try_clone()?;
    let mut answers = stream.try_clone()?;
    let thread = std::thread::spawn(move || {
        drop(std::io::copy(&mut back, &mut answers));
        drop(answers.shutdown(Shutdown::Both));
    });
    other.write_all(&Vec::from(reader.buffer()))?;
    drop(reader);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        other.write_all(&buffer[..count])?;
    }
    other.shutdown(Shutdown::Write)?;
    thread.join().ok();
    Ok(())
}
