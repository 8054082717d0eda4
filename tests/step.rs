//! RUN: forms, sandbox, and what ends up in the layer.

use std::os::unix::fs::MetadataExt as _;

use crate::support::{Sandbox, cases};

cases! { Root, User =>
    a_command_has_a_shell_and_an_exec_form,
    heredocs_are_scripts,
    volumes_show_paths_of_the_machine,
    volumes_may_be_given_away_or_only_looked_at,
    mounts_can_be_given_to_every_step,
    ignored_paths_are_in_no_layer_and_in_every_key,
    the_environment_is_the_images_and_nothing_else,
    the_sandbox_has_proc_sys_and_dev,
    capabilities_are_the_usual_set,
    dangerous_calls_are_refused,
    processes_and_hosts_are_out_of_sight,
    no_network_means_loopback_only,
    there_is_no_input,
    output_comes_line_by_line,
    a_failed_step_says_which_and_how,
    a_step_that_changes_nothing_makes_an_empty_layer,
    deletions_are_whiteouts,
    a_replaced_directory_hides_what_was_in_it,
    owners_modes_and_links_of_a_step_are_kept,
    a_changed_name_of_a_hard_link_group_leaves_the_others,
    attributes_only_change_is_a_change,
    mount_points_leave_no_trace,
    files_given_to_a_step_are_not_in_the_layer,
    secrets_are_there_for_one_step_only,
    leftover_processes_are_ended,
    limits_hold,
    a_cache_mount_lives_on_between_builds,
    bind_and_tmpfs_mounts_are_for_one_step,
    many_layers_can_be_stacked,
    renames_across_layers_work,
    a_working_directory_that_is_gone_is_made_for_the_steps_user,
}

cases! { Root =>
    devices_can_be_made_by_root,
    a_file_capability_is_kept,
    a_step_may_open_as_many_files_as_the_caller,
}

/// Builds `body` on busybox; what the step prints to `/out`.
#[track_caller]
fn says(sandbox: &Sandbox, body: &str) -> String {
    sandbox
        .build(&format!("FROM busybox\n{body}\n"))
        .tree()
        .text("out")
}

fn a_command_has_a_shell_and_an_exec_form(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, expected) in [
        ("RUN echo  \"a  b\" 'c' $((1+1)) > /out", "a  b c 2\n"),
        ("RUN echo a && \\\n  # a comment\n    echo b > /out", "b\n"),
        (
            "RUN [\"sh\", \"-c\", \"echo $0 > /out\", \"zero\"]",
            "zero\n",
        ),
        (
            "RUN [\"cp\", \"/etc/group\", \"/out\"]\nRUN echo $HOME>/out",
            "/root\n",
        ),
        ("ENV a=1\nRUN echo ${a} $a > /out", "1 1\n"),
        ("ENV a=1\nRUN [\"sh\", \"-c\", \"echo $a > /out\"]", "1\n"),
        ("WORKDIR /tmp\nRUN pwd > /out", "/tmp\n"),
        (
            "SHELL [\"/bin/sh\", \"-c\", \"echo \\\"<$0>\\\" > /out\"]\nRUN the command",
            "<the command>\n",
        ),
        ("RUN umask > /out", "0022\n"),
    ] {
        assert_eq!(says(sandbox, body), expected, "{body}");
    }
}

fn heredocs_are_scripts(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, expected) in [
        (
            "RUN <<EOT\necho one > /out\necho two >> /out\nEOT",
            "one\ntwo\n",
        ),
        ("RUN <<EOT\nfalse\necho on > /out\nEOT", "on\n"),
        // The shell that reads the redirection expands an unquoted body, as shells do.
        ("RUN <<EOT sh -e\necho \"$0\" > /out\nEOT", "/bin/sh\n"),
        ("RUN <<'EOT' sh -e\necho \"$0\" > /out\nEOT", "sh\n"),
        (
            "RUN <<EOT\n#!/bin/sh -e\necho script > /out\nEOT",
            "script\n",
        ),
        ("RUN cat <<one - <<two > /out 3<&0\n1\none\n2\ntwo", "2\n"),
        ("ARG v=1\nRUN <<'EOT'\necho $v > /out\nEOT", "1\n"),
        ("RUN <<-EOT\n\techo tabs > /out\n\tEOT", "tabs\n"),
    ] {
        assert_eq!(says(sandbox, body), expected, "{body}");
    }
}

