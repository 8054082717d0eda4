use crate::Dockerfile;
use crate::lint;
use crate::lint::RULES;

/// Code and underlined text of each finding in `text`, which `FROM a:1` is put before unless it
/// has a FROM.
fn found(text: &str) -> Vec<(&'static str, String)> {
    let text = if text.contains("FROM") {
        text.to_owned()
    } else {
        format!("FROM a:1\n{text}\n")
    };
    let file = Dockerfile::parse(text.as_bytes()).unwrap();
    lint::advice(&file, &lint::settings(&file))
        .iter()
        .map(|finding| (finding.code, finding.span.text(&file.source).to_owned()))
        .collect()
}

/// Rule, text that it alone finds something in, what it underlines.
#[rustfmt::skip]
const FOUND: &[(&str, &str, &str)] = &[
    ("UntaggedBaseImage", "FROM debian\n", "debian"),
    ("UntaggedBaseImage", "FROM localhost:5000/debian AS x\n", "localhost:5000/debian"),
    ("LatestBaseImage", "FROM debian:latest\n", "debian:latest"),
    ("LastUserRoot", "USER app\nUSER root", "root"),
    ("LastUserRoot", "USER 0:0", "0:0"),
    ("AddInsteadOfCopy", "ADD a b /c/", "ADD"),
    ("SudoInRun", "RUN sudo make", "sudo"),
    ("SudoInRun", "RUN a && /usr/bin/sudo -u x make", "/usr/bin/sudo"),
    ("CdInsteadOfWorkdir", "RUN cd /src && make", "cd /src"),
    ("CdInsteadOfWorkdir", "RUN <<E\ncd /src\nmake\nE", "cd /src"),
    ("ShellPipefail", "RUN a | b", "|"),
    ("ShellPipefail", "RUN a \\\n  | b \\\n  | c", "|"),
    ("ShellPipefail", "RUN <<E\na |& b\nE", "|&"),
    ("ShellPipefail", "SHELL [\"/bin/bash\",\"-o\",\"pipefail\",\"-c\"]\nRUN <<E\n#!/bin/sh\na | b\nE", "|"),
    ("ShellPipefail", "SHELL [\"/bin/bash\",\"-o\",\"pipefail\",\"-c\"]\nRUN bash <<E\na | b\nE", "|"),
    ("PipeToShell", "RUN set -o pipefail; curl -fsSL x | bash -s y", "bash"),
    ("PipeToShell", "RUN set -o pipefail; wget -O- x | gunzip | sudo_ | sh", "sh"),
    ("PipeToShell", "RUN bash -c \"$(curl -fsSL x)\"", "\"$(curl -fsSL x)\""),
    ("PipeToShell", "RUN bash <(curl -fsSL x)", "<(curl -fsSL x)"),
    ("AptInRun", "RUN apt update && apt-get -y --no-install-recommends install a=1 && rm -r /var/lib/apt/lists", "apt"),
    ("AptGetUpdateMissing", "RUN apt-get install -y --no-install-recommends a=1", "install"),
    ("AptGetUpdateMissing", "RUN [\"apt-get\", \"install\", \"-y\", \"--no-install-recommends\", \"a=1\"]", "install"),
    ("AptGetUpdateAlone", "RUN apt-get update", "update"),
    ("AptGetAssumeYes", "RUN apt-get update && apt-get upgrade && rm -rf /var/lib/apt/lists/*", "upgrade"),
    ("AptGetNoInstallRecommends", "RUN apt-get update && apt-get install -y a=1 && rm -rf /var/lib/apt/lists/*", "install"),
    ("AptGetListsKept", "RUN apt-get update && apt-get install -qy --no-install-recommends a=1", "update"),
    ("AptGetPinVersions", "RUN apt-get update && apt-get install -qq --no-install-recommends a=1 b ./c.deb \\\n d $e && rm -rf /var/lib/apt/lists/*", "b ./c.deb \\\n d"),
    ("ApkNoCache", "RUN apk add a=1", "add"),
    ("ApkPinVersions", "RUN apk add --no-cache -t .deps a b~=1", "a"),
    ("DnfAssumeYes", "RUN dnf install a && dnf clean all", "install"),
    ("DnfCleanAll", "RUN yum -y install a", "install"),
    ("PipNoCacheDir", "RUN pip install a==1", "install"),
    ("PipNoCacheDir", "RUN python3 -m pip install -r requirements.txt", "install"),
    ("PipPinVersions", "RUN pip3 install --no-cache-dir --upgrade pip", "pip"),
    ("NpmPinVersions", "RUN npm install -g a @b/c d@1", "a @b/c"),
    ("GemPinVersions", "RUN gem install a --no-document", "a"),
];

