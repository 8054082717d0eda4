use super::*;

fn mount(text: &str) -> Mount {
    MountFlag::parse(text).unwrap().mount.unwrap()
}

/// §11.2, §11.3, §11.4, §11.5, §11.6.
#[test]
fn kinds_have_their_defaults() {
    let bind = mount("target=/x");
    assert_eq!(
        (bind.kind, bind.read_only, bind.target.as_deref()),
        (MountKind::Bind, true, Some("/x"))
    );
    let cache = mount("type=cache,target=/c");
    assert_eq!(
        (cache.read_only, cache.sharing, cache.id),
        (false, Sharing::Shared, None)
    );
    assert!(!mount("type=tmpfs,target=/t").read_only);
    assert!(mount("type=secret,id=s").read_only);
    assert!(!mount("type=secret,id=s").required);
    assert_eq!(mount("type=ssh").id, None);
    assert_eq!(mount("type=bind").target, None);
}

/// §11.1, §11.3.
#[test]
fn options_are_read() {
    let all =
        mount("type=cache,id=a=b,dst=/c,src=/s,from=stage,sharing=LOCKED,mode=0755,uid=1,gid=2,ro");
    assert_eq!(all.id.as_deref(), Some("a=b"));
    assert_eq!(
        (all.source.as_deref(), all.from.as_deref()),
        (Some("/s"), Some("stage"))
    );
    assert_eq!(
        (all.sharing, all.mode, all.uid, all.gid),
        (Sharing::Locked, Some(0o755), Some(1), Some(2))
    );
    assert!(all.read_only);
    let secret = mount("TYPE=SECRET,id=s,env=TOKEN,required,Target=/t,mode=400");
    assert_eq!(
        (
            secret.env.as_deref(),
            secret.required,
            secret.target.as_deref()
        ),
        (Some("TOKEN"), true, Some("/t"))
    );
    assert_eq!(mount("type=tmpfs,target=/t,size=64m").size, Some(64 << 20));
    for (text, read_only) in [
        ("target=/x,rw", false),
        ("target=/x,rw=false", true),
        ("target=/x,readwrite=1", false),
        ("target=/x,readonly=false", false),
        ("type=cache,target=/x,readonly", true),
    ] {
        assert_eq!(mount(text).read_only, read_only, "{text}");
    }
    // The order of options doesn't matter.
    assert!(mount("required=true,id=s,type=secret").required);
}

/// §11.1.
#[test]
fn fields_may_be_quoted() {
    let quoted = mount("\"target=/a,b\",\"source=/say \"\"hi\"\"\"");
    assert_eq!(
        (quoted.target.as_deref(), quoted.source.as_deref()),
        (Some("/a,b"), Some("/say \"hi\""))
    );
}

#[test]
fn sizes_are_powers_of_1024() {
    for (rule, text, bytes) in [
        ("§11.4", "0", Some(0)),
        ("§11.4", "512", Some(512)),
        ("§11.4", "512b", Some(512)),
        ("§11.4", "1k", Some(1024)),
        ("§11.4", "1KB", Some(1024)),
        ("§11.4", "1KiB", Some(1024)),
        ("§11.4", "1.5m", Some(3 << 19)),
        ("§11.4", "2 g", Some(2 << 30)),
        ("§11.4", "x", None),
        ("§11.4", "1x", None),
        ("§11.4", "-1", None),
        ("§11.4", "i", None),
        ("§11.4", "1i", None),
        ("§11.4", "99999999999999999999", None),
        ("§11.4", "9999999p", None),
    ] {
        assert_eq!(parse_size(text), bytes, "{rule}: {text}");
    }
}