/// §10.2.
fn the_environment_is_the_images_and_nothing_else(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nENV b=2 a=1\nARG c=3\nRUN env | sort > /out\n");
    let archive = sandbox.fresh_output("tar");
    let output = format!("type=oci,dest={}", archive.display());
    sandbox
        .strata()
        .args(["build", "--output", &output])
        .env("LEAKED", "from outside")
        .arg(sandbox.context())
        .output()
        .success();
    let text = crate::support::Image::read(&archive).tree().text("out");
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    let known = [
        "HOME", "HOSTNAME", "PATH", "PWD", "SHLVL", "TERM", "a", "b", "c",
    ];
    for name in &names {
        assert!(known.contains(name), "{name} in\n{text}");
    }
    for line in ["a=1", "b=2", "c=3", "HOME=/root"] {
        assert!(text.lines().any(|it| it == line), "{line} not in\n{text}");
    }
}

fn the_sandbox_has_proc_sys_and_dev(sandbox: &Sandbox) {
    sandbox.busybox();
    let script = "RUN <<'EOT'
exec > /out 2>&1
echo pid $$
echo null > /dev/null && echo null writable
head -c 4 /dev/zero | wc -c
head -c 4 /dev/urandom | wc -c
[ -c /dev/full ] && [ -c /dev/tty ] && [ -c /dev/random ] && echo devices
for link in fd stdin stdout stderr; do readlink /dev/$link; done
[ -d /dev/shm ] && echo x > /dev/shm/x && echo shm
ls -d /dev/pts /dev/mqueue
cat /proc/self/status > /dev/null && echo proc
echo x > /proc/sys/kernel/hostname || echo sysctl read-only
echo b > /proc/sysrq-trigger || echo sysrq refused
mkdir /sys/x || echo sys read-only
[ -s /proc/kcore ] || echo kcore masked
ls /proc/acpi /proc/scsi /sys/firmware
cat /proc/1/cgroup > /dev/null && echo cgroup
EOT";
    let text = says(sandbox, script);
    for line in [
        "null writable",
        "devices",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "shm",
        "/dev/pts",
        "proc",
        "sysctl read-only",
        "sysrq refused",
        "sys read-only",
        "kcore masked",
    ] {
        assert!(text.lines().any(|it| it == line), "`{line}` not in\n{text}");
    }
    assert_eq!(
        text.lines().filter(|line| *line == "4").count(),
        2,
        "{text}"
    );
}

fn capabilities_are_the_usual_set(sandbox: &Sandbox) {
    sandbox.busybox();
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
    // sys_chroot, mknod, audit_write, setfcap: what docker and podman give.
    let text = says(sandbox, "RUN grep ^Cap /proc/self/status > /out");
    for line in text.lines() {
        let (name, value) = line.split_once(":\t").unwrap();
        let expected = match name {
            "CapPrm" | "CapEff" | "CapBnd" => 0xa804_25fb,
            _ => 0,
        };
        assert_eq!(u64::from_str_radix(value, 16).unwrap(), expected, "{text}");
    }
    // A user of the image has none.
    let text = says(
        sandbox,
        "RUN touch /out && chmod 666 /out\nUSER app\n\
        RUN grep CapEff /proc/self/status > /out",
    );
    assert_eq!(text, "CapEff:\t0000000000000000\n");
}

fn dangerous_calls_are_refused(sandbox: &Sandbox) {
    sandbox.busybox();
    let text = says(
        sandbox,
        "RUN <<'EOT'
exec > /out 2>&1
grep Seccomp: /proc/self/status
mount -t tmpfs none /mnt || echo mount refused
mount -o remount,rw /sys || echo remount refused
umount /proc || echo umount refused
unshare -m true || echo unshare refused
hostname other || echo hostname refused
date -s 2001-01-01
dmesg > /dev/null || echo dmesg refused
chroot / true && echo chroot works
EOT",
    );
    for line in [
        "Seccomp:\t2",
        "mount refused",
        "remount refused",
        "umount refused",
        "unshare refused",
        "hostname refused",
        // It says so and succeeds.
        "date: can't set date: Operation not permitted",
        "chroot works",
    ] {
        assert!(text.lines().any(|it| it == line), "`{line}` not in\n{text}");
    }
}

