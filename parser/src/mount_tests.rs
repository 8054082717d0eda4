use super::*;

fn mount(text: &str) -> Mount {
    MountFlag::parse(text).unwrap().mount.unwrap()
}

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
    for (text, bytes) in [
        ("0", Some(0)),
        ("512", Some(512)),
        ("512b", Some(512)),
        ("1k", Some(1024)),
        ("1KB", Some(1024)),
        ("1KiB", Some(1024)),
        ("1.5m", Some(3 << 19)),
        ("2 g", Some(2 << 30)),
        ("x", None),
        ("1x", None),
        ("-1", None),
        ("i", None),
        ("1i", None),
        ("99999999999999999999", None),
        ("9999999p", None),
    ] {
        assert_eq!(parse_size(text), bytes, "{text}");
    }
}

#[test]
fn mistakes_are_named_at_their_place() {
    let rows = [
        ("", "the mount is empty", ""),
        ("taget=/x", "unknown mount option `taget`", "taget=/x"),
        (
            "target",
            "mount option `target` needs a value: `target=...`",
            "target",
        ),
        ("target=/", "a mount can't have `/` as its target", "/"),
        (
            "target=/a/..",
            "a mount can't have `/` as its target",
            "/a/..",
        ),
        (
            "type=cach,target=/x",
            "invalid value `cach` for mount option `type`: one of `bind`, `cache`, `tmpfs`, `secret`, `ssh`",
            "cach",
        ),
        (
            "type=cache,target=/x,sharing=lock",
            "invalid value `lock` for mount option `sharing`: one of `shared`, `private`, `locked`",
            "lock",
        ),
        (
            "target=/x,mode=755",
            "mount option `mode` doesn't go with `type=bind`",
            "mode=755",
        ),
        (
            "type=tmpfs,target=/x,uid=1",
            "mount option `uid` doesn't go with `type=tmpfs`",
            "uid=1",
        ),
        (
            "target=/x,size=1m",
            "mount option `size` doesn't go with `type=bind`",
            "size=1m",
        ),
        (
            "target=/x,required",
            "mount option `required` doesn't go with `type=bind`",
            "required",
        ),
        (
            "target=/x,sharing=locked",
            "mount option `sharing` doesn't go with `type=bind`",
            "sharing=locked",
        ),
        (
            "type=ssh,env=X",
            "mount option `env` doesn't go with `type=ssh`",
            "env=X",
        ),
        (
            "type=secret,id=a,from=b",
            "mount option `from` doesn't go with `type=secret`",
            "from=b",
        ),
        (
            "type=secret,id=a,source=b",
            "a secret takes `id` or `source`, not both",
            "source=b",
        ),
        (
            "type=cache,target=/x,uid=-1",
            "invalid value `-1` for mount option `uid`: a number below 2^32",
            "-1",
        ),
        (
            "type=cache,target=/x,mode=9",
            "invalid value `9` for mount option `mode`: an octal number",
            "9",
        ),
        (
            "target=/x,ro=maybe",
            "invalid value `maybe` for mount option `ro`: `true` or `false`",
            "maybe",
        ),
        (
            "type=tmpfs,target=/x,size=big",
            "invalid value `big` for mount option `size`: a size such as `64m`",
            "big",
        ),
        (
            "from=$x,target=/x",
            "`from` of a mount can't hold variables",
            "$x",
        ),
        ("target=/x,", "unknown mount option ``", ""),
        (
            "target=\"/x\"",
            "a quote inside an option: quote the whole option",
            "\"",
        ),
        ("\"target=/x", "a quote isn't closed", "\"target=/x"),
        ("\"target=/x\"y", "text after a closing quote", ""),
    ];
    for (text, message, place) in rows {
        let error = MountFlag::parse(text).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
        assert_eq!(
            error.span().map(|span| span.text(text)),
            Some(place),
            "{text}"
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
