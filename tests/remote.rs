//! Sources and contexts that have to be fetched: files of the web and git repositories.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use strata_cache::Digest;

use crate::support::{Image, Sandbox, Tree, Web, cases, run, wait_until};

cases! { Root, User =>
    add_fetches_a_file_with_its_time,
    a_file_is_fetched_again_only_if_it_changed,
    a_checksum_is_checked_and_spares_the_question,
    an_archive_of_the_web_is_unpacked_if_asked,
}

cases! { Root =>
    a_redirect_is_followed_and_a_token_stays_at_home,
    what_can_not_be_fetched_names_its_line,
    a_context_can_be_an_archive_or_a_dockerfile_of_the_web,
    a_checkout_is_the_same_whatever_the_umask,
    a_commit_is_asked_for_once_and_a_branch_each_time,
    submodules_come_along_and_git_dirs_only_if_asked,
    a_commit_can_be_demanded,
    a_context_can_be_a_repository,
    a_token_is_sent_and_never_shown,
    a_password_in_an_address_is_sent_and_kept_nowhere,
    what_git_can_not_have_is_told,
    a_repository_behind_http_has_branches_tags_commits_and_directories,
    a_repository_behind_ssh_is_asked_with_the_agent_given,
    sources_are_written_in_their_order,
    an_epoch_can_be_that_of_a_commit_a_file_or_an_archive,
}

const TIME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// §9.21.
fn add_fetches_a_file_with_its_time(sandbox: &Sandbox) {
    let web = Web::start();
    web.page("/dir/a%20b?x=1", "text", &[("Last-Modified", TIME)]);
    let image = sandbox.build(&format!(
        "FROM scratch\nADD [\"{}\", \"/dir/\"]\nADD --chmod=644 --chown=5:6 {} /name\n",
        web.url("/dir/a%20b?x=1"),
        web.url("/dir/a%20b?x=1"),
    ));
    assert_eq!(
        image.tree().lines(),
        ["d 0755 0:0 dir", "f 0600 0:0 dir/a b", "f 0644 5:6 name"]
    );
    assert_eq!(image.tree().at("dir/a b").mtime, 1_445_412_480);
    // Named twice, asked for once.
    assert_eq!(web.log(), ["/dir/a%20b?x=1 200"]);
}

fn a_file_is_fetched_again_only_if_it_changed(sandbox: &Sandbox) {
    let web = Web::start();
    for header in [("ETag", "\"1\""), ("Last-Modified", TIME)] {
        let path = format!("/{}", header.0);
        web.page(&path, "one", &[header]);
        sandbox.dockerfile(&format!("FROM scratch\nADD {} /f\n", web.url(&path)));
        sandbox.build_with(&[]);
        let (_, steps) = sandbox.build_with(&[]);
        assert!(steps.ran().is_empty(), "{:?}", steps.ran());
        assert_eq!(web.log(), [format!("{path} 200"), format!("{path} 304")]);
    }
    web.page("/ETag", "two", &[("ETag", "\"2\"")]);
    let image = sandbox.build(&format!("FROM scratch\nADD {} /f\n", web.url("/ETag")));
    assert_eq!(image.tree().text("f"), "two");
}

/// §9.23.
fn a_checksum_is_checked_and_spares_the_question(sandbox: &Sandbox) {
    let web = Web::start();
    web.page("/f", "text", &[]);
    let dockerfile = |digest: Digest| {
        format!(
            "FROM scratch\nADD --checksum={digest} {} /\n",
            web.url("/f")
        )
    };
    let right = Digest::of(b"text");
    sandbox.build(&dockerfile(right));
    assert_eq!(web.log(), ["/f 200"]);
    sandbox.build(&dockerfile(right));
    assert!(web.log().is_empty());
    let error = sandbox.build_fails(&dockerfile(Digest::of(b"other")), 1);
    assert!(error.contains("was expected"), "{error}");
    let error = sandbox.build_fails("FROM scratch\nADD --checksum=md5:0 http://h/ /\n", 2);
    assert!(error.contains("md5"), "{error}");
    let error = sandbox.build_fails(&format!("FROM scratch\nADD --checksum={right} x /\n"), 2);
    assert!(error.contains("remote source"), "{error}");
}

