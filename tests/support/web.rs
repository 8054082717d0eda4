//! A small web server on the loopback interface.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// One answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<String, Page>,
    directory: Option<PathBuf>,
    /// Every request must carry this `Authorization`.
    authorization: Option<String>,
    log: Vec<String>,
}

/// A running server. Its thread ends with the test program.
#[derive(Debug)]
pub(crate) struct Web {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Web {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { port, state }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    /// Serves `body` at `path` with these headers.
    pub(crate) fn page(
        &self,
        path: &str,
        body: impl Into<Vec<u8>>,
        headers: &[(&'static str, &str)],
    ) {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let page = Page {
            status: 200,
            headers: headers.collect(),
            body: body.into(),
        };
        self.state.lock().unwrap().pages.insert(path.into(), page);
    }

    /// Sends whoever asks for `path` to `to`.
    pub(crate) fn redirect(&self, path: &str, to: &str) {
        let page = Page {
            status: 302,
            headers: vec![("Location", to.to_owned())],
            body: Vec::new(),
        };
        self.state.lock().unwrap().pages.insert(path.into(), page);
    }

    /// Serves the files of a directory, too.
    pub(crate) fn directory(&self, directory: PathBuf) {
        self.state.lock().unwrap().directory = Some(directory);
    }

    pub(crate) fn require(&self, authorization: &str) {
        self.state.lock().unwrap().authorization = Some(authorization.to_owned());
    }

    /// What was asked since the last call: path and status of each request.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => {
                    headers.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                None => break,
            }
        }
        let length = headers.get("content-length").and_then(|n| n.parse().ok());
        std::io::copy(
            &mut reader.by_ref().take(length.unwrap_or(0)),
            &mut std::io::sink(),
        )?;
        let page = answer(&path, &headers, &mut state.lock().unwrap());
        let mut text = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {}\r\n",
            page.status,
            page.body.len()
        );
        for (name, value) in &page.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        stream.write_all(&page.body)?;
    }
}

fn answer(path: &str, headers: &HashMap<String, String>, state: &mut State) -> Page {
    let plain = path.split('?').next().unwrap_or_default();
    let mut page = if let Some(page) = state.pages.get(path) {
        page.clone()
    } else {
        let file = state
            .directory
            .as_ref()
            .map(|directory| directory.join(plain.trim_start_matches('/')))
            .and_then(|path| std::fs::read(path).ok());
        Page {
            status: if file.is_some() { 200 } else { 404 },
            headers: Vec::new(),
            body: file.unwrap_or_default(),
        }
    };
    let refused = match &state.authorization {
        Some(wanted) => headers.get("authorization") != Some(wanted),
        None => false,
    };
    if refused {
        page = Page {
            status: 401,
            headers: vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())],
            body: Vec::new(),
        };
    }
    let same = page.headers.iter().any(|(name, value)| {
        (*name == "ETag" && headers.get("if-none-match") == Some(value))
            || (*name == "Last-Modified" && headers.get("if-modified-since") == Some(value))
    });
    if page.status == 200 && same {
        page.status = 304;
        page.body.clear();
    }
    state.log.push(format!("{path} {}", page.status));
    page
}
