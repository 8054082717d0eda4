//! Networks of steps and containers, and how names are looked up in them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::signal::Signal;

use crate::support::world::{NAME, WORLD, World};
use crate::support::{Gate, Output, Sandbox, cases, run, skip, wait_until};

cases! { Root, User =>
    an_isolated_network_reaches_the_world_and_not_the_host,
    the_hosts_loopback_is_reached_only_if_asked_for,
    names_are_looked_up_though_the_hosts_server_is_on_its_loopback,
    a_killed_build_leaves_no_network_helper,
    without_a_helper_an_isolated_network_is_refused,
    what_a_helper_can_not_do_is_told,
    files_for_looking_names_up_are_in_no_image,
    the_resolver_is_as_flags_and_settings_say,
    the_host_gateway_is_the_host,
    a_step_can_have_another_network_than_the_build,
}

cases! { Root =>
    a_given_namespace_is_entered,
}

cases! { User =>
    a_namespace_of_others_is_refused,
}

/// An image named `it`.
fn image(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\n");
    sandbox.steps(&["-t", "it"]);
}

/// The sandbox's world, if this machine can have one.
fn world(sandbox: &Sandbox) -> Option<World> {
    let world = World::new(sandbox);
    if let Err(reason) = &world {
        skip(reason);
    }
    world.ok()
}

fn runs(sandbox: &Sandbox, flags: &[&str], command: &str) -> Output {
    let strata = sandbox.strata().arg("run").args(flags);
    strata.args(["it", "sh", "-c", command]).output()
}

/// Prints what a server says, or nothing. Its standard input stays open: passt of Debian 12 forgets
/// connections whose other side has said that it won't send.
fn ask(place: &str) -> String {
    format!("{{ [ -p /in ] || mkfifo /in; nc -w 5 {place} 0<> /in 2> /dev/null; }}")
}

fn an_isolated_network_reaches_the_world_and_not_the_host(sandbox: &Sandbox) {
    image(sandbox);
    let Some(world) = world(sandbox) else { return };
    // Where the host is, as seen from the world, from itself, and where helpers can show it.
    let elsewhere = ["127.0.0.1", "192.0.2.1", "10.0.2.2"].map(|at| ask(&format!("{at} 9000")));
    let script = format!(
        "{}; ({}) | grep . && echo reached the host; grep : /proc/net/dev | cut -d: -f1 | tr -d ' '",
        ask(WORLD),
        elsewhere.map(|ask| format!("{ask} &")).join(" ") + " wait"
    );
    for (network, interface) in [
        ("isolated", "wire"),
        ("pasta", "wire"),
        ("slirp4netns", "tap0"),
    ] {
        let output = world.on_host(|| runs(sandbox, &["--network", network], &script));
        let mut lines: Vec<&str> = output.stdout.lines().collect();
        lines[1..].sort_unstable();
        let mut expected = vec!["lo", interface];
        expected.sort_unstable();
        assert_eq!(lines[0], "the world", "{network}: {output}");
        assert_eq!(lines[1..], expected, "{network}: {output}");
    }
    // For comparison: the host's own network.
    let output = world.on_host(|| runs(sandbox, &[], &ask("127.0.0.1 9000")));
    assert_eq!(output.success().stdout, "the host\n");
}

fn the_hosts_loopback_is_reached_only_if_asked_for(sandbox: &Sandbox) {
    image(sandbox);
    let Some(world) = world(sandbox) else { return };
    for network in ["pasta:host-loopback", "slirp4netns:host-loopback"] {
        let flags = ["--network", network, "--add-host", "box:host-gateway"];
        let output = world.on_host(|| runs(sandbox, &flags, &ask("box 9000")));
        assert_eq!(output.success().stdout, "the host\n", "{network}");
    }
}

fn names_are_looked_up_though_the_hosts_server_is_on_its_loopback(sandbox: &Sandbox) {
    image(sandbox);
    let Some(world) = world(sandbox) else { return };
    world.resolve_by("search test.example\nnameserver 127.0.0.53\noptions ndots:1\n");
    let script = format!("nslookup -type=a {} && cat /etc/resolv.conf", NAME.0);
    for network in ["pasta", "slirp4netns"] {
        let output = world.on_host(|| runs(sandbox, &["--network", network], &script));
        let output = output.success();
        let found = output.stdout.contains(&format!("Address: {}", NAME.1));
        assert!(found, "{network}: {output}");
        let kept = ["search test.example\n", "options ndots:1\n"];
        assert!(kept.iter().all(|line| output.stdout.contains(line)));
    }
}