fn processes_and_hosts_are_out_of_sight(sandbox: &Sandbox) {
    sandbox.busybox();
    let text = says(
        sandbox,
        "RUN ls -d /proc/[0-9]* | wc -l > /out; hostname >> /out",
    );
    let mut lines = text.lines();
    // The init, the shell, ls and wc; nothing of the host.
    let processes: u32 = lines.next().unwrap().parse().unwrap();
    assert!(processes <= 5, "{text}");
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(lines.next().unwrap(), own.trim_end());
    // No file of the host shows.
    let text = says(sandbox, "RUN cat /proc/self/mountinfo > /out");
    let points: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    assert!(points.contains(&"/"), "{text}");
    for point in points {
        let known = ["/proc", "/sys", "/dev", "/etc/", "/run/", "/tmp/"];
        assert!(
            point == "/" || known.iter().any(|it| point.starts_with(it)),
            "{point}\n{text}"
        );
    }
}

/// §10.8.
fn no_network_means_loopback_only(sandbox: &Sandbox) {
    sandbox.busybox();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends every connection at once; ends itself with the test's process.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
        }
    });
    let connect =
        format!("nc -w 2 127.0.0.1 {port} < /dev/null && echo open > /out || echo shut > /out");
    assert_eq!(says(sandbox, &format!("RUN {connect}")), "open\n");
    assert_eq!(
        says(sandbox, &format!("RUN --network=none {connect}")),
        "shut\n"
    );
    let text = says(
        sandbox,
        "RUN --network=none ls /sys/class/net > /out; ip -o addr >> /out",
    );
    assert!(
        text.starts_with("lo\n") && text.contains("127.0.0.1"),
        "{text}"
    );
    assert!(!text.contains("eth"), "{text}");
    // For all steps at once.
    sandbox.dockerfile(&format!("FROM busybox\nRUN {connect}\n"));
    let (image, _) = sandbox.build_with(&["--network", "none"]);
    assert_eq!(image.tree().text("out"), "shut\n");
}

/// §10.4.
fn there_is_no_input(sandbox: &Sandbox) {
    sandbox.busybox();
    assert_eq!(says(sandbox, "RUN cat | wc -c > /out"), "0\n");
}

fn output_comes_line_by_line(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo out; echo err >&2; printf 'no end'\nRUN seq 20000\n");
    let steps = sandbox.steps(&[]);
    let mut lines = steps.output("echo out");
    lines.sort_unstable();
    assert_eq!(lines, ["err", "no end", "out"]);
    let numbers: Vec<String> = (1..=20000).map(|number: u32| number.to_string()).collect();
    assert_eq!(steps.output("seq"), numbers);
    // It is there while the step still runs.
    sandbox.dockerfile("FROM busybox\nRUN echo first; sleep 600\n");
    let mut running = sandbox
        .strata()
        .args(["build", "--progress", "plain"])
        .arg(sandbox.context())
        .spawn();
    running.wait_for_line("first");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(!running.wait().status.success());
}

/// §10.6.
fn a_failed_step_says_which_and_how(sandbox: &Sandbox) {
    sandbox.busybox();
    for (run, parts) in [
        (
            "echo before; exit 7",
            &["exit code: 7", "before", "Dockerfile:2"] as &[_],
        ),
        ("kill -9 $$", &["Dockerfile:2"]),
        ("no-such-program", &["127", "no-such-program"]),
    ] {
        let said = sandbox.build_fails(&format!("FROM busybox\nRUN {run}\n"), 1);
        for part in parts {
            assert!(said.contains(part), "{part} not in\n{said}");
        }
    }
    let said = sandbox.build_fails("FROM busybox\nRUN [\"/no/such\"]\n", 1);
    assert!(said.contains("/no/such"), "{said}");
    // Its predecessors are kept.
    sandbox.dockerfile("FROM busybox\nRUN echo kept > /kept\nRUN exit 1\n");
    sandbox.try_build(&[]).failure(1);
    let again = sandbox.try_build(&[]).failure(1).steps();
    assert_eq!(again.cached(), ["RUN echo kept > /kept"]);
    assert_eq!(again.failed(), ["RUN exit 1"]);
}

/// §10.7, §12.3.
fn a_step_that_changes_nothing_makes_an_empty_layer(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build("FROM busybox\nRUN true\nRUN touch /tmp/x && rm /tmp/x\n");
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.layers[1].files(), Vec::<&str>::new());
    assert_eq!(image.top().files(), Vec::<&str>::new());
}

