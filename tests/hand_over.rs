//! Images that are handed over to docker, podman and containerd: what arrives, and how little moves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::support::{
    Containerd, Dockerd, Image, Meter, Proxy, Random, Registry, Sandbox, Strata, cases, run, skip,
    wait_until,
};

cases! { Root =>
    docker_gets_only_the_layers_that_it_lacks,
    a_docker_daemon_that_dies_leaves_nothing,
    containerd_gets_only_the_layers_that_it_lacks,
    an_engine_that_refuses_gets_everything,
}
cases! { Root, User =>
    podman_gets_only_the_layers_that_it_lacks,
    an_engine_that_is_not_there_is_named,
}

/// Bytes of the layer that stays the same.
const LARGE: u64 = 3 << 20;
/// More than a small layer takes with all that is around it.
const SMALL: u64 = 32 << 10;

/// A context with a large layer below a small one.
fn context(sandbox: &Sandbox) {
    let mut random = Random::new(7);
    let large: Vec<u8> = (0..LARGE)
        .map(|_| random.below(256).to_le_bytes()[0])
        .collect();
    sandbox.write("large", large);
    sandbox.write("small", "one");
    sandbox.dockerfile("FROM scratch\nCOPY large /\nCOPY small /\nCMD [\"/small\"]\n");
}

/// Builds the context with these, and answers the image's ID.
fn build(sandbox: &Sandbox, strata: Strata, args: &[&str]) -> String {
    let built = strata
        .args(["build", "--quiet"])
        .args(args)
        .arg(sandbox.context())
        .output()
        .success();
    built.stdout.trim_end().to_owned()
}

fn inspected(command: &mut Command, name: &str) -> String {
    let id = run(command.args(["image", "inspect", "--format", "{{.Id}}", name]));
    let id = id.trim_end();
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    format!("sha256:{hex}")
}

/// What an engine has for `/small` under a name, which it is to save.
fn small_of(sandbox: &Sandbox, save: &mut Command) -> String {
    let archive = sandbox.fresh_output("tar");
    let output = save.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(&archive, output.stdout).unwrap();
    Image::read(&archive).tree().text("small")
}

fn docker_gets_only_the_layers_that_it_lacks(sandbox: &Sandbox) {
    let docker = match Dockerd::start(sandbox) {
        Ok(docker) => docker,
        Err(reason) => return skip(&reason),
    };
    let meter = Meter::start(&sandbox.path("meter"), &docker.socket());
    let strata = || sandbox.strata().env("DOCKER_HOST", meter.host());
    context(sandbox);
    build(sandbox, strata(), &["-t", "me/app:1", "--load=docker"]);
    assert!(meter.take() > LARGE);
    // No other name and no image of the store came of it.
    let names = ["images", "--all", "--format", "{{.Repository}}:{{.Tag}}"];
    assert_eq!(run(docker.command().args(names)), "me/app:1\n");
    assert_eq!(sandbox.run(&["images", "--quiet"]).stdout, "");

    sandbox.write("small", "two");
    let args = ["-t", "me/app:1", "-t", "app", "--load", "--load=docker"];
    let id = build(sandbox, strata(), &args);
    let moved = meter.take();
    assert!(moved < SMALL, "{moved} bytes moved");
    for name in ["me/app:1", "app:latest"] {
        assert_eq!(inspected(&mut docker.command(), name), id);
        let save = ["save", name];
        assert_eq!(
            small_of(sandbox, docker.command().args(save)),
            "two",
            "{name}"
        );
    }

    // What it has whole only gets a name.
    let pushed = strata().args(["push", "app", "docker-daemon:r.example:5000/b:c"]);
    let said = pushed.output().success().stdout;
    assert!(said.contains("sent 0 of 2 layers"), "{said}");
    assert!(meter.take() < 4096);
    assert_eq!(inspected(&mut docker.command(), "r.example:5000/b:c"), id);

    // A context of docker's is reached through its own command line.
    let endpoint = format!("host={}", meter.host());
    run(Command::new("docker")
        .env("HOME", sandbox.path("home"))
        .args(["context", "create", "mine", "--docker", &endpoint]));
    let by_context = sandbox.strata().env("DOCKER_CONTEXT", "mine");
    let by_context = by_context.args(["push", "app", "docker-daemon:by/context"]);
    by_context.output().success();
    assert_eq!(inspected(&mut docker.command(), "by/context"), id);

    // Layers that came compressed with zstd, which Debian's docker can't read.
    let archive = sandbox.fresh_output("tar");
    let archive = archive.to_str().unwrap();
    sandbox.write("large", vec![b'y'; 1 << 20]);
    let to = format!("type=oci,dest={archive},compression=zstd");
    build(sandbox, sandbox.strata(), &["-t", "z", "-o", &to]);
    sandbox.run(&["load", "--input", archive]);
    let push = strata().args(["push", "z", "docker-daemon:"]);
    push.output().success();
    assert_eq!(
        small_of(sandbox, docker.command().args(["save", "z"])),
        "two"
    );

    // It takes one platform, and is told so which.
    let both = [
        "--platform",
        "linux/arm64,linux/amd64",
        "-t",
        "both",
        "--load=docker",
    ];
    let said = strata()
        .args(["build", "--progress", "plain"])
        .args(both)
        .arg(sandbox.context())
        .output()
        .success();
    assert!(
        said.stderr.contains("it gets that for linux/amd64"),
        "{}",
        said.stderr
    );
    let architecture = ["image", "inspect", "--format", "{{.Architecture}}", "both"];
    assert_eq!(run(docker.command().args(architecture)), "amd64\n");
}

