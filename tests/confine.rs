//! Other walls: capabilities, filters, masks and labels that are asked for on the command line.

use crate::support::{Output, Sandbox, Who, cases, run_case};

cases! { Root, User =>
    capabilities_are_added_and_dropped,
    the_filter_follows_the_capabilities,
    a_profile_takes_the_place_of_the_usual_filter,
    set_id_programs_give_nothing_without_new_privileges,
    paths_are_masked_and_unmasked,
    labels_need_a_kernel_that_knows_them,
    walls_and_host_names_are_in_the_keys_of_commands,
}

cases! { Root =>
    a_profile_may_end_the_command,
}

/// An image named `it`.
fn image(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\n");
    sandbox.steps(&["-t", "it"]);
}

/// `strata run` of a shell command with these flags, whatever its result.
fn runs(sandbox: &Sandbox, flags: &[&str], command: &str) -> Output {
    let strata = sandbox.strata().arg("run").args(flags);
    strata.args(["it", "sh", "-c", command]).output()
}

/// The sets of the command's process with these flags.
fn set(sandbox: &Sandbox, flags: &[&str], name: &str) -> u64 {
    let said = runs(sandbox, flags, "cat /proc/self/status")
        .success()
        .stdout;
    let line = said.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
}

const USUAL: u64 = 0xa804_25fb;
const PTRACE: u64 = 1 << 19;

fn capabilities_are_added_and_dropped(sandbox: &Sandbox) {
    image(sandbox);
    let more = ["--cap-add", "sys_ptrace", "--cap-drop=CAP_MKNOD,NET_RAW"];
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        let expected = (USUAL | PTRACE) & !(1 << 27) & !(1 << 13);
        assert_eq!(set(sandbox, &more, name), expected, "{name}");
        let few = ["--cap-drop", "all", "--cap-add", "CHOWN"];
        assert_eq!(set(sandbox, &few, name), 1, "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(set(sandbox, &more, name), 0, "{name}");
    }
    // Somebody else has them in reach only.
    let flags = ["--cap-add=SYS_PTRACE", "-u", "1000"];
    assert_eq!(set(sandbox, &flags, "CapEff"), 0);
    assert_eq!(set(sandbox, &flags, "CapBnd"), USUAL | PTRACE);
    // Builds, too.
    sandbox.dockerfile("FROM busybox\nRUN grep CapEff /proc/self/status > /out\n");
    let (image, _) = sandbox.build_with(&["--cap-drop=ALL"]);
    assert_eq!(image.tree().text("out"), "CapEff:\t0000000000000000\n");
    runs(sandbox, &["--cap-add", "FLY"], "true")
        .failure(125)
        .says("`FLY` is no capability");
}

fn the_filter_follows_the_capabilities(sandbox: &Sandbox) {
    image(sandbox);
    let mount = "mkdir /m && mount -t tmpfs none /m && echo mounted";
    runs(sandbox, &[], mount).failure(1);
    let mounted = runs(sandbox, &["--cap-add=SYS_ADMIN"], mount).success();
    assert_eq!(mounted.stdout, "mounted\n");
    // The filter alone is not what holds.
    let open = ["--security-opt", "seccomp=unconfined"];
    runs(sandbox, &open, mount).failure(1);
    assert_eq!(set(sandbox, &open, "Seccomp:"), 0);
    assert_eq!(set(sandbox, &open, "CapEff"), USUAL);
}