/// §16.1.
fn deletions_are_whiteouts(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox\nRUN mkdir -p /d/e && echo 1 > /d/f && echo 1 > /d/e/f\n\
         RUN rm /d/f && rm -r /d/e && rm /etc/group\n",
    );
    assert_eq!(image.top().files(), ["d/.wh.e", "d/.wh.f", "etc/.wh.group"]);
    assert!(image.tree().has("d") && !image.tree().has("d/f") && !image.tree().has("etc/group"));
    // Gone for the steps above, and for copies.
    let image = sandbox.build(
        "FROM busybox AS x\nRUN echo 1 > /f\nRUN rm /f\nRUN ls / > /ls\n\
         FROM scratch\nCOPY --from=x /ls /\n",
    );
    assert!(!image.tree().text("ls").lines().any(|name| name == "f"));
}

/// §16.1.
fn a_replaced_directory_hides_what_was_in_it(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox\nRUN mkdir -p /d/sub && echo old > /d/old && echo old > /d/sub/old\n\
         RUN rm -r /d && mkdir /d && echo new > /d/new\nRUN ls /d > /out\n",
    );
    let tree = image.tree();
    assert_eq!(tree.lines_below("d"), ["d 0755 0:0 d", "f 0644 0:0 d/new"]);
    assert_eq!(tree.text("out"), "new\n");
    // A file in a directory's place, and the other way round.
    let image = sandbox.build(
        "FROM busybox\nRUN mkdir /d && echo x > /d/x && echo f > /f\n\
         RUN rm -r /d && echo file > /d && rm /f && mkdir /f && echo y > /f/y\n",
    );
    assert_eq!(image.tree().text("d"), "file\n");
    assert_eq!(
        image.tree().lines_below("f"),
        ["d 0755 0:0 f", "f 0644 0:0 f/y"]
    );
}

fn owners_modes_and_links_of_a_step_are_kept(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox\nRUN <<'EOT'
mkdir -m 1777 /d
cd /d
echo a > a && chown 1:2 a && chmod 4711 a
ln a b
ln -s /nowhere c && chown -h 65534:65534 c
mkfifo -m 600 p
mkdir -m 2755 s && chown 0:7 s && chmod g+s s
touch -d @1000000001 a
EOT
",
    );
    assert_eq!(
        image.changes(),
        [
            "d 1777 0:0 d",
            "f 4711 1:2 d/a",
            "h 4711 1:2 d/b => d/a",
            "l 0777 65534:65534 d/c -> /nowhere",
            "p 0600 0:0 d/p",
            "d 2755 0:7 d/s",
        ]
    );
    assert_eq!(image.top().at("d/a").mtime, 1_000_000_001);
}

/// §16.2.
fn a_changed_name_of_a_hard_link_group_leaves_the_others(sandbox: &Sandbox) {
    sandbox.busybox();
    // As everywhere on overlayfs: the first change copies the file up under one name.
    let image = sandbox.build(
        "FROM busybox\nRUN echo 1 > /a && ln /a /b && ln /a /c\nRUN echo 2 >> /b\n\
         RUN cat /a /b /c > /out\n",
    );
    let tree = image.tree();
    assert_eq!(tree.text("out"), "1\n1\n2\n1\n");
    assert_eq!(image.layers[2].files(), ["b"]);
    // Within one step it is one file.
    let image = sandbox.build("FROM busybox\nRUN echo 1 > /a && ln /a /b && echo 2 >> /b\n");
    assert_eq!(image.changes(), ["f 0644 0:0 a", "h 0644 0:0 b => a"]);
    assert_eq!(image.tree().text("b"), "1\n2\n");
}

fn attributes_only_change_is_a_change(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build("FROM busybox\nRUN chmod 600 /etc/group && chown 5 /etc/passwd\n");
    assert_eq!(
        image.changes(),
        ["f 0600 0:0 etc/group", "f 0644 5:0 etc/passwd"]
    );
    assert!(image.tree().text("etc/group").contains("extra"));
    let image = sandbox.build("FROM busybox\nRUN chmod 700 /tmp && chown 3:4 /var\n");
    assert_eq!(image.changes(), ["d 0700 0:0 tmp", "d 0755 3:4 var"]);
}

