//! Signatures of what is fetched: `[[git.signed]]` and `[[http.signed]]`, with keys made here.

use std::path::PathBuf;
use std::process::Command;

use strata_cache::Digest;

use crate::support::{Sandbox, Web, cases};

cases! { Root, User =>
    a_commit_or_the_tag_asked_for_has_to_be_signed,
}

cases! { Root =>
    a_policy_is_not_got_around_by_what_was_built_before_it,
    a_file_of_the_web_is_checked_by_the_signature_beside_it,
    keys_that_can_not_be_used_are_named,
}

/// Keys, and a directory to use them in. Those of `OpenPGP` are in the user's own keyring.
struct Keys<'s> {
    sandbox: &'s Sandbox,
    root: PathBuf,
}

impl Drop for Keys<'_> {
    fn drop(&mut self) {
        // The agent that gpg has started.
        drop(
            Command::new("gpgconf")
                .env("GNUPGHOME", self.keyring())
                .args(["--kill", "all"])
                .output(),
        );
    }
}

impl<'s> Keys<'s> {
    fn new(sandbox: &'s Sandbox) -> Self {
        let root = sandbox.path("keys");
        std::fs::create_dir_all(&root).unwrap();
        let keys = Self { sandbox, root };
        keys.sh(r#"
            mkdir -m 700 "$GNUPGHOME"
            for name in a b; do ssh-keygen -q -t ed25519 -N '' -C "$name" -f "ssh-$name"; done
            echo "a@x namespaces=\"git,file\" $(cat ssh-a.pub)" > allowed
            echo "a@x valid-before=\"20200101\" $(cat ssh-a.pub)" > allowed-once
            for name in a b; do gpg -q --batch --passphrase '' --quick-generate-key "$name@x" ed25519 sign never 2>&1; done
            old='gpg -q --batch --faked-system-time 20200101T000000'
            $old --passphrase '' --quick-generate-key old@x ed25519 sign seconds=86400 2>&1
            printf '#!/bin/sh\nexec %s "$@"\n' "$old" > old-gpg; chmod +x old-gpg
            for name in a b old; do gpg -q --batch --armor --export $name@x > $name.asc; gpg -q --batch --export $name@x > $name.gpg; done
        "#);
        keys
    }

    fn keyring(&self) -> PathBuf {
        self.sandbox.path("home/.gnupg")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn sh(&self, script: &str) -> String {
        let output = Command::new("bash")
            .args(["-euc", script])
            .current_dir(&self.root)
            .env("HOME", self.sandbox.path("home"))
            .env("GNUPGHOME", self.keyring())
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

    /// A repository with all kinds of commits and tags, behind HTTP.
    fn repository(&self) -> Web {
        self.sh(r#"
            git init -q x.git && cd x.git
            printf 'FROM scratch\nCOPY f /\n' > Dockerfile; echo f > f; git add .; git commit -qm main
            ssh() { echo "-c gpg.format=ssh -c user.signingkey=$PWD/../ssh-$1.pub"; }
            branch() { name=$1; shift; git checkout -q -b $name main; echo $name > f; git "$@" commit -qa -S -m $name; }
            branch ssh $(ssh a); branch other $(ssh b)
            branch pgp -c user.signingkey=a@x; branch pgp-other -c user.signingkey=b@x
            branch expired -c user.signingkey=old@x -c gpg.program=$PWD/../old-gpg
            git checkout -q main
            git $(ssh a) tag -s -m v1 v1; git tag -a -m v2 v2; git tag v3 ssh; git $(ssh b) tag -s -m v4 v4
            git -c user.signingkey=a@x tag -s -m v5 v5
            git update-ref refs/tags/v9 $(git rev-parse v1)
            changed=$(git cat-file commit ssh | sed 's/^ssh$/changed/' | git hash-object -t commit -w --stdin)
            git branch changed $changed
        "#);
        let web = Web::start();
        web.repositories(self.root.clone());
        web
    }

    fn policy(&self, section: &str, web: &Web, signers: &[&str], more: &str) {
        let paths: Vec<PathBuf> = signers.iter().map(|name| self.path(name)).collect();
        self.sandbox.configure(&format!(
            "[[{section}.signed]]\nurl = \"http://{}/*\"\nsigners = {paths:?}\n{more}\n",
            web.host()
        ));
    }

    fn sign(&self, key: &str, data: &str, to: &str) -> Vec<u8> {
        std::fs::write(self.path("data"), data).unwrap();
        self.sh(&format!("rm -f {to} data.sig; {key}"));
        std::fs::read(self.path(to)).unwrap()
    }
}

fn a_commit_or_the_tag_asked_for_has_to_be_signed(sandbox: &Sandbox) {
    let keys = Keys::new(sandbox);
    let web = keys.repository();
    let url = web.url("/git/x.git");
    let none = "none of the signers'";
    for (signers, reference, said) in [
        (&["allowed"][..], "ssh", ""),
        (&["ssh-a.pub"], "ssh", ""),
        (&["allowed", "a.asc"], "ssh", ""),
        (&["allowed", "a.asc"], "pgp", ""),
        (&["a.gpg"], "pgp", ""),
        (&["b.asc", "a.asc"], "pgp", ""),
        (&["allowed"], "v1", ""),
        (&["allowed"], "refs/tags/v1", ""),
        (&["allowed"], "v3", ""),
        (&["a.asc"], "v5", ""),
        (&["allowed"], "main", "there is no signature"),
        (&["allowed"], "v2", "of the tag `v2`, there is no signature"),
        (&["allowed"], "v9", "under another name"),
        (&["allowed"], "v4", none),
        (&["allowed"], "other", none),
        (&["allowed"], "changed", "not good"),
        (&["allowed-once"], "ssh", "at that time"),
        (&["allowed"], "pgp", "no signer has such a key"),
        (&["a.asc"], "ssh", "no signer has such a key"),
        (&["a.asc"], "pgp-other", none),
        (&["a.asc", "old.asc"], "expired", "has expired"),
    ] {
        keys.policy("git", &web, signers, "");
        let output = sandbox
            .strata()
            .args(["build", "--progress", "plain", "--output", "type=cacheonly"])
            .arg(format!("{url}#{reference}"))
            .output();
        if said.is_empty() {
            output.success();
        } else {
            let output = output.failure(1).says(said).says(&url);
            assert!(output.stderr.contains("config.toml"), "{output}");
            assert!(output.stderr.contains("commit "), "{output}");
        }
    }
    // Other addresses are nobody's business.
    sandbox.configure("[[git.signed]]\nurl = \"https://*\"\nsigners = [\"/nonexistent\"]\n");
    sandbox
        .strata()
        .args(["build", "--output", "type=cacheonly"])
        .arg(format!("{url}#main"))
        .output()
        .success();
}

/// §9.26.
fn a_policy_is_not_got_around_by_what_was_built_before_it(sandbox: &Sandbox) {
    let keys = Keys::new(sandbox);
    let web = keys.repository();
    let commit = keys.sh("git -C x.git rev-parse main");
    let url = web.url("/git/x.git");
    web.page("/f", "text", &[]);
    let digest = Digest::of(b"text");
    for (section, line) in [
        ("git", format!("ADD {url}#main /x")),
        ("git", format!("ADD {url}#{commit} /x")),
        ("git", format!("ADD --checksum={commit} {url} /x")),
        ("git", format!("ADD {url}?ref=main /x")),
        (
            "git",
            format!("ADD {}#main /x", url.replace("http://", "http://me:word@")),
        ),
        ("git", "COPY --from=named f /x".to_owned()),
        ("http", format!("ADD {} /x", web.url("/f"))),
        (
            "http",
            format!("ADD --checksum={digest} {} /x", web.url("/./f")),
        ),
    ] {
        sandbox.dockerfile(&format!("FROM scratch\n{line}\n"));
        let named = format!("named={url}");
        let args = ["--build-context", named.as_str()];
        sandbox.configure("");
        sandbox.build_with(&args);
        let steps = sandbox.build_with(&args).1;
        assert!(steps.ran().is_empty(), "{line}: {:?}", steps.ran());
        keys.policy(section, &web, &["allowed"], "");
        let output = sandbox.try_build(&args).failure(1);
        assert!(output.stderr.contains("is not signed"), "{line}: {output}");
    }
    // A Dockerfile of the web is a file of the web.
    web.page("/Dockerfile", "FROM scratch\n", &[]);
    let file = web.url("/Dockerfile");
    keys.policy("http", &web, &["allowed"], "");
    sandbox
        .try_build(&["--file", &file])
        .failure(1)
        .says("is not signed");
}

fn a_file_of_the_web_is_checked_by_the_signature_beside_it(sandbox: &Sandbox) {
    let keys = Keys::new(sandbox);
    let web = Web::start();
    let ssh =
        |key: &str| format!("ssh-keygen -q -Y sign -n file -f ssh-{key} data; mv data.sig out");
    let pgp =
        |key: &str| format!("gpg -q --batch -u {key}@x --armor --output out --detach-sign data");
    let old = "./old-gpg -u old@x --output out --detach-sign data".to_owned();
    web.page("/f?x=1", "text", &[]);
    sandbox.dockerfile(&format!("FROM scratch\nADD {} /\n", web.url("/f?x=1")));
    let none = "none of the signers'";
    for (signers, key, data, said) in [
        (&["allowed"][..], ssh("a"), "text", ""),
        (&["a.asc"], pgp("a"), "text", ""),
        (&["allowed", "a.gpg"], pgp("a"), "text", ""),
        (&["allowed"], ssh("b"), "text", none),
        (&["a.asc"], pgp("b"), "text", none),
        (&["a.asc"], pgp("a"), "other", "something else"),
        (&["allowed"], ssh("a"), "other", ""),
        (&["allowed-once"], ssh("a"), "text", ""),
        (&["old.asc"], old, "text", "has expired"),
        (&["allowed"], pgp("a"), "text", "no signer has such a key"),
    ] {
        let good = said.is_empty() && data == "text" && signers != ["allowed-once"];
        let signature = keys.sign(&key, data, "out");
        web.page("/f.asc?x=1", signature, &[]);
        keys.policy("http", &web, signers, "signature = \".asc\"");
        let output = sandbox.try_build(&[]);
        if good {
            output.success();
        } else {
            let output = output.failure(1).says("is not signed");
            assert!(output.stderr.contains(said), "{signers:?} {key}: {output}");
        }
    }
    web.page("/f.asc?x=1", "no signature", &[]);
    sandbox
        .try_build(&[])
        .failure(1)
        .says("neither one of SSH nor of OpenPGP");
    keys.policy("http", &web, &["allowed"], "");
    sandbox.try_build(&[]).failure(1).says("/f.sig");
}

fn keys_that_can_not_be_used_are_named(sandbox: &Sandbox) {
    let keys = Keys::new(sandbox);
    let web = keys.repository();
    std::fs::write(keys.path("text"), "hello world\n").unwrap();
    std::fs::write(
        keys.path("broken"),
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx\n",
    )
    .unwrap();
    for name in ["missing", "text", "broken"] {
        keys.policy("git", &web, &[name], "");
        sandbox
            .strata()
            .args(["build", &web.url("/git/x.git#ssh")])
            .output()
            .failure(1)
            .says(&keys.path(name).display().to_string());
    }
    sandbox.configure("[[git.signed]]\nurl = \"x\"\nsigners = [\"/k\"]\n");
    sandbox.dockerfile("FROM scratch\n");
    sandbox.try_build(&[]).failure(2).says("git.signed rule 1");
}