#[test]
fn mistakes_are_named_at_their_place() {
    let rows = [
        ("§11.1", "", "the mount is empty", ""),
        (
            "§11.1",
            "taget=/x",
            "unknown mount option `taget`",
            "taget=/x",
        ),
        (
            "§11.1",
            "target",
            "mount option `target` needs a value: `target=...`",
            "target",
        ),
        (
            "§11.7",
            "target=/",
            "a mount can't have `/` as its target",
            "/",
        ),
        (
            "§11.7",
            "target=/a/..",
            "a mount can't have `/` as its target",
            "/a/..",
        ),
        (
            "§11.1",
            "type=cach,target=/x",
            "invalid value `cach` for mount option `type`: one of `bind`, `cache`, `tmpfs`, `secret`, `ssh`",
            "cach",
        ),
        (
            "§11.1",
            "type=cache,target=/x,sharing=lock",
            "invalid value `lock` for mount option `sharing`: one of `shared`, `private`, `locked`",
            "lock",
        ),
        (
            "§11.8",
            "target=/x,mode=755",
            "mount option `mode` doesn't go with `type=bind`",
            "mode=755",
        ),
        (
            "§11.8",
            "type=tmpfs,target=/x,uid=1",
            "mount option `uid` doesn't go with `type=tmpfs`",
            "uid=1",
        ),
        (
            "§11.8",
            "target=/x,size=1m",
            "mount option `size` doesn't go with `type=bind`",
            "size=1m",
        ),
        (
            "§11.8",
            "target=/x,required",
            "mount option `required` doesn't go with `type=bind`",
            "required",
        ),
        (
            "§11.8",
            "target=/x,sharing=locked",
            "mount option `sharing` doesn't go with `type=bind`",
            "sharing=locked",
        ),
        (
            "§11.8",
            "type=ssh,env=X",
            "mount option `env` doesn't go with `type=ssh`",
            "env=X",
        ),
        (
            "§11.8",
            "type=secret,id=a,from=b",
            "mount option `from` doesn't go with `type=secret`",
            "from=b",
        ),
        (
            "§11.5",
            "type=secret,id=a,source=b",
            "a secret takes `id` or `source`, not both",
            "source=b",
        ),
        (
            "§11.1",
            "type=cache,target=/x,uid=-1",
            "invalid value `-1` for mount option `uid`: a number below 2^32",
            "-1",
        ),
        (
            "§11.1",
            "type=cache,target=/x,mode=9",
            "invalid value `9` for mount option `mode`: an octal number",
            "9",
        ),
        (
            "§11.1",
            "target=/x,ro=maybe",
            "invalid value `maybe` for mount option `ro`: `true` or `false`",
            "maybe",
        ),
        (
            "§11.1",
            "type=tmpfs,target=/x,size=big",
            "invalid value `big` for mount option `size`: a size such as `64m`",
            "big",
        ),
        (
            "§5.17",
            "from=$x,target=/x",
            "`from` of a mount can't hold variables",
            "$x",
        ),
        ("§11.1", "target=/x,", "unknown mount option ``", ""),
        (
            "§11.1",
            "target=\"/x\"",
            "a quote inside an option: quote the whole option",
            "\"",
        ),
        (
            "§11.1",
            "\"target=/x",
            "a quote isn't closed",
            "\"target=/x",
        ),
        ("§11.1", "\"target=/x\"y", "text after a closing quote", ""),
        (
            "§11.12",
            "target=/x,dev",
            "mount option `dev` can't be had: device nodes open nothing in a mount",
            "dev",
        ),
        (
            "§11.12",
            "target=/x,nodev=false",
            "mount option `nodev` can't be had: device nodes open nothing in a mount",
            "nodev=false",
        ),
        (
            "§11.12",
            "target=/x,U=x",
            "invalid value `x` for mount option `u`: `true` or `false`",
            "x",
        ),
        (
            "§11.12",
            "target=/x,bind-propagation=both",
            "invalid value `both` for mount option `bind-propagation`: one of `private`, `shared`, `slave`, `unbindable`, or one of them with an `r` in front",
            "both",
        ),
        (
            "§11.12",
            "type=tmpfs,target=/x,rshared",
            "mount option `rshared` doesn't go with `type=tmpfs`",
            "rshared",
        ),
        (
            "§11.12",
            "target=/x,relabel=x",
            "invalid value `x` for mount option `relabel`: `shared` or `private`",
            "x",
        ),
        (
            "§11.12",
            "type=tmpfs,target=/x,z",
            "mount option `z` doesn't go with `type=tmpfs`",
            "z",
        ),
    ];
    for (rule, text, message, place) in rows {
        let error = MountFlag::parse(text).unwrap_err();
        assert_eq!(error.to_string(), message, "{rule}: {text}");
        assert_eq!(
            error.span().map(|span| span.text(text)),
            Some(place),
            "{rule}: {text}"
        );
    }
    assert_eq!(
        MountFlag::parse("type=secret"),
        Err(MountError::SecretWithoutName)
    );
    let error = MountFlag::parse("taget=/x").unwrap_err();
    assert_eq!(error.help().as_deref(), Some("did you mean `target`?"));
    let error = MountFlag::parse("type=ssh,env=X").unwrap_err();
    assert_eq!(error.help().as_deref(), Some("it goes with `type=secret`"));
}