/// §10.5.
fn mount_points_leave_no_trace(sandbox: &Sandbox) {
    sandbox.write("busybox", std::fs::read("/bin/busybox").unwrap());
    // An image without /proc, /sys, /dev, /etc and /tmp.
    let image = sandbox.build(
        "FROM scratch\nCOPY --chmod=755 busybox /bin/\nRUN [\"/bin/busybox\", \"touch\", \"/made\"]\n\
         RUN --mount=type=tmpfs,target=/a/b --mount=type=cache,target=/c [\"/bin/busybox\", \"true\"]\n",
    );
    assert_eq!(image.layers[1].files(), ["made"]);
    assert_eq!(image.layers[2].lines_below("a"), Vec::<String>::new());
    assert_eq!(image.tree().lines_below("etc"), Vec::<String>::new());
    for name in ["proc", "sys", "dev", "c"] {
        assert!(!image.tree().has(name), "{name}");
    }
}

/// §10.5.
fn files_given_to_a_step_are_not_in_the_layer(sandbox: &Sandbox) {
    sandbox.busybox();
    let image =
        sandbox.build("FROM busybox\nRUN cat /etc/resolv.conf /etc/hosts > /dev/null; true\n");
    assert_eq!(image.top().files(), Vec::<&str>::new());
    // The image's own files of these names survive, whatever is mounted over them.
    let image =
        sandbox.build("FROM busybox\nCOPY <<a /etc/hosts\nown\na\nRUN cat /etc/hosts > /out\n");
    assert_eq!(image.tree().text("etc/hosts"), "own\n");
}

/// §11.5.
fn secrets_are_there_for_one_step_only(sandbox: &Sandbox) {
    sandbox.busybox();
    let secret = "correct-horse-battery";
    let file = sandbox.path("out/secret");
    std::fs::write(&file, secret).unwrap();
    sandbox.hand_over(&file);
    sandbox.dockerfile(
        "FROM busybox\n\
         RUN --mount=type=secret,id=one wc -c < /run/secrets/one > /size; \
         stat -c '%a %u' /run/secrets/one >> /size\n\
         RUN --mount=type=secret,id=two,target=/two,mode=0444,required=true wc -c < /two > /size2\n\
         RUN --mount=type=secret,id=two,env=TWO echo ${#TWO} > /size3\n\
         RUN --mount=type=secret,id=absent ls /run/secrets | wc -l > /size4\n\
         RUN ls /run | wc -l > /size5\n",
    );
    let one = format!("id=one,src={}", file.display());
    let archive = sandbox.fresh_output("tar");
    let output = sandbox
        .strata()
        .args([
            "build",
            "--progress",
            "json",
            "--secret",
            &one,
            "--secret",
            "id=two,env=SECRET_TWO",
        ])
        .arg(format!("--output=type=oci,dest={}", archive.display()))
        .env("SECRET_TWO", secret)
        .arg(sandbox.context())
        .output()
        .success();
    let tree = crate::support::Image::read(&archive).tree();
    assert_eq!(tree.text("size"), "21\n400 0\n");
    assert_eq!(tree.text("size2"), "21\n");
    assert_eq!(tree.text("size3"), "21\n");
    assert_eq!(tree.text("size4"), "0\n");
    assert_eq!(tree.text("size5"), "0\n");
    assert!(!output.stderr.contains(secret));
    // Nowhere in the store, not even in a record.
    let grep = std::process::Command::new("grep")
        .args(["-rl", secret])
        .arg(sandbox.path("store"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    sandbox.dockerfile("FROM busybox\nRUN --mount=type=secret,id=gone,required=true true\n");
    sandbox.try_build(&[]).failure(1).says("gone");
}

fn leftover_processes_are_ended(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox\nRUN (sleep 987654 &) ; (trap '' TERM HUP; sleep 987655) & echo done > /out\n",
    );
    assert_eq!(image.tree().text("out"), "done\n");
    for entry in std::fs::read_dir("/proc").unwrap() {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(!line.starts_with("sleep 98765"), "{line}");
    }
}

fn limits_hold(sandbox: &Sandbox) {
    sandbox.busybox();
    let text = says(sandbox, "RUN ulimit -n > /out; ulimit -c >> /out");
    let open: u64 = text.lines().next().unwrap().parse().unwrap();
    assert!(open >= 1024, "{text}");
}

fn a_cache_mount_lives_on_between_builds(sandbox: &Sandbox) {
    sandbox.busybox();
    for (turn, seen) in [(1, "1\n"), (2, "1\n2\n"), (3, "1\n2\n3\n")] {
        let image = sandbox.build(&format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c echo {turn} >> /c/log && cp /c/log /out\n"
        ));
        assert_eq!(image.tree().text("out"), seen);
        assert!(!image.tree().has("c"), "turn {turn}");
    }
    let image = sandbox
        .build("FROM busybox\nRUN --mount=type=cache,target=/other,id=/c cp /other/log /out\n");
    assert_eq!(image.tree().text("out"), "1\n2\n3\n");
}