fn a_docker_daemon_that_dies_leaves_nothing(sandbox: &Sandbox) {
    let docker = match Dockerd::start(sandbox) {
        Ok(docker) => docker,
        Err(reason) => return skip(&reason),
    };
    context(sandbox);
    let meter = Meter::start_with(&sandbox.path("meter"), &docker.socket(), LARGE / 2);
    let strata = || {
        let strata = sandbox.strata().env("DOCKER_HOST", meter.host());
        let strata = strata.args(["build", "-t", "app", "--load=docker"]);
        strata.arg(sandbox.context())
    };
    let running = strata().spawn();
    meter.wait_until_held();
    docker.kill();
    let failed = running.wait().failure(1);
    assert!(
        failed
            .stderr
            .contains("docker broke off while it was to load the image"),
        "{}",
        failed.stderr
    );
    let docker = Dockerd::start(sandbox).unwrap();
    assert_eq!(
        run(docker.command().args(["images", "--all", "--quiet"])),
        ""
    );
    let again = sandbox.strata();
    let host = format!("unix://{}", docker.socket().display());
    let id = build(
        sandbox,
        again.env("DOCKER_HOST", host),
        &["-t", "app", "--load=docker"],
    );
    assert_eq!(inspected(&mut docker.command(), "app"), id);
}

/// A directory with a program that counts what it is given, and passes it on to the real one.
struct Counted {
    directory: PathBuf,
}

impl Counted {
    fn new(sandbox: &Sandbox, program: &str) -> Self {
        let directory = sandbox.path("bin");
        fs::create_dir(&directory).unwrap();
        sandbox.hand_over(&directory);
        let path = directory.join(program);
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in\n*' load '*|*' import '*)\n\
             tee -a {0}/bytes | {1} \"$@\" ;;\n*) exec {1} \"$@\" ;;\nesac\n",
            directory.display(),
            real(program).display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn path(&self) -> String {
        format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.directory.display())
    }

    fn take(&self) -> u64 {
        let file = self.directory.join("bytes");
        let bytes = fs::metadata(&file).unwrap().len();
        fs::remove_file(&file).unwrap();
        bytes
    }
}

fn real(program: &str) -> PathBuf {
    let found = run(Command::new("sh").args(["-c", &format!("command -v {program}")]));
    PathBuf::from(found.trim_end())
}

fn installed(program: &str) -> bool {
    ["/usr/bin", "/usr/local/bin", "/bin"]
        .iter()
        .any(|directory| Path::new(directory).join(program).exists())
}

/// Podman's images in the sandbox.
struct Podman<'a> {
    sandbox: &'a Sandbox,
    settings: PathBuf,
}

