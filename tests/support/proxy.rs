//! A bad network: a proxy in front of a real registry that does harm as a test says.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it came, and what became of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// What was answered; 0 if nothing was.
    pub(crate) status: u16,
    /// Bytes of the answer's body that were sent.
    pub(crate) sent: usize,
    /// Bytes of the request's body.
    pub(crate) received: usize,
    /// The body itself, of requests to a token server.
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }
}

/// A place in an answer's body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    Byte(usize),
    Middle,
    /// Counted from the end: 1 is the last byte.
    Last(usize),
}

impl At {
    fn of(self, length: usize) -> usize {
        match self {
            Self::Byte(at) => at.min(length),
            Self::Middle => length / 2,
            Self::Last(back) => length.saturating_sub(back),
        }
    }
}

/// What is done to a request or its answer.
#[derive(Clone)]
pub(crate) enum Harm {
    /// The request is answered by this, and the registry never sees it.
    Answer(Reply),
    /// The connection ends without an answer; the registry never sees the request.
    HangUp,
    /// It ends after so many bytes of the request's body.
    CutRequest(usize),
    /// The registry does what it was asked, but the answer is lost.
    LoseAnswer,
    /// The answer ends within its head, after so many bytes.
    CutHead(usize),
    /// The answer ends within its body.
    Cut(At),
    /// A byte of the body is another one.
    Flip(At),
    /// `Content-Length` is off by so many. The connection stays open.
    Length(i64),
    /// `Range` is not passed on.
    IgnoreRange,
    /// `Content-Range` tells of another place.
    WrongRange,
    /// The body comes in small pieces, with pauses.
    Drip,
    /// The body is compressed on its way, and the headers say so.
    Gzip,
    /// The answer is changed by a function.
    Change(Arc<dyn Fn(&mut Reply) + Send + Sync>),
}

type Rule = Box<dyn FnMut(&Asked) -> Option<Harm> + Send>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    log: Vec<Asked>,
    /// Requests in the registry's hands right now, and the most that ever were.
    open: usize,
    most_open: usize,
}

struct Shared {
    upstream: u16,
    state: Mutex<State>,
}