/// §11.2.
fn bind_and_tmpfs_mounts_are_for_one_step(sandbox: &Sandbox) {
    sandbox.busybox().write("in/a", "context\n");
    let image = sandbox.build(
        "FROM busybox AS s\nRUN echo stage > /f\nFROM busybox\n\
         RUN --mount=target=/c,source=in cat /c/a > /out; echo x > /c/b || echo ro >> /out\n\
         RUN --mount=type=bind,from=s,source=/f,target=/f cat /f >> /out\n\
         RUN --mount=type=bind,source=in,target=/w,rw echo x > /w/b && ls /w >> /out\n\
         RUN --mount=type=tmpfs,target=/t echo x > /t/x && ls /t >> /out\n",
    );
    assert_eq!(image.tree().text("out"), "context\nro\nstage\na\nb\nx\n");
    for name in ["c", "f", "w", "t"] {
        assert!(!image.tree().has(name), "{name}");
    }
    assert!(!sandbox.context().join("in/b").exists());
}

fn many_layers_can_be_stacked(sandbox: &Sandbox) {
    sandbox.busybox();
    let mut dockerfile = "FROM busybox\n".to_owned();
    for number in 0..130 {
        dockerfile += &format!("RUN echo {number} > /f{number}; rm -f /f{}\n", number - 2);
    }
    let image = sandbox.build(&dockerfile);
    assert_eq!(image.layers.len(), 131);
    let tree = image.tree();
    assert!(tree.has("f129") && tree.has("f128") && !tree.has("f127") && !tree.has("f0"));
}

fn renames_across_layers_work(sandbox: &Sandbox) {
    sandbox.busybox();
    // overlayfs answers EXDEV to the rename of a directory of a lower layer; mv then copies.
    let image = sandbox.build(
        "FROM busybox\nRUN mkdir -p /d/e && echo x > /d/e/x && echo y > /y\n\
         RUN mv /d /moved && mv /y /z\nRUN ls -d /d /y /moved/e/x /z 2> /dev/null > /out; true\n",
    );
    assert_eq!(image.tree().text("out"), "/moved/e/x\n/z\n");
    assert_eq!(
        image.layers[2].files(),
        [".wh.d", ".wh.y", "moved/e/x", "z"]
    );
}

fn devices_can_be_made_by_root(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build("FROM busybox\nRUN mknod -m 640 /zero c 1 5 && mknod /b b 7 99\n");
    assert_eq!(
        image.changes(),
        ["b 0644 0:0 b 7:99", "c 0640 0:0 zero 1:5"]
    );
}

