//! A real registry: Debian's docker-registry on a free port of the loopback interface.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::run;

/// A running registry. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    port: u16,
    directory: TempDir,
    settings: Option<TempDir>,
}

/// The password of registries that ask for one.
pub(crate) const PASSWORD: &str = "open sesame";
/// Its bcrypt hash, which is the only kind that the registry takes.
const PASSWORD_HASH: &str = "$2b$04$GjP8aunJjeS7ndUTlhzmp.AXdk66YprdIrK/jDmWcBY1XOdb9nici";

impl Registry {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with("", "")
    }

    /// As [`start`](Self::start); it asks for this user name, with [`PASSWORD`].
    pub(crate) fn start_with_login(username: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("htpasswd");
        fs::write(&file, format!("{username}:{PASSWORD_HASH}\n")).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}", file.display());
        let mut registry = Self::start_with(&auth, "");
        registry.settings = Some(directory);
        registry
    }

    /// As [`start`](Self::start); it speaks TLS with `DIRECTORY/server.pem` and `server.key` to those
    /// whom `DIRECTORY/ca.pem` has signed.
    pub(crate) fn start_with_tls(directory: &Path) -> Self {
        let file = |name: &str| directory.join(name).display().to_string();
        let tls = format!(
            ", tls: {{certificate: {}, key: {}, clientcas: [{}]}}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        );
        Self::start_with("", &tls)
    }

    fn start_with(settings: &str, http: &str) -> Self {
        // Between finding a free port and the registry's use of it another process may take it:
        // then try another.
        (0..5)
            .find_map(|_| Self::try_start(settings, http))
            .expect("docker-registry starts in five tries")
    }

    fn try_start(settings: &str, http: &str) -> Option<Self> {
        let directory = tempfile::Builder::new()
            .prefix("strata-registry.")
            .tempdir()
            .unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let data = directory.path().join("data");
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage:\n  \
             filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \
             '127.0.0.1:{port}'{http}}}\n{settings}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_remove("OTEL_TRACES_EXPORTER")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed: run `make deps`");
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self {
                    child,
                    port,
                    directory,
                    settings: None,
                });
            }
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                child.wait().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `127.0.0.1:PORT/name`.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `docker://127.0.0.1:PORT/name`, as skopeo wants it.
    pub(crate) fn skopeo(&self, name: &str) -> String {
        format!("docker://{}", self.reference(name))
    }

    /// The file that holds a blob.
    pub(crate) fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.directory
            .path()
            .join("data/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An authority (`ca.pem`), and two certificates that it signed: `server` for 127.0.0.1
/// and `registry.invalid`, `client`.
pub(crate) fn certificates(directory: &Path) {
    let openssl = |args: &[&str]| {
        run(Command::new("openssl").args(args).current_dir(directory));
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let ca = ["req", "-x509", "-subj", "/CN=ca", "-days", "2"];
    openssl(&[&ca[..], &key, &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
    for name in ["server", "client"] {
        let (key_file, request) = (format!("{name}.key"), format!("{name}.csr"));
        let subject = format!("/CN={name}");
        let certificate = format!("{name}.pem");
        let extensions = directory.join(format!("{name}.ext"));
        let usage = "subjectAltName=IP:127.0.0.1,DNS:registry.invalid\nbasicConstraints=CA:FALSE\n";
        fs::write(&extensions, usage).unwrap();
        let names = ["-keyout", &key_file, "-out", &request, "-subj", &subject];
        openssl(&[&["req"][..], &key, &names].concat());
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            extensions.to_str().unwrap(),
            "-out",
            &certificate,
        ]);
    }
}