/// A running proxy. Its threads end with the test program.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// One before the registry at `upstream`.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream,
            state: Mutex::default(),
        });
        let threads = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&threads);
                std::thread::spawn(move || drop(serve(&stream, &shared)));
            }
        });
        Self { port, shared }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:PORT/name`.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// Asks `rule` about every request, after the rules that are there.
    pub(crate) fn rule(&self, rule: impl FnMut(&Asked) -> Option<Harm> + Send + 'static) {
        let mut state = self.shared.state.lock().unwrap();
        state.rules.push(Box::new(rule));
    }

    /// Does `harm` to the first `times` requests of this kind.
    pub(crate) fn harm(&self, times: usize, method: &str, part: &str, harm: Harm) {
        let (method, part) = (method.to_owned(), part.to_owned());
        let mut left = times;
        self.rule(move |asked| {
            if left == 0 || !asked.is(&method, &part) {
                return None;
            }
            left -= 1;
            Some(harm.clone())
        });
    }

    /// Does no harm any more.
    pub(crate) fn mend(&self) {
        self.shared.state.lock().unwrap().rules.clear();
    }

    /// What was asked since the last call.
    pub(crate) fn log(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.state.lock().unwrap().log)
    }

    /// The most blobs that were sent or taken at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.state.lock().unwrap().most_open
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_mins(2)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut asked = Asked::default();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.trim_end().split_once(": ") {
                asked
                    .headers
                    .insert(name.to_ascii_lowercase(), value.to_owned());
            } else {
                let mut words = line.split(' ').map(str::to_owned);
                asked.method = words.next().unwrap_or_default();
                asked.path = words.next().unwrap_or_default();
            }
        }
        if asked.path.starts_with("/token") {
            let length = asked.headers.remove("content-length");
            let length = length.and_then(|text| text.parse().ok()).unwrap_or(0);
            reader.by_ref().take(length).read_to_end(&mut asked.body)?;
        }
        let is_blob = asked.path.contains("/blobs/") && asked.method != "HEAD";
        let harm = {
            let mut state = shared.state.lock().unwrap();
            state.open += usize::from(is_blob);
            state.most_open = state.most_open.max(state.open);
            let mut rules = state.rules.iter_mut();
            rules.find_map(|rule| rule(&asked))
        };
        let result = answer(stream, &mut reader, shared, &mut asked, harm.as_ref());
        let mut state = shared.state.lock().unwrap();
        state.open -= usize::from(is_blob);
        state.log.push(asked);
        drop(state);
        if !result? {
            stream.shutdown(Shutdown::Both)?;
            return Ok(());
        }
    }
}

/// Deals with one request. False if the connection is to end.
fn answer(
    mut stream: &TcpStream,
    reader: &mut BufReader<TcpStream>,
    shared: &Shared,
    asked: &mut Asked,
    harm: Option<&Harm>,
) -> std::io::Result<bool> {
    let length = asked.headers.get("content-length");
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    if matches!(harm, Some(Harm::HangUp)) {
        return Ok(false);
    }
    if let Some(Harm::CutRequest(at)) = harm {
        let part = length.min(*at as u64);
        reader.by_ref().take(part).read_to_end(&mut Vec::new())?;
        return Ok(false);
    }
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    asked.received = body.len();
    let mut reply = match harm {
        Some(Harm::Answer(reply)) => reply.clone(),
        _ => forward(shared.upstream, asked, &body, harm)?,
    };
    asked.status = reply.status;
    if asked.method == "HEAD" {
        reply.body.clear();
    } else {
        reply.set("Content-Length", reply.body.len().to_string());
    }
    match harm {
        Some(Harm::LoseAnswer) => return Ok(false),
        Some(Harm::Flip(at)) if !reply.body.is_empty() => {
            let at = at.of(reply.body.len()).min(reply.body.len() - 1);
            reply.body[at] ^= 0x20;
        }
        Some(Harm::Length(off)) => {
            let length: i64 = reply.get("Content-Length").unwrap().parse().unwrap();
            reply.set("Content-Length", (length + off).max(0).to_string());
        }
        Some(Harm::WrongRange) if reply.status == 206 => {
            reply.set("Content-Range", "bytes 1-2/3");
        }
        Some(Harm::Gzip) => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&reply.body)?;
            reply.body = encoder.finish()?;
            reply.set("Content-Length", reply.body.len().to_string());
            reply.set("Content-Encoding", "gzip");
        }
        Some(Harm::Change(change)) => {
            change(&mut reply);
            reply.set("Content-Length", reply.body.len().to_string());
        }
        _ => {}
    }
    let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    if let Some(Harm::CutHead(at)) = harm {
        stream.write_all(&text.as_bytes()[..(*at).min(text.len() - 2)])?;
        return Ok(false);
    }
    let end = match harm {
        Some(Harm::Cut(at)) => at.of(reply.body.len()),
        _ => reply.body.len(),
    };
    stream.write_all(text.as_bytes())?;
    let pieces = match harm {
        Some(Harm::Drip) => end / 20 + 1,
        _ => usize::MAX,
    };
    for piece in reply.body[..end].chunks(pieces) {
        stream.write_all(piece)?;
        if matches!(harm, Some(Harm::Drip)) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    asked.sent = end;
    Ok(!matches!(harm, Some(Harm::Cut(_))))
}

/// Asks the registry itself. HTTP/1.0, so that its answer ends with the connection.
fn forward(
    upstream: u16,
    asked: &Asked,
    body: &[u8],
    harm: Option<&Harm>,
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", upstream))?;
    let mut head = format!("{} {} HTTP/1.0\r\n", asked.method, asked.path);
    for (name, value) in &asked.headers {
        let dropped =
            name == "connection" || (name == "range" && matches!(harm, Some(Harm::IgnoreRange)));
        if !dropped {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let mut reply = Reply::new(status.unwrap_or(502)).body(&bytes[end + 4..]);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if !name.eq_ignore_ascii_case("connection") {
            reply.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(reply)
}
