//! Where docker's daemon is, and a connection to it.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::http::Connection;
use super::{Engine, HandOverError};

/// The daemon of the machine.
const SYSTEM: &str = "/var/run/docker.sock";
/// What docker listens at without TLS.
const PORT: &str = ":2375";
/// How long a daemon on the network may take to answer the telephone.
const CONNECT: Duration = Duration::from_secs(10);

/// A place where the daemon may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Sockets of this machine, the first that somebody listens on.
    Sockets(Vec<PathBuf>),
    /// Host and port.
    Tcp(String),
    /// Wherever docker's own command line finds it, which speaks TLS and ssh and knows contexts. The
    /// text says what made it so.
    CommandLine(String),
}

impl Endpoint {
    /// Where it is by these environment variables, and by what docker's configuration in `directory`
    /// says.
    pub(super) fn of(
        variable: &dyn Fn(&str) -> Option<String>,
        current_context: &dyn Fn() -> Option<String>,
    ) -> Result<Self, HandOverError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(host) = set("DOCKER_HOST") {
            let refused = |reason| HandOverError::Address {
                engine: Engine::Docker,
                address: host.clone(),
                reason,
            };
            return match host.split_once("://") {
                Some(("unix", path)) if path.starts_with('/') => {
                    Ok(Self::Sockets(vec![PathBuf::from(path)]))
                }
                Some(("unix", _)) => Err(refused("is no absolute path of a socket")),
                Some(("tcp" | "http" | "https", _))
                    if set("DOCKER_TLS_VERIFY").is_some() || set("DOCKER_TLS").is_some() =>
                {
                    Ok(Self::CommandLine(host))
                }
                Some(("tcp" | "http", address)) => {
                    let address = address.trim_end_matches('/');
                    let port = if has_port(address) { "" } else { PORT };
                    Ok(Self::Tcp(format!("{address}{port}")))
                }
                Some(("ssh", _)) => Ok(Self::CommandLine(host)),
                _ => Err(refused("is neither `unix://`, `tcp://` nor `ssh://`")),
            };
        }
        let context = set("DOCKER_CONTEXT").or_else(current_context);
        if let Some(context) = context.filter(|context| context != "default") {
            return Ok(Self::CommandLine(format!("context {context}")));
        }
        let mut sockets = vec![PathBuf::from(SYSTEM)];
        sockets.extend(set("XDG_RUNTIME_DIR").map(|it| Path::new(&it).join("docker.sock")));
        Ok(Self::Sockets(sockets))
    }

    /// Where this process's environment says.
    pub(super) fn of_environment() -> Result<Self, HandOverError> {
        Self::of(&|name| std::env::var(name).ok(), &current_context)
    }

    /// Connects.
    pub(super) fn connect(&self) -> Result<Connection, HandOverError> {
        let unreachable = |address: String, source| HandOverError::Unreachable {
            engine: Engine::Docker,
            address,
            source,
        };
        match self {
            Self::Sockets(paths) => {
                let mut failure = None;
                for path in paths {
                    let connected = UnixStream::connect(path)
                        .and_then(|stream| Ok((stream.try_clone()?, stream)));
                    match connected {
                        Ok((input, output)) => return Ok(connection(input, output)),
                        // One that is there and closed to us says more than one that is not there.
                        Err(source) => match &failure {
                            Some((_, first))
                                if io::Error::kind(first) != io::ErrorKind::NotFound => {}
                            Some(_) if source.kind() == io::ErrorKind::NotFound => {}
                            _ => failure = Some((path, source)),
                        },
                    }
                }
                let (path, source) = failure.map_or(
                    (PathBuf::new(), io::ErrorKind::NotFound.into()),
                    |(path, it)| (path.clone(), it),
                );
                Err(unreachable(path.display().to_string(), source))
            }
            Self::Tcp(address) => {
                let connect = || -> io::Result<(TcpStream, TcpStream)> {
                    let mut failure = io::Error::from(io::ErrorKind::NotFound);
                    for address in address.to_socket_addrs()? {
                        match TcpStream::connect_timeout(&address, CONNECT) {
                            Ok(stream) => return Ok((stream.try_clone()?, stream)),
                            Err(error) => failure = error,
                        }
                    }
                    Err(failure)
                };
                let (input, output) =
                    connect().map_err(|source| unreachable(format!("tcp://{address}"), source))?;
                Ok(connection(input, output))
            }
            Self::CommandLine(what) => {
                let program = "docker";
                let failed = |source| HandOverError::Program {
                    engine: Engine::Docker,
                    program: program.to_owned(),
                    source,
                };
                let mut child = Command::new(program)
                    .args(["system", "dial-stdio"])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    // What it has to say of its way there is for people.
                    .stderr(Stdio::inherit())
                    .spawn()
                    .map_err(failed)?;
                match (child.stdout.take(), child.stdin.take()) {
                    (Some(input), Some(output)) => Ok(Connection::new(
                        BufReader::new(Box::new(input)),
                        Some(Box::new(output)),
                        Some(Dialler(child)),
                    )),
                    _ => Err(unreachable(what.clone(), io::ErrorKind::BrokenPipe.into())),
                }
            }
        }
    }

    /// As messages name it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Sockets(paths) => paths
                .first()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            Self::Tcp(address) => format!("tcp://{address}"),
            Self::CommandLine(what) => what.clone(),
        }
    }
}