fn a_killed_build_leaves_no_network_helper(sandbox: &Sandbox) {
    let Some(world) = world(sandbox) else { return };
    for network in ["pasta:host-loopback", "slirp4netns:host-loopback"] {
        let gate = world.on_host(Gate::new);
        let gateway = match network {
            "pasta:host-loopback" => "192.0.2.1",
            _ => "10.0.2.2",
        };
        let port = gate.url("").rsplit(':').next().unwrap().to_owned();
        let command = ask(&format!("{gateway} {port}"));
        sandbox.busybox().dockerfile(&format!(
            "FROM busybox\nRUN trap '' TERM; {command}; true # {network}\n"
        ));
        let running = world.on_host(|| {
            let strata = sandbox.strata().args(["build", "--network", network]);
            strata.arg(sandbox.context()).spawn()
        });
        let waiting = gate.wait();
        let program = network.split(':').next().unwrap();
        // Only the host of this test has it.
        let there = helpers(&world, program);
        assert!(!there.is_empty(), "{network}");
        running.signal(Signal::SIGKILL);
        running.wait();
        wait_until("the helper is gone", || helpers(&world, program).is_empty());
        drop(waiting);
    }
}

/// Processes in the host's network that were started as `program`.
fn helpers(world: &World, program: &str) -> Vec<String> {
    let host = fs::metadata(world.path()).unwrap().ino();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|path| fs::metadata(path.join("ns/net")).is_ok_and(|net| net.ino() == host))
        .filter_map(|path| fs::read(path.join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            name.rsplit('/')
                .next()
                .unwrap_or_default()
                .starts_with(program)
        })
        .collect()
}

fn without_a_helper_an_isolated_network_is_refused(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\nRUN true\n");
    let Some(world) = world(sandbox) else { return };
    let world = world.without("pasta");
    let build = |network| {
        let strata = sandbox.strata().args(["build", "--network", network]);
        world.on_host(|| strata.arg(sandbox.context()).output())
    };
    build("pasta")
        .failure(1)
        .says("an isolated network needs `pasta` (Debian's passt), which is not installed");
    build("isolated").success();
    sandbox.dockerfile("FROM busybox\nRUN echo\n");
    let world = world.without("slirp4netns");
    let strata = sandbox.strata().args(["build", "--network", "isolated"]);
    let output = world.on_host(|| strata.arg(sandbox.context()).output());
    output.failure(1).says(
        "an isolated network needs `pasta` (Debian's passt) or `slirp4netns`, which is not \
         installed",
    );
}

fn what_a_helper_can_not_do_is_told(sandbox: &Sandbox) {
    image(sandbox);
    let Some(world) = world(sandbox) else { return };
    // pasta needs a way out to copy, slirp4netns doesn't.
    world.on_host(|| run(std::process::Command::new("ip").args(["route", "del", "default"])));
    let alone = |network| world.on_host(|| runs(sandbox, &["--network", network], "echo fine"));
    let refused = alone("pasta").failure(125);
    refused
        .says("give the isolated network its way out: ")
        .says("/pasta: ");
    assert_eq!(alone("isolated").success().stdout, "fine\n");
}

fn files_for_looking_names_up_are_in_no_image(sandbox: &Sandbox) {
    sandbox.busybox();
    // A base with files of its own, and one without even a directory for them.
    let image = sandbox.build(
        "FROM busybox AS files\nRUN true\n\
         FROM scratch\nCOPY --from=files /bin/busybox /bin/busybox\n\
         RUN [\"/bin/busybox\", \"test\", \"-s\", \"/etc/hosts\"]\n\
         COPY <<EOF /etc/hosts\nown\nEOF\n\
         RUN [\"/bin/busybox\", \"grep\", \"localhost\", \"/etc/hosts\"]\n",
    );
    let tree = image.tree();
    assert_eq!(tree.files(), ["bin/busybox", "etc/hosts"]);
    assert_eq!(tree.text("etc/hosts"), "own\n");
    let Some(world) = world(sandbox) else { return };
    sandbox.dockerfile(
        "FROM busybox\nRUN grep -q '^nameserver 192.0.2.9$' /etc/resolv.conf && touch /done\n",
    );
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let flags = ["build", "--network", "isolated", "--dns", "192.0.2.9"];
    let build = sandbox.strata().args(flags).args(["--output", &to]);
    world
        .on_host(|| build.arg(sandbox.context()).output())
        .success();
    let image = crate::support::Image::read(&archive);
    assert_eq!(image.changes(), ["f 0644 0:0 done"]);
}