fn an_archive_of_the_web_is_unpacked_if_asked(sandbox: &Sandbox) {
    let web = Web::start();
    sandbox.write("tree/file", "text");
    run(Command::new("tar")
        .args(["--create", "--gzip", "--file"])
        .arg(sandbox.path("x.tgz"))
        .arg("--directory")
        .arg(sandbox.context().join("tree"))
        .arg("."));
    web.page("/x.tgz", std::fs::read(sandbox.path("x.tgz")).unwrap(), &[]);
    let image = sandbox.build(&format!(
        "FROM scratch\nADD {0} /as-it-is/\nADD --unpack=true {0} /unpacked/\n",
        web.url("/x.tgz")
    ));
    let tree = image.tree();
    assert!(tree.has("as-it-is/x.tgz"));
    assert_eq!(tree.text("unpacked/file"), "text");
}

/// §9.24.
fn a_redirect_is_followed_and_a_token_stays_at_home(sandbox: &Sandbox) {
    let (web, other) = (Web::start(), Web::start());
    other.page("/real", "text", &[]);
    web.redirect("/f", &other.url("/real"));
    web.require("Bearer geheim");
    sandbox.dockerfile(&format!("FROM scratch\nADD {} /\n", web.url("/f")));
    sandbox.try_build(&[]).failure(1).says("401");
    let id = format!("id=HTTP_AUTH_TOKEN_{},env=TOKEN", web.host());
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let output = sandbox
        .strata()
        .env("TOKEN", "geheim\n")
        .args(["build", "--secret", &id, "-o", &to])
        .arg(sandbox.context())
        .output()
        .success();
    assert!(!output.stderr.contains("geheim"));
    assert_eq!(Image::read(&archive).tree().text("f"), "text");
    // It would have refused a token that is not for it.
    other.require("nothing at all");
    assert!(other.log().iter().all(|line| line.ends_with("200")));
}

fn what_can_not_be_fetched_names_its_line(sandbox: &Sandbox) {
    let web = Web::start();
    web.redirect("/circle", "/circle");
    let user = format!("http://user:geheim@{}/x", web.host());
    for (url, part) in [
        (web.url("/missing"), "404"),
        (web.url("/circle"), "circles"),
        (user, "without a user"),
    ] {
        let error = sandbox.build_fails(&format!("FROM scratch\n\nADD {url} /\n"), 1);
        assert!(error.contains(part), "{error}");
        assert!(error.contains(":3:"), "{error}");
    }
}

fn a_context_can_be_an_archive_or_a_dockerfile_of_the_web(sandbox: &Sandbox) {
    let web = Web::start();
    sandbox.write("file", "text");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY file /\n");
    run(Command::new("tar")
        .args(["--create", "--gzip", "--file"])
        .arg(sandbox.path("x.tgz"))
        .arg("--directory")
        .arg(sandbox.context())
        .arg("."));
    web.page("/x.tgz", std::fs::read(sandbox.path("x.tgz")).unwrap(), &[]);
    web.page("/plain", "FROM scratch\nCOPY <<x /file\ntext\nx\n", &[]);
    let context = sandbox.context();
    let context = context.to_str().unwrap();
    std::fs::remove_file(sandbox.context().join("Dockerfile")).unwrap();
    web.page("/other", "FROM scratch\nCOPY file /\n", &[]);
    let other = web.url("/other");
    for args in [
        &[web.url("/x.tgz").as_str()][..],
        &[web.url("/plain").as_str()],
        &["-f", other.as_str(), context],
        &["-f", other.as_str(), web.url("/x.tgz").as_str()],
    ] {
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        sandbox
            .strata()
            .args(["build", "-o", &to])
            .args(args)
            .output()
            .success();
        assert_eq!(
            Image::read(&archive).tree().text("file").trim(),
            "text",
            "{args:?}"
        );
    }
    sandbox.dockerfile("FROM scratch\nCOPY --from=named /file /\n");
    let named = format!("named={}", web.url("/x.tgz"));
    let (image, _) = sandbox.build_with(&["--build-context", &named]);
    assert_eq!(image.tree().text("file"), "text");
}