/// A profile that lets all but two calls through.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
    {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
     "args": [{"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}]}]}"#;

fn a_profile_takes_the_place_of_the_usual_filter(sandbox: &Sandbox) {
    image(sandbox);
    sandbox.write("profile.json", PROFILE);
    let flags = ["--security-opt", "seccomp=profile.json"];
    let said = runs(
        sandbox,
        &flags,
        "mkdir /d; kill -12 $$; trap 'echo ten' 10; kill -10 $$; touch /f && echo on",
    )
    .success();
    assert_eq!(said.stdout, "ten\non\n", "{said}");
    let said = said.says("Read-only file system");
    said.says("Operation not permitted");
    // In a key, by its content.
    sandbox.dockerfile("FROM busybox\nRUN touch /f\n");
    assert_eq!(sandbox.steps(&flags).ran().len(), 1);
    assert_eq!(sandbox.steps(&flags).ran().len(), 0);
    sandbox.write("profile.json", PROFILE.replace("30", "22"));
    assert_eq!(sandbox.steps(&flags).ran().len(), 1);
    sandbox.write("profile.json", "{}");
    runs(sandbox, &flags, "true")
        .failure(125)
        .says("profile.json");
}

fn a_profile_may_end_the_command(sandbox: &Sandbox) {
    image(sandbox);
    let end = PROFILE.replace(
        "SCMP_ACT_ERRNO\", \"errnoRet\": 30",
        "SCMP_ACT_KILL_PROCESS\"",
    );
    sandbox.write("profile.json", end);
    let flags = ["--security-opt", "seccomp=profile.json"];
    // SIGSYS.
    runs(sandbox, &flags, "exec mkdir /d").failure(159);
}

fn set_id_programs_give_nothing_without_new_privileges(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN cp /bin/busybox /su && chmod 4755 /su\n");
    sandbox.steps(&["-t", "it"]);
    let nothing = ["-u", "1000", "--security-opt=no-new-privileges"];
    // The program looks at its own rights first.
    let without = "must be suid";
    let usual = runs(sandbox, &["-u", "1000"], "/su app -c true");
    assert!(!usual.stderr.contains(without), "{usual}");
    runs(sandbox, &nothing, "/su app -c true").says(without);
    assert_eq!(set(sandbox, &nothing, "NoNewPrivs:"), 1);
}

fn paths_are_masked_and_unmasked(sandbox: &Sandbox) {
    image(sandbox);
    let look = "cat /etc/passwd | wc -c; ls /home /root | wc -l; ls /bin | wc -l; \
                echo x > /etc/passwd; echo x > /bin/x";
    let mask = [
        "--security-opt=mask=/etc/passwd:/bin/../x",
        "--security-opt",
        "mask=/none",
    ];
    runs(sandbox, &mask, look).failure(125).says("`/bin/../x`");
    let mask = [
        "--security-opt=mask=/etc/passwd:/usr/bin",
        "--security-opt",
        "mask=/none",
    ];
    let said = runs(
        sandbox,
        &mask,
        "wc -c < /etc/passwd; ls -A /usr/bin | wc -l; touch /usr/bin/x; ls /none; echo end",
    )
    .success();
    assert_eq!(said.stdout, "0\n0\nend\n");
    let said = said.says("Read-only file system");
    said.says("/none: No such file");

    let write = "echo x > /proc/sysrq-trigger; \
                 test -c /proc/keys || echo keys; echo end";
    let refused = runs(sandbox, &[], write).success();
    assert_eq!(refused.stdout, "end\n");
    let flags = ["--security-opt=unmask=/proc/keys:/proc/acpi"];
    assert_eq!(runs(sandbox, &flags, write).success().stdout, "keys\nend\n");
    let read_only = "grep -c ' /proc/.* ro,' /proc/self/mountinfo";
    assert_ne!(runs(sandbox, &[], read_only).success().stdout, "0\n");
    let flags = ["--security-opt=unmask=ALL"];
    assert_eq!(runs(sandbox, &flags, read_only).failure(1).stdout, "0\n");
}

/// `.ci/vm/cgroup2-init` has loaded the profile. It allows everything but writing to `/denied`.
#[test]
#[ignore = "takes a kernel with AppArmor: `make test-cgroup2`"]
fn the_profile_that_is_asked_for_confines_commands() {
    for who in [Who::Root, Who::User, Who::OneId] {
        run_case(who, confined_by_a_profile);
    }
}

fn confined_by_a_profile(sandbox: &Sandbox) {
    const TRY: &str = "cat /proc/self/attr/current; echo x > /allowed && echo allowed; \
                       echo x > /denied || echo denied";
    image(sandbox);
    let option = "--security-opt=apparmor=strata-test";
    let confined = ["strata-test (enforce)", "allowed", "denied"];
    let said = runs(sandbox, &[option], TRY).success().stdout;
    assert_eq!(said.lines().collect::<Vec<_>>(), confined);
    let said = runs(sandbox, &[], TRY).success().stdout;
    let free: Vec<&str> = said.lines().collect();
    assert_eq!(free, ["unconfined", "allowed"]);
    sandbox.dockerfile(&format!("FROM busybox\nRUN {TRY}\nRUN test ! -e /denied\n"));
    let said = sandbox.try_build(&[option]).success().steps();
    let said = said.output("attr/current");
    assert!(confined.iter().all(|line| said.contains(line)), "{said:?}");
    // What the profile denies is what was there to be done.
    assert_eq!(
        sandbox
            .try_build(&[])
            .failure(1)
            .steps()
            .output("attr/current")
            .last(),
        Some(&"allowed")
    );
    runs(
        sandbox,
        &["--security-opt=apparmor=no-such-profile"],
        "true",
    )
    .failure(125)
    .says("no-such-profile");
}

/// `.ci/vm/cgroup2-init` has loaded the policy. It forbids `confined_t` to append to files.
#[test]
#[ignore = "takes a kernel with SELinux: `make test-cgroup2`"]
fn the_label_that_is_asked_for_confines_commands() {
    for who in [Who::Root, Who::User] {
        run_case(who, confined_by_a_label);
    }
}

fn confined_by_a_label(sandbox: &Sandbox) {
    const LABEL: &str = "tr -d '\\000' </proc/self/attr/current; echo";
    let try_it = format!("{LABEL}; echo x > /f && echo written; echo x >> /f || echo denied");
    image(sandbox);
    let option = "--security-opt=label=type:confined_t";
    let confined = ["system_u:system_r:confined_t:s0", "written", "denied"];
    let said = runs(sandbox, &[option], &try_it).success().stdout;
    assert_eq!(said.lines().collect::<Vec<_>>(), confined);
    let said = runs(sandbox, &[], &try_it).success().stdout;
    let free: Vec<&str> = said.lines().collect();
    assert_eq!(free, ["system_u:system_r:free_t:s0", "written"]);
    let level = [option, "--security-opt=label=level:s0:c0"];
    let said = runs(sandbox, &level, LABEL).success().stdout;
    assert_eq!(said, "system_u:system_r:confined_t:s0:c0\n");
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN {try_it}\nRUN test $(wc -l </f) = 1\n"
    ));
    let said = sandbox.try_build(&[option]).success().steps();
    let said = said.output("attr/current");
    assert!(confined.iter().all(|line| said.contains(line)), "{said:?}");
    // Every file here has a label, and no layer of an image has one.
    sandbox.steps(&[option, "-t", "labelled"]);
    let tree = sandbox.saved("labelled").tree();
    let labelled = |name: &String| name.starts_with("security.selinux");
    let mut entries = tree.0.values();
    assert!(!entries.any(|entry| entry.xattrs.keys().any(labelled)));
    runs(sandbox, &["--security-opt=label=type:nosuch_t"], "true")
        .failure(125)
        .says("nosuch_t");
}

fn labels_need_a_kernel_that_knows_them(sandbox: &Sandbox) {
    image(sandbox);
    for (module, option, file) in [
        (
            "AppArmor",
            "apparmor=no-such-profile",
            "/sys/module/apparmor",
        ),
        (
            "SELinux",
            "label=type:container_t",
            "/sys/fs/selinux/enforce",
        ),
    ] {
        let said = runs(sandbox, &["--security-opt", option], "true").failure(125);
        // Where there is one, neither profile nor type needs to be known.
        if !std::path::Path::new(file).exists() {
            said.says(&format!("this host's kernel has no {module}"));
        }
    }
    runs(sandbox, &["--security-opt=label=disable"], "true").success();
}

fn walls_and_host_names_are_in_the_keys_of_commands(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN hostname > /out\nWORKDIR /w\n");
    assert_eq!(sandbox.steps(&[]).ran().len(), 2);
    for flags in [
        &["--cap-add=SYS_PTRACE"][..],
        &["--security-opt=no-new-privileges"],
        &["--security-opt=unmask=/proc/kcore"],
        &["--hostname", "h"],
    ] {
        assert!(
            sandbox.steps(flags).ran().contains(&"RUN hostname > /out"),
            "{flags:?}"
        );
        assert_eq!(sandbox.steps(flags).ran(), Vec::<&str>::new(), "{flags:?}");
    }
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
    let (image, _) = sandbox.build_with(&["--hostname", "h"]);
    assert_eq!(image.tree().text("out"), "h\n");
}