fn the_resolver_is_as_flags_and_settings_say(sandbox: &Sandbox) {
    image(sandbox);
    let Some(world) = world(sandbox) else { return };
    world.resolve_by("search a.example\nnameserver 192.0.2.1\noptions ndots:3\n");
    let file = |flags: &[&str]| {
        let output = world.on_host(|| runs(sandbox, flags, "cat /etc/resolv.conf"));
        output.success().stdout
    };
    assert_eq!(
        file(&[]),
        "search a.example\nnameserver 192.0.2.1\noptions ndots:3\n"
    );
    let flags = ["--dns", "192.0.2.7", "--dns", "2001:db8::1"];
    assert_eq!(
        file(&flags),
        "search a.example\nnameserver 192.0.2.7\nnameserver 2001:db8::1\noptions ndots:3\n"
    );
    let flags = [
        "--dns-search",
        ".",
        "--dns-option",
        "ndots:1",
        "--dns-opt",
        "rotate",
    ];
    assert_eq!(
        file(&flags),
        "nameserver 192.0.2.1\noptions ndots:1 rotate\n"
    );
    assert_eq!(file(&["--network", "none"]), "");
    sandbox.configure(
        "[network]\ndefault = \"isolated\"\ndns = [\"192.0.2.8\"]\ndns-search = [\"b.example\"]\n",
    );
    let output = world.on_host(|| {
        runs(
            sandbox,
            &[],
            &format!("cat /etc/resolv.conf; {}", ask("127.0.0.1 9000")),
        )
    });
    assert_eq!(
        output.stdout,
        "search b.example\nnameserver 192.0.2.8\noptions ndots:3\n"
    );
    let output = world.on_host(|| {
        runs(
            sandbox,
            &["--network", "host", "--dns", "192.0.2.7"],
            "grep -c 192.0.2.7 /etc/resolv.conf",
        )
    });
    assert_eq!(output.success().stdout, "1\n");
}

fn the_host_gateway_is_the_host(sandbox: &Sandbox) {
    image(sandbox);
    let line = |flags: &[&str]| {
        let flags = [flags, &["--add-host", "box:host-gateway"]].concat();
        runs(sandbox, &flags, "grep box /etc/hosts || true")
    };
    assert_eq!(line(&[]).success().stdout, "127.0.0.1\tbox\n");
    assert_eq!(line(&["--network", "none"]).success().stdout, "");
    let Some(world) = world(sandbox) else { return };
    let refused = world
        .on_host(|| line(&["--network", "isolated"]))
        .failure(125);
    refused.says("use `--network isolated:host-loopback`");
}

fn a_step_can_have_another_network_than_the_build(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox\nENV LIST=\"grep -o [a-z0-9]*: /proc/net/dev\"\nRUN $LIST > all\nRUN --network=none $LIST > one\n\
         RUN --network=host $LIST > host\n\
         RUN --network=default $LIST > default\n",
    );
    let Some(world) = world(sandbox) else { return };
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let flags = [
        "build",
        "--network",
        "slirp4netns",
        "--allow",
        "network.host",
    ];
    let build = sandbox.strata().args(flags).args(["--output", &to]);
    world
        .on_host(|| build.arg(sandbox.context()).output())
        .success();
    let tree = crate::support::Image::read(&archive).tree();
    assert_eq!(tree.text("all"), "lo:\ntap0:\n");
    assert_eq!(tree.text("default"), "lo:\ntap0:\n");
    assert_eq!(tree.text("one"), "lo:\n");
    assert_eq!(tree.text("host"), "lo:\nwire:\n");
    // The helper is in no key, the kind of network is.
    let steps = |network| {
        let strata =
            sandbox
                .strata()
                .args(["build", "--progress", "json", "--allow", "network.host"]);
        let build = strata.args(["--network", network]).arg(sandbox.context());
        world.on_host(|| build.output()).success().steps()
    };
    assert_eq!(steps("pasta").ran(), Vec::<&str>::new());
    assert_eq!(steps("none").ran().len(), 4);
}

fn a_given_namespace_is_entered(sandbox: &Sandbox) {
    image(sandbox);
    let Some(world) = world(sandbox) else { return };
    let network = format!("ns:{}", world.path());
    let flags = ["--network", &network, "--add-host", "box:host-gateway"];
    let output = runs(
        sandbox,
        &flags,
        &format!("{}; grep box /etc/hosts", ask("127.0.0.1 9000")),
    );
    assert_eq!(output.success().stdout, "the host\n192.0.2.1\tbox\n");
    for (path, reason) in [
        ("ns:/none/such", "No such file"),
        ("ns:/etc/passwd", "it is no network namespace"),
    ] {
        let refused = runs(sandbox, &["--network", path], "true").failure(125);
        refused.says("enter the network namespace").says(reason);
    }
}

fn a_namespace_of_others_is_refused(sandbox: &Sandbox) {
    image(sandbox);
    let refused = runs(sandbox, &["--network", "ns:/proc/self/ns/net"], "true").failure(125);
    refused
        .says("enter the network namespace `/proc/self/ns/net`")
        .says("--network isolated");
}