/// A repository with a submodule, and `git daemon` that serves both.
struct Repository {
    root: PathBuf,
    daemon: Child,
    port: u16,
}

impl Drop for Repository {
    fn drop(&mut self) {
        // The daemon's child is what listens.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.daemon.id()).unwrap());
        let killed = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        killed.unwrap_or_default();
        drop(self.daemon.wait());
    }
}

impl Repository {
    fn start(sandbox: &Sandbox) -> Self {
        let root = sandbox.path("git");
        std::fs::create_dir_all(&root).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let daemon = std::os::unix::process::CommandExt::process_group(
            Command::new("git")
                .args(["daemon", "--export-all", "--reuseaddr"])
                .arg("--listen=127.0.0.1")
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", root.display()))
                .arg(&root)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
            0,
        )
        .spawn()
        .expect("git is installed");
        let repository = Self { root, daemon, port };
        repository.git(
            "git init -q sub && cd sub && echo inner > inner && git add . && git commit -qm sub",
        );
        repository.git(&format!(
            "git init -q main && cd main
             mkdir -p dir/deep && echo one > dir/file && echo x > dir/deep/x
             echo run > tool && chmod 0700 tool && chmod 0600 dir/file
             ln -s dir/file link && ln -s / dir/out
             printf 'FROM scratch\\nCOPY dir/file /copied\\n' > Dockerfile
             git submodule --quiet add git://127.0.0.1:{port}/sub module
             git add . && git commit -qm one && git tag -am v1 v1
             git checkout -q -b other && echo other > dir/file && git commit -qam two
             git checkout -q main"
        ));
        wait_until("git daemon answers", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        repository
    }

    /// Runs a script of git commands in the directory of repositories.
    fn git(&self, script: &str) -> String {
        wait_until("git daemon answers", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        let output = Command::new("sh")
            .args(["-ec", script])
            .current_dir(&self.root)
            .env("HOME", &self.root)
            .env("GIT_CONFIG_COUNT", "4")
            .env("GIT_CONFIG_KEY_0", "user.name")
            .env("GIT_CONFIG_VALUE_0", "x")
            .env("GIT_CONFIG_KEY_1", "user.email")
            .env("GIT_CONFIG_VALUE_1", "x@x")
            .env("GIT_CONFIG_KEY_2", "init.defaultBranch")
            .env("GIT_CONFIG_VALUE_2", "main")
            .env("GIT_CONFIG_KEY_3", "safe.directory")
            .env("GIT_CONFIG_VALUE_3", "*")
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn url(&self) -> String {
        format!("git://127.0.0.1:{}/main", self.port)
    }

    fn commit(&self, name: &str) -> String {
        self.git(&format!("git -C main rev-parse {name}^{{commit}}"))
    }
}

fn a_checkout_is_the_same_whatever_the_umask(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    let image = sandbox.build(&format!("FROM scratch\nADD {}#main /\n", repository.url()));
    let lines = image.changes();
    for line in [
        "d 0755 0:0 dir",
        "f 0644 0:0 dir/file",
        "f 0755 0:0 tool",
        "l 0777 0:0 link -> dir/file",
        "f 0644 0:0 module/inner",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
    assert!(
        lines.iter().all(|line| !line.contains(".git/")),
        "{lines:?}"
    );
}

fn a_commit_is_asked_for_once_and_a_branch_each_time(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    let first = repository.commit("main");
    let by_branch = format!("FROM scratch\nADD {}#main:dir /\n", repository.url());
    let image = sandbox.build(&by_branch);
    assert_eq!(image.tree().text("file"), "one\n");
    let (_, steps) = sandbox.build_with(&[]);
    assert!(steps.ran().is_empty(), "{:?}", steps.ran());
    repository.git("cd main && echo new > dir/file && git commit -qam new");
    assert_eq!(sandbox.build(&by_branch).tree().text("file"), "new\n");
    // A subdirectory of another commit, out of the mirror.
    let url = repository.url();
    drop(repository);
    let image = sandbox.build(&format!(
        "FROM scratch\nADD {url}?submodules=false#{first}:dir /again/\n"
    ));
    assert_eq!(image.tree().text("again/file"), "one\n");
}

/// §9.22.
fn submodules_come_along_and_git_dirs_only_if_asked(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    let url = repository.url();
    let image = sandbox.build(&format!("FROM scratch\nADD {url}?submodules=false /\n"));
    assert!(!image.tree().has("module/inner") && !image.tree().has(".git"));
    let image = sandbox.build(&format!(
        "FROM scratch\nADD --keep-git-dir=true {url}#v1 /\n"
    ));
    assert!(image.tree().has("module/inner") && image.tree().has(".git/HEAD"));
    let head = image.tree().text(".git/HEAD");
    assert_eq!(head.trim(), repository.commit("v1"));
    let config = image.tree().text(".git/config");
    assert!(
        config.contains(&url) && !config.contains("mounts/"),
        "{config}"
    );
}

fn a_commit_can_be_demanded(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    let url = repository.url();
    let id = repository.commit("other");
    let dockerfile = |id: &str| format!("FROM scratch\nADD --checksum={id} {url}#other /\n");
    let image = sandbox.build(&dockerfile(&id[..12]));
    assert_eq!(image.tree().text("dir/file"), "other\n");
    let error = sandbox.build_fails(&dockerfile(&"0".repeat(40)), 1);
    assert!(error.contains("was expected"), "{error}");
    sandbox.build_fails(&dockerfile("main"), 2);
}

fn a_context_can_be_a_repository(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    let file = format!("file://{}/main", repository.root.display());
    for (context, expected) in [
        (repository.url(), "one\n"),
        (format!("{}#other", repository.url()), "other\n"),
        (format!("{file}#refs/heads/other"), "other\n"),
    ] {
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        sandbox
            .strata()
            .args(["build", "-o", &to, &context])
            .output()
            .success();
        let image = Image::read(&archive);
        assert_eq!(image.tree().text("copied"), expected, "{context}");
        assert_eq!(image.changes(), ["f 0644 0:0 copied"]);
    }
    sandbox.dockerfile("FROM scratch\nCOPY --from=repo deep/x /\n");
    let named = format!("repo={}#v1:dir", repository.url());
    let (image, _) = sandbox.build_with(&["--build-context", &named]);
    assert_eq!(image.tree().text("x"), "x\n");
    // §6.8: its `.git` is there if that is asked for.
    for (argument, code) in [("BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", 0), ("X=1", 2)] {
        let args = ["build", "-f", "-", "--build-arg", argument];
        let build = sandbox.strata().args(args).args(["-o", "type=cacheonly"]);
        let output = build
            .arg(repository.url())
            .stdin("FROM scratch\nCOPY .git/HEAD /\n")
            .output();
        assert_eq!(output.code(), code, "{argument}: {output}");
    }
    // A link that leads out of the repository leads nowhere.
    let outside = format!("{}#main:dir/out/etc", repository.url());
    let output = sandbox.strata().args(["build", &outside]).output();
    output.failure(2).says("no directory");
}

fn a_token_is_sent_and_never_shown(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    repository.git("git clone -q --bare main x.git && git -C x.git update-server-info");
    let web = Web::start();
    web.directory(repository.root.clone());
    // x-access-token:geheim
    web.require("basic eC1hY2Nlc3MtdG9rZW46Z2VoZWlt");
    let url = web.url("/x.git?submodules=false");
    sandbox.dockerfile(&format!("FROM scratch\nADD {url} /\n"));
    sandbox.try_build(&[]).failure(1).says("git ls-remote");
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let output = sandbox
        .strata()
        .env("GIT_AUTH_TOKEN", "geheim")
        .args(["build", "--secret", "id=GIT_AUTH_TOKEN", "-o", &to])
        .arg(sandbox.context())
        .output()
        .success();
    assert!(!output.stderr.contains("geheim"), "{}", output.stderr);
    assert_eq!(Image::read(&archive).tree().text("dir/file"), "one\n");
}

/// Files below `directory` that hold the text, or have it in their names.
fn files_with(directory: &std::path::Path, text: &str) -> String {
    let script = "grep -rlaF -- \"$0\" \"$1\"; find \"$1\" | grep -F -- \"$0\"";
    let found = Command::new("sh")
        .args(["-c", script, text])
        .arg(directory)
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap()
}

fn a_password_in_an_address_is_sent_and_kept_nowhere(sandbox: &Sandbox) {
    const PASSWORD: &str = "p4ss-des-adresses";
    let repository = Repository::start(sandbox);
    repository.git("git clone -q --bare main x.git");
    let web = Web::start();
    web.repositories(repository.root.clone());
    // user:p4ss-des-adresses
    web.require("Basic dXNlcjpwNHNzLWRlcy1hZHJlc3Nlcw==");
    // A git that notes what it starts, programs of its own included.
    let trace = sandbox.path("trace");
    std::fs::write(&trace, "").unwrap();
    let programs = sandbox.path("programs");
    std::fs::create_dir(&programs).unwrap();
    let git = programs.join("git");
    let script = format!(
        "#!/bin/sh\necho started \"$@\" >> {0}\nGIT_TRACE={0} PATH=${{PATH#*:}} exec git \"$@\"\n",
        trace.display()
    );
    std::fs::write(&git, script).unwrap();
    std::fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());

    let with =
        |path: &str, user: &str| web.url(path).replace("http://", &format!("http://{user}@"));
    let build = |lines: &str, flags: &[&str]| {
        sandbox.write("Containerfile", format!("FROM scratch\n{lines}"));
        let strata = sandbox.strata().env("PATH", &path);
        strata
            .args(["--log-level", "trace", "build", "-f", "Containerfile"])
            .args(flags)
            .arg(".")
            .output()
    };
    let user = format!("user:{PASSWORD}");
    let lines = format!(
        "ADD {}#other /\nADD --keep-git-dir=true {} /again\n",
        with("/git/x.git", &user),
        with("/git/x.git", &user),
    );
    let to = sandbox.fresh_output("tar");
    let (layout, metadata) = (sandbox.fresh_output("oci"), sandbox.path("out/metadata"));
    let (tar, layout) = (
        format!("type=tar,dest={}", to.display()),
        format!("type=oci,tar=false,dest={}", layout.display()),
    );
    let flags = [
        "-o",
        &tar,
        "-o",
        &layout,
        "-t",
        "it",
        "--load",
        "--explain",
        "--provenance=mode=max",
        "--metadata-file",
    ];
    for progress in ["plain", "json"] {
        let more = [metadata.to_str().unwrap(), "--progress", progress];
        let output = build(&lines, &[&flags[..], &more].concat()).success();
        assert!(!output.stderr.contains(PASSWORD), "{output}");
        assert!(output.stderr.contains("http://user:***@"), "{output}");
    }
    let tree = Tree::of_tar(std::fs::File::open(&to).unwrap());
    assert_eq!(tree.text("dir/file"), "other\n");
    assert!(
        tree.text("again/.git/config")
            .contains("url = http://127.0.0.1")
    );
    // Errors, with the line that they are about.
    for (lines, part) in [
        (format!("ADD {} /f\n", with("/f", &user)), "without a user"),
        (
            format!("ADD {} /f\n", with("/git/x.git", &format!("{user}s"))),
            "git ls-remote",
        ),
        (
            format!("ADD {}#none /f\n", with("/git/x.git", &user)),
            "no branch or tag",
        ),
        (
            format!("ADD {} /f\n", with("/git/none.git", &user)),
            "git ls-remote",
        ),
        (format!("ADD {}?a=b /f\n", with("/git/x.git", &user)), "`a`"),
        (format!("COPY {} /f\n", with("/f", &user)), "COPY takes no"),
    ] {
        for progress in ["plain", "json"] {
            let output = build(&lines, &["--progress", progress]);
            assert!(output.stderr.contains(part), "{output}");
            assert!(!output.stderr.contains(PASSWORD), "{output}");
        }
        let check = sandbox.try_run(&["check", "-f", "Containerfile", "."]);
        assert!(
            !check.stdout.contains(PASSWORD) && !check.stderr.contains(PASSWORD),
            "{check}"
        );
    }
    for command in [
        &["cache", "ls", "--format", "json"][..],
        &["cache", "mount", "ls"],
        &["cache", "why", "it"],
        &["history", "--no-trunc", "it"],
        &["inspect", "it"],
    ] {
        let said = sandbox.try_run(command);
        assert!(
            !said.stdout.contains(PASSWORD) && !said.stderr.contains(PASSWORD),
            "{said}"
        );
    }
    for place in ["store", "out", "trace"] {
        assert_eq!(files_with(&sandbox.path(place), PASSWORD), "", "{place}");
    }
    // What was looked at is what there is.
    let started = std::fs::read_to_string(&trace).unwrap();
    assert!(
        started.contains("remote-http origin http://127.0.0.1:"),
        "{started}"
    );
    assert_ne!(files_with(&sandbox.context(), PASSWORD), "");
    // Nor a token that is a secret.
    web.require("basic eC1hY2Nlc3MtdG9rZW46Z2VoZWlt");
    sandbox.write(
        "Containerfile",
        format!("FROM scratch\nADD {} /token\n", web.url("/git/x.git")),
    );
    let strata = sandbox
        .strata()
        .env("PATH", &path)
        .env("GIT_AUTH_TOKEN", "geheim");
    let strata = strata.args([
        "build",
        "--secret",
        "id=GIT_AUTH_TOKEN",
        "-f",
        "Containerfile",
        ".",
    ]);
    strata.output().success();
    for hidden in ["geheim", "eC1hY2Nlc3MtdG9rZW46Z2VoZWlt"] {
        assert_eq!(files_with(&trace, hidden), "");
        assert_eq!(files_with(&sandbox.path("store"), hidden), "");
    }
}

fn what_git_can_not_have_is_told(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    let url = repository.url();
    for (source, code, part) in [
        (format!("{url}#missing"), 1, "no branch or tag `missing`"),
        (format!("{url}-none"), 1, "git ls-remote"),
        (format!("{url}#main:none"), 1, "no directory `none`"),
        (format!("{url}?a=b"), 2, "`a`"),
        (
            format!("file://{}/main", repository.root.display()),
            2,
            "not in",
        ),
    ] {
        let error = sandbox.build_fails(&format!("FROM scratch\nADD {source} /\n"), code);
        assert!(error.contains(part), "{source}: {error}");
    }
}

fn a_repository_behind_http_has_branches_tags_commits_and_directories(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    repository.git("git clone -q --bare main x.git");
    let first = repository.commit("main");
    let other = repository.commit("other");
    let web = Web::start();
    web.repositories(repository.root.clone());
    // x-access-token:geheim
    web.require("basic eC1hY2Nlc3MtdG9rZW46Z2VoZWlt");
    let url = web.url("/git/x.git");
    // Rule, source, a file and what it holds.
    for (rule, source, file, text) in [
        (
            "§9.22 what the server points at",
            url.clone(),
            "dir/file",
            "one\n",
        ),
        (
            "§9.22 a branch",
            format!("{url}#other"),
            "dir/file",
            "other\n",
        ),
        (
            "§9.22 a full name",
            format!("{url}#refs/heads/other"),
            "dir/file",
            "other\n",
        ),
        ("§9.22 a tag", format!("{url}#v1"), "dir/file", "one\n"),
        (
            "§9.22 a commit",
            format!("{url}#{other}"),
            "dir/file",
            "other\n",
        ),
        (
            "§9.22 a directory",
            format!("{url}#other:dir/deep"),
            "x",
            "x\n",
        ),
        (
            "§9.22 a directory alone",
            format!("{url}#:dir"),
            "file",
            "one\n",
        ),
        (
            "§9.22 the query form",
            format!("{url}?branch=other&subdir=dir"),
            "file",
            "other\n",
        ),
        (
            "§9.22 a tag in the query form",
            format!("{url}?tag=v1"),
            "dir/file",
            "one\n",
        ),
        (
            "§9.22 a commit in the query form",
            format!("{url}?commit={other}"),
            "dir/file",
            "other\n",
        ),
        (
            "§9.22 both forms",
            format!("{url}?subdir=dir#other"),
            "file",
            "other\n",
        ),
        (
            "§9.22 a submodule",
            format!("{url}#{first}"),
            "module/inner",
            "inner\n",
        ),
        (
            "§9.22 .git, if kept",
            format!("{url}?keep-git-dir=true"),
            ".git/HEAD",
            &*format!("{first}\n"),
        ),
    ] {
        sandbox.dockerfile(&format!("FROM scratch\nADD {source} /\n"));
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let build = sandbox.strata().env("GIT_AUTH_TOKEN", "geheim").args([
            "build",
            "--secret",
            "id=GIT_AUTH_TOKEN",
            "-o",
            &to,
        ]);
        build.arg(sandbox.context()).output().success();
        assert_eq!(Image::read(&archive).tree().text(file), text, "{rule}");
    }
    let log = web.log();
    assert!(
        log.iter()
            .any(|line| line.contains("service=git-upload-pack")),
        "{log:?}"
    );
    // Nothing is sent to who is not meant.
    sandbox.dockerfile(&format!("FROM scratch\nADD {url} /\n"));
    sandbox
        .try_build(&["--no-cache"])
        .failure(1)
        .says("git ls-remote");
}

fn a_repository_behind_ssh_is_asked_with_the_agent_given(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    // In place of ssh: runs here what it is to run there, and notes how it was asked.
    let (programs, log) = (sandbox.path("programs"), sandbox.path("ssh.log"));
    std::fs::create_dir(&programs).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"agent=$SSH_AUTH_SOCK home=$HOME $*\" >> {}\n\
         while [ \"${{1#-}}\" != \"$1\" ]; do case $1 in -o|-F|-p) shift;; esac; shift; done\n\
         shift\nPATH=$(git --exec-path):$PATH exec sh -c \"$*\"\n",
        log.display()
    );
    let ssh = programs.join("ssh");
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", programs.display());
    let agent = sandbox.path("agent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let given = format!("default={}", agent.display());
    let main = repository.root.join("main");
    let main = main.display();
    for (source, text) in [
        (format!("git@host:{main}#other:dir"), "other\n"),
        (
            format!("ssh://git@host:2222{main}?tag=v1&subdir=dir&submodules=0"),
            "one\n",
        ),
    ] {
        sandbox.dockerfile(&format!("FROM scratch\nADD {source} /\n"));
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let build = sandbox.strata().env("PATH", &path);
        let build = build.args(["build", "--ssh", &given, "-o", &to]);
        build.arg(sandbox.context()).output().success();
        assert_eq!(Image::read(&archive).tree().text("file"), text, "{source}");
    }
    let log = std::fs::read_to_string(log).unwrap();
    for line in log.lines() {
        let agent = format!("agent={} home=/nonexistent ", agent.display());
        assert!(line.starts_with(&agent), "{line}");
        for part in ["-F /dev/null", "BatchMode=yes", "IdentityFile=none"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    assert!(log.contains("-p 2222 git@host"), "{log}");
}

fn sources_are_written_in_their_order(sandbox: &Sandbox) {
    let web = Web::start();
    web.page("/same", "web", &[]);
    let url = web.url("/same");
    sandbox.write("same", "first").write("later/same", "last");
    // Rule, sources, what comes of them.
    for (rule, sources, text) in [
        ("§9.25 local, then remote", format!("same {url}"), "web"),
        ("§9.25 remote, then local", format!("{url} same"), "first"),
        (
            "§9.25 remote between",
            format!("same {url} later/same"),
            "last",
        ),
        ("§9.25 a pattern before", format!("sam* {url}"), "web"),
        ("§9.25 nothing, then remote", format!("no* {url}"), "web"),
    ] {
        let image = sandbox.build(&format!("FROM scratch\nADD {sources} /d/\n"));
        assert_eq!(image.tree().text("d/same"), text, "{rule}");
        assert_eq!(image.layers.len(), 1, "{rule}");
    }
    let image = sandbox.build(&format!("FROM scratch\nADD <<same {url} /d/\nhere\nsame\n"));
    assert_eq!(image.tree().text("d/same"), "here\n", "§9.25 heredocs last");
}

fn an_epoch_can_be_that_of_a_commit_a_file_or_an_archive(sandbox: &Sandbox) {
    let repository = Repository::start(sandbox);
    repository.git(
        "cd main && printf 'FROM scratch\\nARG SOURCE_DATE_EPOCH\\nLABEL t=${SOURCE_DATE_EPOCH:-none}\\n\
         COPY dir/file /\\n' > Dockerfile && git add . && \
         GIT_COMMITTER_DATE='@1234567890 +0000' git commit -qm dated",
    );
    let build = |args: &[&str]| {
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let build = sandbox.strata().args(["build", "-o", &to]).args(args);
        build.output().success();
        let image = Image::read(&archive);
        let label = image.config["config"]["Labels"]["t"]
            .as_str()
            .unwrap()
            .to_owned();
        (label, image)
    };
    let web = Web::start();
    web.page("/dated", "text", &[("Last-Modified", TIME)]);
    let tree = sandbox.path("tree");
    std::fs::create_dir(&tree).unwrap();
    let text = "FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL t=${SOURCE_DATE_EPOCH:-none}\nCOPY Dockerfile /\n";
    std::fs::write(tree.join("Dockerfile"), text).unwrap();
    run(Command::new("tar")
        .args(["--create", "--mtime=@1111111111", "--file"])
        .arg(sandbox.path("x.tar"))
        .arg("--directory")
        .arg(&tree)
        .arg("Dockerfile"));
    web.page("/x.tar", std::fs::read(sandbox.path("x.tar")).unwrap(), &[]);
    sandbox.dockerfile(&format!(
        "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nARG u={}\nADD $u /\n\
         FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL t=${{SOURCE_DATE_EPOCH:-none}}\nCOPY --from=src / /\n",
        web.url("/dated")
    ));
    let here = sandbox.context();
    let here = here.to_str().unwrap();
    let by_context = "SOURCE_DATE_EPOCH=context";
    let named = format!("repo={}", repository.url());
    // Rule, arguments, the number that instructions see.
    for (rule, args, seconds) in [
        (
            "§6.9 a commit",
            &["--build-arg", by_context, &repository.url()] as &[&str],
            "1234567890",
        ),
        (
            "§6.9 an archive",
            &["--build-arg", by_context, &web.url("/x.tar")],
            "1111111111",
        ),
        ("§6.9 a stage, named before FROM", &[here], "1445412480"),
        (
            "§6.9 a directory has none",
            &["--build-arg", by_context, here],
            "none",
        ),
        (
            "§6.9 a named context",
            &[
                "--build-arg",
                "SOURCE_DATE_EPOCH=repo",
                "--build-context",
                &named,
                here,
            ],
            "1234567890",
        ),
        (
            "§6.9 a number",
            &["--build-arg", "SOURCE_DATE_EPOCH=77", here],
            "77",
        ),
        (
            "§6.9 an empty one",
            &["--build-arg", "SOURCE_DATE_EPOCH=", here],
            "none",
        ),
    ] {
        let (label, image) = build(args);
        assert_eq!(label, seconds, "{rule}");
        if let Ok(seconds) = seconds.parse::<i64>() {
            let time = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            assert_eq!(image.config["created"], time, "§12.4 {rule}");
            let tree = image.top();
            let late = tree
                .files()
                .into_iter()
                .find(|path| tree.at(path).mtime > seconds);
            assert_eq!(late, None, "§12.4 {rule}");
        }
    }
    for (value, part) in [
        ("nonsense", "neither a number"),
        ("bad", "it may hold nothing but"),
    ] {
        sandbox.dockerfile(
            "FROM scratch AS bad\nLABEL a=b\nADD http://h/x /\nFROM scratch\nLABEL t=1\n",
        );
        let argument = format!("SOURCE_DATE_EPOCH={value}");
        sandbox
            .try_build(&["--build-arg", &argument])
            .failure(2)
            .says(part);
    }
}