impl<'a> Podman<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let directory = sandbox.path("podman");
        fs::create_dir(&directory).unwrap();
        sandbox.hand_over(&directory);
        let settings = directory.join("storage.conf");
        // What works wherever files do.
        let text = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            directory.display()
        );
        fs::write(&settings, text).unwrap();
        fs::create_dir(directory.join("xdg")).unwrap();
        sandbox.hand_over(&directory.join("xdg"));
        Self { sandbox, settings }
    }

    fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("CONTAINERS_STORAGE_CONF", self.settings.clone()),
            ("XDG_RUNTIME_DIR", self.settings.with_file_name("xdg")),
        ]
    }

    fn command(&self) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("podman");
        command
            .current_dir("/")
            .env("HOME", self.sandbox.path("home"))
            .env("USER", &self.sandbox.account().name)
            .envs(self.variables());
        let account = self.sandbox.account();
        if !account.is_me() {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // For an ordinary user it leaves a process that holds the namespace.
        let file = self.settings.with_file_name("xdg/libpod/tmp/pause.pid");
        let pid = fs::read_to_string(file).ok();
        if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

fn podman_gets_only_the_layers_that_it_lacks(sandbox: &Sandbox) {
    if !installed("podman") {
        return skip("podman is not installed: run `make deps`");
    }
    let podman = Podman::new(sandbox);
    let counted = Counted::new(sandbox, "podman");
    let strata = || {
        let strata = sandbox.strata().env("PATH", counted.path());
        let variables = podman.variables().into_iter();
        variables.fold(strata, |strata, (name, value)| strata.env(name, value))
    };
    context(sandbox);
    build(sandbox, strata(), &["-t", "me/app:1", "--load=podman"]);
    assert!(counted.take() > LARGE);

    sandbox.write("small", "two");
    let args = ["-t", "me/app:1", "-t", "app", "--load", "--load=podman"];
    let id = build(sandbox, strata(), &args);
    let moved = counted.take();
    assert!(moved < SMALL, "{moved} bytes moved");
    for name in ["docker.io/me/app:1", "docker.io/library/app:latest"] {
        assert_eq!(inspected(&mut podman.command(), name), id);
    }
    let save = ["save", "--format", "docker-archive", "me/app:1"];
    assert_eq!(small_of(sandbox, podman.command().args(save)), "two");

    // What it has whole only gets a name.
    let push = strata().args(["push", "app", "containers-storage:other"]);
    let said = push.output().success().stdout;
    assert!(said.contains("sent 0 of 2 layers"), "{said}");
    assert_eq!(inspected(&mut podman.command(), "other"), id);
    assert!(!counted.directory.join("bytes").exists());

    // Without a name it is there by its ID.
    sandbox.write("small", "three");
    let id = build(sandbox, strata(), &["--load=podman"]);
    assert_eq!(inspected(&mut podman.command(), &id[7..]), id);
}

fn containerd_gets_only_the_layers_that_it_lacks(sandbox: &Sandbox) {
    let containerd = match Containerd::start(sandbox) {
        Ok(containerd) => containerd,
        Err(reason) => return skip(&reason),
    };
    let counted = Counted::new(sandbox, "ctr");
    let strata = || {
        let strata = sandbox.strata().env("PATH", counted.path());
        let strata = strata.env("CONTAINERD_NAMESPACE", "ours");
        strata.env("CONTAINERD_ADDRESS", containerd.address())
    };
    let ctr = |args: &[&str]| run(containerd.command().args(["-n", "ours"]).args(args));
    context(sandbox);
    build(sandbox, strata(), &["-t", "me/app:1", "--load=containerd"]);
    assert!(counted.take() > LARGE);

    sandbox.write("small", "two");
    let args = ["-t", "me/app:1", "-t", "app", "--load=containerd"];
    let id = build(sandbox, strata(), &args);
    let moved = counted.take();
    assert!(moved < SMALL, "{moved} bytes moved");
    let names = ["docker.io/library/app:latest", "docker.io/me/app:1"];
    let listed = ctr(&["images", "ls", "-q"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    // All its content is there, and it is unpacked.
    let ready = ctr(&["images", "check", "-q"]);
    assert_eq!(ready.lines().collect::<Vec<_>>(), names);
    let config = ctr(&["content", "get", &id]);
    assert!(config.contains("/small"), "{config}");
    let archive = sandbox.fresh_output("tar");
    ctr(&["images", "export", archive.to_str().unwrap(), names[0]]);
    let exported = Image::read(&archive);
    assert_eq!(exported.tree().text("small"), "two");
    assert_eq!(exported.manifest["config"]["digest"], id.as_str());

    // What an image in a registry is made of is not fetched for it, where containerd has it.
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port());
    let maker = Sandbox::new(sandbox.who()).unwrap();
    context(&maker);
    let base = registry.reference("base:1");
    build(&maker, maker.strata(), &["-t", &base, "--push"]);
    ctr(&["images", "pull", "--plain-http", &base]);
    let base = proxy.reference("base:1");
    sandbox.dockerfile(&format!("FROM {base}\nCOPY --link small /more\n"));
    build(sandbox, strata(), &["-t", "lazy", "--load=containerd"]);
    let moved = counted.take();
    assert!(moved < SMALL, "{moved} bytes moved");
    let log = proxy.log();
    let fetched = log.iter().filter(|asked| asked.is("GET", "/blobs/"));
    assert!(fetched.map(|asked| asked.sent as u64).sum::<u64>() < SMALL);
    ctr(&[
        "images",
        "export",
        archive.to_str().unwrap(),
        "docker.io/library/lazy:latest",
    ]);
    assert_eq!(Image::read(&archive).tree().text("more"), "two");
}

fn an_engine_that_refuses_gets_everything(sandbox: &Sandbox) {
    if !installed("podman") {
        return skip("podman is not installed: run `make deps`");
    }
    // Podman speaks as docker does, but wants all layers in an archive for docker.
    let podman = Podman::new(sandbox);
    let socket = sandbox.path("podman/s");
    let mut service = podman.command();
    service
        .args(["system", "service", "--time", "0"])
        .arg(format!("unix://{}", socket.display()));
    let _service = Ended(service.spawn().unwrap());
    wait_until("the service answers", || {
        UnixStream::connect(&socket).is_ok()
    });
    let meter = Meter::start(&sandbox.path("meter"), &socket);
    let strata = || sandbox.strata().env("DOCKER_HOST", meter.host());
    context(sandbox);
    build(sandbox, strata(), &["-t", "app", "--load=docker"]);
    sandbox.write("small", "two");
    meter.take();
    let id = build(sandbox, strata(), &["-t", "app", "--load=docker"]);
    let moved = meter.take();
    assert!(moved > LARGE, "{moved} bytes moved");
    assert_eq!(
        inspected(&mut podman.command(), "docker.io/library/app"),
        id
    );
}

/// A process that ends with the case.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn an_engine_that_is_not_there_is_named(sandbox: &Sandbox) {
    sandbox.write("small", "one");
    sandbox.dockerfile("FROM scratch\nCOPY small /\n");
    let nowhere = sandbox.path("nowhere");
    let nobody = sandbox.path("nobody");
    drop(UnixListener::bind(&nobody).unwrap());
    sandbox.hand_over(&nobody);
    let host = |path: &Path| format!("unix://{}", path.display());
    let empty = sandbox.path("out");
    for (engine, name, value, message, help) in [
        (
            "docker",
            "DOCKER_HOST",
            host(&nowhere),
            "docker does not answer at",
            "is dockerd running?",
        ),
        (
            "docker",
            "DOCKER_HOST",
            host(&nobody),
            "docker does not answer at",
            "is dockerd running?",
        ),
        (
            "docker",
            "DOCKER_HOST",
            "fd://".into(),
            "neither `unix://`",
            "",
        ),
        (
            "docker",
            "DOCKER_CONTEXT",
            "far".into(),
            "`docker`, by which",
            "install docker's",
        ),
        (
            "podman",
            "X",
            String::new(),
            "`podman`, by which",
            "install podman",
        ),
        (
            "containerd",
            "CONTAINERD_ADDRESS",
            nowhere.display().to_string(),
            "containerd does not answer at",
            "is containerd running?",
        ),
    ] {
        let build = sandbox.strata().env("PATH", &empty).env(name, &value);
        let build = build.args(["build", "-t", "app", &format!("--load={engine}")]);
        let failed = build.arg(sandbox.context()).output().failure(1);
        for text in [message, help] {
            assert!(failed.stderr.contains(text), "{value}: {}", failed.stderr);
        }
    }
    // What has to be said on the command line.
    for arguments in [
        &["build", "--load=containerd", "."][..],
        &["build", "--load=dockerd", "."],
        &["push", "--compression", "zstd", "app", "docker-daemon:app"],
    ] {
        sandbox.try_run(arguments).failure(2);
    }
}
