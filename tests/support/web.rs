//! A small web server on the loopback interface.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
    /// Repositories below `/git/`, which git itself answers for.
    repositories: Option<PathBuf>,
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

    /// Serves the repositories in a directory as `/git/NAME`, by git's own protocol.
    pub(crate) fn repositories(&self, directory: PathBuf) {
        self.state.lock().unwrap().repositories = Some(directory);
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
        let method = line.split(' ').next().unwrap_or_default().to_owned();
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
        let mut body = Vec::new();
        reader
            .by_ref()
            .take(length.unwrap_or(0))
            .read_to_end(&mut body)?;
        let mut page = answer(&path, &headers, &mut state.lock().unwrap());
        let repositories = state.lock().unwrap().repositories.clone();
        if let Some(root) = repositories
            && page.status == 404
            && path.starts_with("/git/")
        {
            page = git(&root, &method, &path, &headers, &body)?;
        }
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

/// What `git http-backend` answers.
fn git(
    root: &Path,
    method: &str,
    path: &str,
    headers: &HashMap<String, String>,
    body: &[u8],
) -> std::io::Result<Page> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("PATH_INFO", path.strip_prefix("/git").unwrap_or(path))
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writer = std::thread::spawn(move || drop(input.write_all(&body)));
    let output = child.wait_with_output()?.stdout;
    writer.join().unwrap();
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut page = Page {
        status: 200,
        headers: Vec::new(),
        body: output[end + 4..].to_vec(),
    };
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => {
                page.status = status
                    .get(..3)
                    .and_then(|code| code.parse().ok())
                    .unwrap_or(500);
            }
            Some(("Content-Type", kind)) => page.headers.push(("Content-Type", kind.to_owned())),
            _ => {}
        }
    }
    Ok(page)
}