/// Texts that look like mistakes, and aren't.
#[rustfmt::skip]
const FINE: &[&str] = &[
    "FROM scratch\n",
    "FROM debian@sha256:0123456789012345678901234567890123456789012345678901234567890123\n",
    "FROM a:1 AS b\nFROM b\n",
    "ARG v=1\nFROM a:$v\n",
    "USER root\nRUN make\nUSER app",
    "FROM a:1 AS b\nUSER root\nFROM c:1\n",
    "USER $user",
    "ADD a.tar.gz /",
    "ADD https://x/y /",
    "ADD --checksum=sha256:0123456789012345678901234567890123456789012345678901234567890123 https://x/y /",
    "RUN echo sudo",
    "RUN a && cd /src && make",
    "RUN (cd /src && make)",
    "RUN cd",
    "RUN a || b",
    "RUN echo yes | a",
    "RUN x=$(a | b)",
    "RUN set -eo pipefail && a | b",
    "RUN <<E\nset -o pipefail\na | b\nE",
    "RUN case $x in a|b) c;; esac",
    "RUN cat <<X >f\nignored | here\nX",
    "SHELL [\"/bin/bash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN a | b",
    "FROM a:1 AS b\nSHELL [\"/bin/bash\", \"-eo\", \"pipefail\", \"-c\"]\nFROM b\nRUN a | b\n",
    "SHELL [\"powershell\", \"-Command\"]\nRUN a | b; sudo c",
    "RUN <<E\n#!/usr/bin/env python3\nx = a | b\nE",
    "RUN python3 <<E\nx = a | b\nE",
    "RUN set -o pipefail; curl x | tar x",
    "RUN curl -o x.sh x && sh x.sh",
    "RUN apt list",
    "RUN apt-get update && apt-get install -y --no-install-recommends a=1 b/stable && rm -rf /var/lib/apt/lists/*",
    "RUN --mount=type=cache,target=/var/lib/apt,sharing=locked apt-get install -y --no-install-recommends a=1",
    "RUN --mount=type=cache,target=/var/lib/apt/lists apt-get update",
    "RUN --mount=type=cache,target=$x apt-get update",
    "RUN apt-get install -y --no-install-recommends ./a.deb",
    "RUN echo 'APT::Install-Recommends \"0\";' >/etc/apt/apt.conf.d/x\nRUN apt-get update && apt-get -y install a=1 && rm -rf /var/lib/apt/lists/*",
    "RUN apt-get -o APT::Get::Assume-Yes=true -o APT::Install-Recommends=0 update && apt-get -o APT::Get::Assume-Yes=true -o APT::Install-Recommends=0 install a=1 && rm -rf /var/lib/apt/lists",
    "FROM a:1 AS b\nRUN apt-get update && apt-get install -y --no-install-recommends a=1\nFROM c:1\nCOPY --from=b /x /\n",
    "RUN apk add --no-cache a=1 b~2 'c>3'",
    "RUN --mount=type=cache,target=/var/cache/apk apk add a=1",
    "RUN apk del a",
    "RUN dnf -y install a && dnf clean all",
    "RUN --mount=type=cache,target=/var/cache/dnf dnf install -y a",
    "RUN microdnf install -y a && rm -rf /var/cache/*",
    "RUN pip install --no-cache-dir a==1 'b>=2' ./c git+https://x/y d.whl",
    "RUN pip install --no-cache-dir -r requirements.txt",
    "RUN pip install --no-cache-dir -rrequirements.txt a",
    "RUN pip install --no-cache-dir --index-url https://x .",
    "ENV PIP_NO_CACHE_DIR=1\nRUN pip install a==1",
    "RUN PIP_NO_CACHE_DIR=1 pip install a==1",
    "RUN --mount=type=cache,target=/root/.cache pip install a==1",
    "RUN npm install",
    "RUN npm ci && npm run a",
    "RUN npm install a@1 @b/c@2 ./d file:e https://x/y",
    "RUN gem install a:1 && gem install b -v 2 && gem install ./c.gem",
    "RUN",
    "RUN $(",
    "RUN --mount=type=tmpfs,target=/x \\\n # comment\n\n  true",
];

#[test]
fn rules_find_what_they_are_for_where_it_is() {
    for (rule, text, place) in FOUND {
        assert_eq!(found(text), [(*rule, (*place).to_owned())], "{text}");
    }
}

#[test]
fn what_is_fine_is_left_alone() {
    for text in FINE {
        if *text == "RUN" {
            continue;
        }
        assert_eq!(found(text), [], "{text}");
    }
}

#[test]
fn each_rule_can_be_left_out_for_a_file() {
    for (rule, text, _) in FOUND {
        let from = if text.contains("FROM") {
            ""
        } else {
            "FROM a:1\n"
        };
        let text = format!("# check=skip={rule}\n{from}{text}\n");
        assert_eq!(found(&text), [], "{text}");
    }
}

#[test]
fn each_rule_can_be_left_out_above_an_instruction() {
    for (rule, text, _) in FOUND {
        if text.contains("FROM") {
            continue;
        }
        let (before, last) = match text.rfind("\nRUN").or_else(|| text.rfind("\nUSER")) {
            Some(at) => text.split_at(at + 1),
            None => ("", *text),
        };
        let text = format!("FROM a:1\n{before}# check=skip={rule}\n{last}\n");
        assert_eq!(found(&text), [], "{text}");
    }
}

#[test]
fn each_rule_of_ours_has_a_row_and_a_page() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lint");
    let index = std::fs::read_to_string(format!("{docs}.md")).unwrap();
    for rule in &RULES {
        let page = rule.page();
        assert!(
            index.contains(&format!("`{}`", rule.name))
                || index.contains(&format!("[{}]", rule.name)),
            "{}",
            rule.name
        );
        if rule.buildkit {
            assert!(index.contains(&page), "{page}");
            continue;
        }
        assert!(
            FOUND.iter().any(|(name, ..)| *name == rule.name),
            "{}",
            rule.name
        );
        let text = std::fs::read_to_string(format!("{docs}/{}.md", rule.name)).unwrap();
        assert!(
            text.starts_with(&format!("# {}\n", rule.name)),
            "{}",
            rule.name
        );
    }
}

#[test]
fn pages_are_where_readers_look_for_them() {
    let page = |name: &str| lint::find(name).unwrap().page();
    let build_checks = "https://docs.docker.com/reference/build-checks";
    assert_eq!(
        page("FromAsCasing"),
        format!("{build_checks}/from-as-casing/")
    );
    assert_eq!(
        page("JSONArgsRecommended"),
        format!("{build_checks}/json-args-recommended/")
    );
    assert_eq!(page("ShellPipefail"), "docs/lint/ShellPipefail.md");
}