/// §11.12.
#[test]
fn options_of_buildah_that_change_nothing_are_read() {
    for option in [
        "z",
        "Z",
        "relabel=shared",
        "relabel=private",
        "U=false",
        "chown=false",
        "nodev",
        "dev=false",
        "suid",
        "exec",
        "consistency=cached",
        "shared=false",
    ] {
        for kind in ["bind", "cache"] {
            let plain = format!("type={kind},target=/x");
            assert_eq!(
                mount(&format!("{plain},{option}")),
                mount(&plain),
                "{option}"
            );
        }
    }
}

/// §11.12.
#[test]
fn words_about_a_mount_itself_are_read() {
    let words = |text: &str| mount(&format!("target=/x,{text}")).words;
    let plain = MountWords::default();
    for text in ["U", "u=true", "chown", "CHOWN=1"] {
        assert_eq!(
            words(text),
            MountWords {
                chown: true,
                ..plain
            }
        );
    }
    let both = MountWords {
        no_exec: true,
        no_suid: true,
        ..plain
    };
    assert_eq!(words("noexec,nosuid,nodev"), both);
    assert_eq!(words("noexec,exec,nosuid,suid"), plain);
    assert_eq!(words("exec=false,suid=0"), both);
    for (word, expected) in [
        ("private", (Propagation::Private, false)),
        ("rprivate", (Propagation::Private, true)),
        ("shared", (Propagation::Shared, false)),
        ("rshared", (Propagation::Shared, true)),
        ("slave", (Propagation::Slave, false)),
        ("rslave", (Propagation::Slave, true)),
        ("unbindable", (Propagation::Unbindable, false)),
        ("runbindable", (Propagation::Unbindable, true)),
    ] {
        assert_eq!(words(word).propagation, Some(expected), "{word}");
        let long = format!("bind-propagation={word}");
        assert_eq!(words(&long).propagation, Some(expected), "{word}");
    }
    assert!(words("bind-nonrecursive").no_recursion);
    let tmpfs = mount("type=tmpfs,target=/x,tmpfs-size=1m,tmpfs-mode=0700,noexec");
    assert_eq!((tmpfs.size, tmpfs.mode), (Some(1 << 20), Some(0o700)));
    assert!(tmpfs.words.no_exec);
}

#[test]
fn variables_wait_but_nothing_else_does() {
    let flag = MountFlag::parse("type=cache,target=$dir,from=base,mode=${m}").unwrap();
    assert_eq!(
        (flag.kind, flag.from.as_deref()),
        (Some(MountKind::Cache), Some("base"))
    );
    assert_eq!(flag.mount, None);
    let mut expand = |value: &str| Ok(value.replace("$dir", "/d").replace("${m}", "700"));
    let mount = flag.resolve(&mut expand).unwrap();
    assert_eq!(
        (mount.target.as_deref(), mount.mode),
        (Some("/d"), Some(0o700))
    );

    assert!(MountFlag::parse("type=cache,target=$dir,mode=9").is_err());
    assert!(MountFlag::parse("type=bind,target=$dir,mode=7").is_err());
    assert!(MountFlag::parse("type=$kind,target=/x,mode=7").is_ok());
    let flag = MountFlag::parse("target=$dir").unwrap();
    let error = flag.resolve(&mut |_| Ok("/".to_owned())).unwrap_err();
    assert!(matches!(error, MountError::RootTarget { .. }));
}