/// §16.3.
fn a_file_capability_is_kept(sandbox: &Sandbox) {
    sandbox.import(crate::support::Base::Debian);
    sandbox.busybox();
    // perl-base is essential in Debian and can make the call that sets an attribute. The image
    // itself is a small one: Debian takes long to pack.
    let image = sandbox.build(
        "FROM demo/debian:12\nRUN <<'EOT'
cp /bin/true /capable
perl -e 'my ($file, $name) = (\"/capable\", \"security.capability\");
    my $value = pack(\"V5\", 0x02000001, 0x400, 0, 0, 0);
    syscall(188, $file, $name, $value, length($value), 0) == 0 or die \"$!\"'
EOT
FROM busybox
COPY --from=0 /capable /copied
RUN mv /copied /moved
",
    );
    let [.., copied, moved] = &*image.layers else {
        panic!("too few layers");
    };
    for node in [copied.at("copied"), moved.at("moved")] {
        let value = &node.xattrs["security.capability"];
        assert_eq!(value[..8], [1, 0, 0, 2, 0, 4, 0, 0]);
    }
    for layer in &image.layers {
        for (path, node) in &layer.0 {
            assert!(
                !node.xattrs.keys().any(|name| name.contains("overlay")),
                "{path}"
            );
        }
    }
}

fn a_step_may_open_as_many_files_as_the_caller(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo $(ulimit -Sn) $(ulimit -Hn) > /out\n");
    let archive = sandbox.fresh_output("tar");
    let line = format!(
        "ulimit -Sn 1000; ulimit -Hn 4000; exec {} --root {} build -q -o type=oci,dest={} {}",
        sandbox.binary().display(),
        sandbox.path("store").display(),
        archive.display(),
        sandbox.context().display()
    );
    crate::support::run_quietly("sh", &["-c", &line]);
    let image = crate::support::Image::read(&archive);
    assert_eq!(image.tree().text("out"), "1000 4000\n");
}

fn a_working_directory_that_is_gone_is_made_for_the_steps_user(sandbox: &Sandbox) {
    sandbox.busybox();
    let tree = sandbox
        .build("FROM busybox\nWORKDIR /w/x\nRUN rm -r /w\nUSER 1000:1001\nRUN touch mine\n")
        .tree();
    assert_eq!(
        tree.lines_below("/w"),
        [
            "d 0755 1000:1001 w",
            "d 0755 1000:1001 w/x",
            "f 0644 1000:1001 w/x/mine"
        ]
    );
}

fn mounts_can_be_given_to_every_step(sandbox: &Sandbox) {
    sandbox.busybox().write("shared", "1").dockerfile(
        "FROM busybox AS first\nRUN cat /run/secrets/s > /cache/kept\n\
         FROM busybox\nCOPY --from=first /bin/sh /sh\n\
         RUN cp /cache/kept /mnt/in /; grep -q '/scratch tmpfs' /proc/mounts && echo yes > /memory\n",
    );
    let bind = format!(
        "type=bind,source={},target=/mnt/in",
        sandbox.context().join("shared").display()
    );
    let args = [
        "--mount",
        "type=cache,id=c,target=/cache",
        "--mount",
        &bind,
        "--mount",
        "type=tmpfs,target=/scratch",
        "--mount",
        "type=secret,id=s",
        "--secret",
        "id=s,src=shared",
        "--jobs",
        "1",
    ];
    let (image, _) = sandbox.build_with(&args);
    let tree = image.tree();
    assert_eq!(
        ["kept", "in", "memory"].map(|name| tree.text(name)),
        ["1", "1", "yes\n"]
    );
    assert!(!tree.has("mnt") && !tree.has("cache") && !tree.has("scratch"));
    sandbox
        .try_build(&["--mount", "type=cache,target=/c,from=x"])
        .failure(2)
        .says("--mount");
}

fn ignored_paths_are_in_no_layer_and_in_every_key(sandbox: &Sandbox) {
    sandbox.busybox().write("in/keep", "").write("in/log/x", "");
    sandbox.dockerfile(
        "FROM busybox AS base
RUN mkdir -p /var/log && touch /var/log/old && mkdir -p /srv/tmp && touch /srv/tmp/old /a && ln /a /b
FROM base
RUN mkdir /var/log && touch /var/log/new /var/kept && ln /var/kept /var/log/linked
RUN mkdir -p /var/log /srv/tmp && echo x > /var/log/only
COPY in /var/
RUN mkdir -p /new/dir/tmp /var/log && touch /new/dir/tmp/x && ln -s /var/log /link && touch /link/through
WORKDIR /srv/tmp/work
RUN --mount=source=in/log,target=/mnt ls /mnt > /shown
",
    );
    let args = [
        "--ignore-path",
        "/var/log/",
        "--ignore-path",
        "/srv/./tmp",
        "--ignore-path",
        "/new/dir/tmp",
    ];
    sandbox.build_with(&["--target", "base"]);
    let (image, steps) = sandbox.build_with(&args);
    // The base, too, is another step with other ignored paths.
    assert_eq!(steps.ran().len(), 7, "{:?}", steps.ran());
    let tree = image.tree();
    for path in ["var/log", "srv/tmp", "new/dir/tmp"] {
        assert!(!tree.has(path), "{path}");
    }
    assert!(
        tree.has("var/kept") && tree.has("var/keep") && tree.has("link") && tree.has("new/dir")
    );
    assert_eq!(tree.text("shown"), "x\n");
    assert_eq!(image.layers[3].files(), [] as [&str; 0]);
    let (_, steps) = sandbox.build_with(&args);
    assert!(steps.ran().is_empty(), "{:?}", steps.ran());
    // What is below shows through, whatever a step did there.
    let ignored = ["--ignore-path", "/etc/passwd", "--ignore-path", "/bin"];
    sandbox.dockerfile(
        "FROM busybox\nRUN rm -r /etc/passwd /bin /root\nRUN ls -d /bin/sh /etc/passwd\n",
    );
    let (image, _) = sandbox.build_with(&ignored);
    let tree = image.tree();
    assert!(tree.has("etc/passwd") && tree.has("bin/sh") && !tree.has("root"));
    let lines = image.layers[1].lines();
    assert!(
        lines.len() == 1 && lines[0].ends_with(".wh.root"),
        "{lines:?}"
    );
    sandbox
        .try_build(&["--ignore-path", "/x/.."])
        .failure(2)
        .says("--ignore-path");
    sandbox
        .try_build(&["--ignore-path", "x"])
        .failure(2)
        .says("--ignore-path");
}

fn volumes_may_be_given_away_or_only_looked_at(sandbox: &Sandbox) {
    sandbox.busybox().write("shared/in", "1");
    let shared = sandbox.context().join("shared");
    let volume = |options: &str| format!("{}:/v:{options}", shared.display());
    let owner = || std::fs::metadata(shared.join("in")).unwrap().uid();
    let before = owner();
    sandbox.write(".dockerignore", "shared\n").dockerfile(
        "FROM busybox\nUSER 7:8\nRUN echo 2 >> /v/in; { cat /v/in; stat -c %u:%g /v/in; } > /v/out; cat /v/out\n",
    );
    let said = |options: &str| {
        let steps = sandbox.build_with(&["-v", &volume(options)]).1;
        steps.output("RUN echo").join(" ")
    };
    assert_eq!(said("U,O"), "12 7:8");
    assert_eq!((owner(), shared.join("out").exists()), (before, false));
    assert_eq!(std::fs::read_to_string(shared.join("in")).unwrap(), "1");
    assert_eq!(said("U"), "12 7:8");
    // On the machine it is whoever a step's user 7 is there.
    assert_ne!(owner(), before);
    assert!(shared.join("out").exists());
    sandbox
        .try_build(&["-v", "/etc:/v:U"])
        .failure(2)
        .says("`/etc`");
    sandbox
        .try_build(&["-v", "/dev/null:/v:O"])
        .failure(2)
        .says("no directory");
}

fn volumes_show_paths_of_the_machine(sandbox: &Sandbox) {
    sandbox.busybox().write("shared/in", "1");
    let shared = sandbox.context().join("shared");
    let volume = |options: &str| format!("{}:/mnt/v{options}", shared.display());
    sandbox.write(".dockerignore", "shared\n").dockerfile(
        "FROM busybox\nRUN cp /mnt/v/in /got; echo x 2> /dev/null > /mnt/v/out || echo no > /refused\n",
    );
    let (image, _) = sandbox.build_with(&["--volume", &volume(":ro")]);
    let tree = image.tree();
    assert_eq!(
        (tree.text("got").as_str(), tree.text("refused").as_str()),
        ("1", "no\n")
    );
    // Where it is mounted leaves no trace.
    assert!(!tree.has("mnt"), "{:?}", image.changes());
    // The mode of access is in the key.
    let (image, _) = sandbox.build_with(&["-v", &volume("")]);
    assert!(!image.tree().has("refused"));
    assert_eq!(std::fs::read_to_string(shared.join("out")).unwrap(), "x\n");
    // What is there is not.
    sandbox.write("shared/in", "2");
    let (image, steps) = sandbox.build_with(&["-v", &volume("")]);
    assert_eq!(
        (image.tree().text("got").as_str(), steps.ran().len()),
        ("1", 0)
    );
    let (image, _) = sandbox.build_with(&["-v", &volume(""), "--no-cache"]);
    assert_eq!(image.tree().text("got"), "2");
    sandbox
        .try_build(&["-v", "/no/such/path:/x"])
        .failure(2)
        .says("/no/such/path");
}
