//! A host with a network of its own, and a world outside of it: what isolated networks are tried in.
//!
//! ```text
//! the world            a wire            the host
//! 192.0.2.1:8000 ───────────────── 192.0.2.2, 127.0.0.1:9000, 127.0.0.53:53
//! ```

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{Sandbox, run};

/// Where the world answers.
pub(crate) const WORLD: &str = "192.0.2.1 8000";

/// The name that the host's name server knows, and its address.
pub(crate) const NAME: (&str, &str) = ("known.example", "198.51.100.7");

/// Two networks, joined by a wire. They are gone when this is dropped.
#[derive(Debug)]
pub(crate) struct World {
    host: File,
    resolv_conf: PathBuf,
    hidden: Vec<&'static str>,
    devices: PathBuf,
}

impl World {
    /// Makes it. Only root can.
    pub(crate) fn new(sandbox: &Sandbox) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can make networks".to_owned());
        }
        if !Path::new("/dev/net/tun").exists() {
            return Err("there is no /dev/net/tun".to_owned());
        }
        let (host, outside) = (namespace(), namespace());
        // The child's /proc names this process's descriptors.
        let path = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
        within(&host, || {
            ip("link set lo up");
            ip("link add wire type veth peer name wire-end");
            run(Command::new("ip").args(["link", "set", "wire-end", "netns", &path]));
            ip("address add 192.0.2.2/24 dev wire");
            ip("link set wire up");
            serve("127.0.0.1:9000", "the host");
            answer_names("127.0.0.53:53");
        });
        within(&outside, || {
            ip("address add 192.0.2.1/24 dev wire-end");
            ip("link set wire-end up");
            serve("192.0.2.1:8000", "the world");
        });
        within(&host, || ip("route add default via 192.0.2.1"));
        let devices = sandbox.path("devices");
        fs::create_dir(&devices).unwrap();
        let world = Self {
            host,
            resolv_conf: sandbox.path("resolv.conf"),
            hidden: Vec::new(),
            devices,
        };
        world.resolve_by("nameserver 192.0.2.1\n");
        Ok(world)
    }

    /// Sets what the host's /etc/resolv.conf says.
    pub(crate) fn resolve_by(&self, text: &str) {
        fs::write(&self.resolv_conf, text).unwrap();
    }

    /// The same host without this program.
    pub(crate) fn without(mut self, program: &'static str) -> Self {
        self.hidden.push(program);
        self
    }

    /// The path of the host's network namespace.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.host.as_raw_fd())
    }

    /// Does something on that host: what is started there stays there.
    pub(crate) fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.host, || {
            // This thread's own: programs that it starts see what is mounted from here on.
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            let bind = |from: &Path, to: &Path| {
                mount(Some(from), to, none, MsFlags::MS_BIND, none).unwrap();
            };
            bind(&self.resolv_conf, Path::new("/etc/resolv.conf"));
            for program in &self.hidden {
                for directory in ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"] {
                    let path = Path::new(directory).join(program);
                    if path.exists() {
                        bind(Path::new("/dev/null"), &path);
                    }
                }
            }
            // As udev leaves it, where this machine has it for root alone.
            let kind: Option<&str> = Some("tmpfs");
            mount(kind, &self.devices, kind, MsFlags::empty(), none).unwrap();
            let tun = self.devices.join("tun");
            mknod(&tun, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).unwrap();
            let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            fs::set_permissions(&tun, all).unwrap();
            bind(&tun, Path::new("/dev/net/tun"));
            work()
        })
    }
}

/// A new network namespace.
fn namespace() -> File {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        made.join().unwrap()
    })
}

/// Does something in a namespace, on a thread of its own.
fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        match done.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' ')));
}

/// Tells everybody who comes `text`. The thread ends with the test program.
fn serve(address: &str, text: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            writeln!(stream, "{text}").ok();
        }
    });
}

/// Answers questions for the address of [`NAME`] and no others.
fn answer_names(address: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let question = &packet[12..length];
            let name = "\x05known\x07example\0\0\x01\0\x01";
            let known = question.starts_with(name.as_bytes());
            let mut answer = packet[..2].to_vec();
            let count = u8::from(known);
            answer.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
            answer.extend(&question[..name.len()]);
            if known {
                // The name is the question's; an address, of the internet, for a minute.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(NAME.1.parse::<std::net::Ipv4Addr>().unwrap().octets());
            }
            socket.send_to(&answer, from).ok();
        }
    });
}