/// The process that passes a connection on. It ends with the connection.
#[derive(Debug)]
pub(super) struct Dialler(Child);

impl Drop for Dialler {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn connection(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> Connection {
    Connection::new(
        BufReader::new(Box::new(input)),
        Some(Box::new(output)),
        None,
    )
}

/// True for `host:port` and `[::1]:port`.
fn has_port(address: &str) -> bool {
    let tail = address.rsplit(']').next().unwrap_or(address);
    tail.contains(':')
}

/// The context that docker's configuration says is in use.
fn current_context() -> Option<String> {
    let directory = match std::env::var_os("DOCKER_CONFIG").filter(|it| !it.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(&std::env::var_os("HOME")?).join(".docker"),
    };
    let mut text = Vec::new();
    let file = std::fs::File::open(directory.join("config.json")).ok()?;
    file.take(4 << 20).read_to_end(&mut text).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let context = config.get("currentContext")?.as_str()?;
    (!context.is_empty()).then(|| context.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(variables: &[(&str, &str)], context: Option<&str>) -> Result<Endpoint, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Endpoint::of(&variable, &|| context.map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_daemon_is_where_docker_would_look() {
        let sockets = |paths: &[&str]| Endpoint::Sockets(paths.iter().map(PathBuf::from).collect());
        let line = |what: &str| Endpoint::CommandLine(what.to_owned());
        for (variables, context, expected) in [
            (&[][..], None, sockets(&[SYSTEM])),
            (&[("DOCKER_HOST", "")], Some("default"), sockets(&[SYSTEM])),
            (
                &[("XDG_RUNTIME_DIR", "/run/user/7")],
                None,
                sockets(&[SYSTEM, "/run/user/7/docker.sock"]),
            ),
            (
                &[("DOCKER_HOST", "unix:///a/b")],
                Some("c"),
                sockets(&["/a/b"]),
            ),
            (
                &[("DOCKER_HOST", "tcp://h")],
                None,
                Endpoint::Tcp("h:2375".into()),
            ),
            (
                &[("DOCKER_HOST", "tcp://[::1]:9")],
                None,
                Endpoint::Tcp("[::1]:9".into()),
            ),
            (&[("DOCKER_HOST", "ssh://me@h")], None, line("ssh://me@h")),
            (
                &[("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS_VERIFY", "1")],
                None,
                line("tcp://h:1"),
            ),
            (&[], Some("c"), line("context c")),
            (&[("DOCKER_CONTEXT", "d")], Some("c"), line("context d")),
            (
                &[("DOCKER_CONTEXT", "default")],
                Some("c"),
                sockets(&[SYSTEM]),
            ),
        ] {
            assert_eq!(endpoint(variables, context).as_ref(), Ok(&expected));
        }
        for host in ["unix://x", "fd://", "h:1"] {
            let error = endpoint(&[("DOCKER_HOST", host)], None).unwrap_err();
            assert!(error.contains(&format!("`{host}`")), "{error}");
        }
    }
}
