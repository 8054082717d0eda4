//! What a plan is, rule by rule: `docs/dockerfile-rules.md` has the numbers.

use std::fmt::Write as _;

use strata_parser::Dockerfile;

use super::tests::{Fake, request};
use super::{Plan, PlannedHistory, plan};
use crate::graph::{CopyFrom, CopyOp, MountSource, Op, Root, RunOp};
use crate::request::{BuildRequest, NamedContext};

const BASE: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","LANG=C"],
"Cmd":["sh"],"User":"app","WorkingDir":"/srv","Labels":{"of":"base"},"ExposedPorts":{"1/tcp":{}}},
"history":[{"created_by":"made"}],"rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]}}"#;

const BARE: &str =
    r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

const ARM: &str =
    r#"{"architecture":"arm64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

const TRIGGERS: &str = r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["ENV T=1","RUN x $T","COPY --from=tool /t /t"]},
"rootfs":{"type":"layers","diff_ids":[]}}"#;

/// Rule, options, Dockerfile, facts of the plan. A fact with `!` before it must not be there.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static [&'static str],
);

#[rustfmt::skip]
const RULES: &[Row] = &[
    ("§5.15 names and values of ENV", &[], "FROM bare\nENV a=b\nENV $a=c d=$a", &["env b=c", "env d=b"]),
    ("§5.15 names and values of LABEL", &[], "FROM bare\nENV a=b\nLABEL $a=$a", &["label b=b"]),
    ("§5.15 WORKDIR and USER", &[], "FROM bare\nENV a=b\nWORKDIR /$a\nUSER $a", &["workdir /b", "user b"]),
    ("§5.15 VOLUME and STOPSIGNAL", &[], "FROM bare\nENV a=2\nVOLUME /$a\nSTOPSIGNAL $a", &["volume /2", "stop 2"]),
    ("§5.15 sources, destination, owner and mode", &[], "FROM bare\nENV a=7\nCOPY --chown=$a --chmod=$a x$a /$a", &["copy --chown=7 --chmod=7 x7 -> /7"]),
    ("§5.15 sources in JSON form", &[], "FROM bare\nENV a=7\nCOPY [\"$a b\", \"/$a c/\"]", &["copy 7 b -> /7 c/"]),
    ("§5.15 options of mounts", &[], "FROM bare\nENV a=b\nRUN --mount=type=cache,id=$a,target=/$a x", &["mount /b cache /b rw"]),
    ("§5.15 defaults of ARG", &[], "FROM bare\nENV a=b\nARG c=$a\nRUN x", &["run-env c=b"]),
    ("§5.16 RUN", &[], "FROM bare\nENV a=b\nRUN echo $a", &["run [\"/bin/sh\",\"-c\",\"echo $a\"]"]),
    ("§5.16 RUN in JSON form", &[], "FROM bare\nENV a=b\nRUN [\"$a\"]", &["run [\"$a\"]"]),
    ("§5.16 CMD", &[], "FROM bare\nENV a=b\nCMD $a", &["cmd [\"/bin/sh\",\"-c\",\"$a\"]"]),
    ("§5.16 ENTRYPOINT", &[], "FROM bare\nENV a=b\nENTRYPOINT [\"$a\"]", &["entrypoint [\"$a\"]"]),
    ("§5.16 HEALTHCHECK", &[], "FROM bare\nENV a=b\nHEALTHCHECK CMD $a", &["health CMD-SHELL $a"]),
    ("§5.16 SHELL", &[], "FROM bare\nENV a=b\nSHELL [\"$a\"]", &["shell [\"$a\"]"]),
    ("§5.16 MAINTAINER", &[], "FROM bare\nENV a=b\nMAINTAINER $a", &["author $a"]),
    ("§5.16 --exclude", &[], "FROM bare\nENV a=b\nCOPY --exclude=$a . /", &["exclude $a"]),
    ("§5.16 values of --build-arg", &[("a", "$b")], "FROM bare\nENV b=c\nARG a\nRUN x", &["run-env a=$b"]),
    ("§5.17 not even one that is empty", &[], "FROM bare\nCOPY --from=$a x /", &["error"]),
    ("§5.18 one word becomes two", &[], "FROM bare\nENV p=\"1 2/udp\"\nEXPOSE $p 3", &["port 1/tcp", "port 2/udp", "port 3/tcp"]),
    ("§5.19 ENV", &[], "FROM bare\nENV a=1\nENV a=2 b=$a", &["env a=2", "env b=1"]),
    ("§5.19 ENV of a name that is new", &[], "FROM bare\nENV a=1 b=${a:-none}", &["env b=none"]),
    ("§5.19 LABEL sees no labels", &[], "FROM bare\nLABEL a=1 b=$a", &["label b=", "warning UndefinedVar"]),
    ("§5.20 in a stage", &[], "FROM bare\nARG a=1 b=$a\nRUN x", &["run-env b=1"]),
    ("§5.20 before FROM", &[], "ARG a=bare b=$a\nFROM $b\nRUN x", &["run [\"/bin/sh\",\"-c\",\"x\"]"]),
    ("§5.11 a finding", &[], "FROM bare\nENV a=$nope", &["env a=", "warning UndefinedVar"]),
    ("§6.1 arguments before FROM are not in stages", &[], "ARG a=1\nFROM bare\nENV b=${a:-unset}", &["env b=unset"]),
    ("§6.1 but by name", &[], "ARG a=1\nFROM bare\nARG a\nENV b=$a", &["env b=1", "history- ARG a=1"]),
    ("§6.1 for FROM", &[], "ARG a=ba b=re\nFROM $a$b\nENV c=d", &["env c=d"]),
    ("§6.1 arguments of a stage are not for FROM", &[], "FROM bare\nARG a=bare\nFROM $a", &["error base name `$a` should not be blank"]),
    ("§6.2 --build-arg first", &[("a", "3")], "ARG a=1\nFROM bare\nARG a=2\nENV b=$a", &["env b=3"]),
    ("§6.2 then the own default", &[], "ARG a=1\nFROM bare\nARG a=2\nENV b=$a", &["env b=2"]),
    ("§6.2 then the one before FROM", &[], "ARG a=1\nFROM bare\nARG a\nENV b=$a", &["env b=1"]),
    ("§6.2 then what the base has", &[], "FROM base\nARG LANG\nENV b=$LANG", &["env b=C"]),
    ("§6.2 --build-arg before FROM", &[("a", "bare")], "ARG a=gone\nFROM $a\nENV b=c", &["env b=c"]),
    ("§6.2 --build-arg without ARG is nothing", &[("a", "1")], "FROM bare\nENV b=${a:-unset}", &["env b=unset"]),
    ("§6.2 an empty --build-arg is a value", &[("a", "")], "FROM bare\nARG a=1\nENV b=x$a", &["env b=x"]),
    ("§6.2 the last --build-arg of a name", &[("a", "1"), ("a", "2")], "FROM bare\nARG a\nENV b=$a", &["env b=2"]),
    ("§6.3 in RUN", &[], "FROM bare\nRUN x\nARG a=1\nRUN y", &["run-env a=1", "!env a=1", "history RUN /bin/sh -c x # buildkit", "history RUN |1 a=1 /bin/sh -c y # buildkit"]),
    ("§6.3 without a value in no environment", &[], "FROM bare\nARG a\nRUN y", &["!run-env a=", "history RUN |1 a= /bin/sh -c y # buildkit", "history- ARG a"]),
    ("§6.4 from stage to stage", &[], "FROM bare AS s\nARG a=1\nFROM s\nRUN y", &["run-env a=1", "history RUN |1 a=1 /bin/sh -c y # buildkit"]),
    ("§6.4 an image's variable hides what the stage below had", &[], "FROM bare AS s\nENV a=1\nARG a=2\nFROM s\nRUN y", &["run-env a=1", "history RUN |1 a=1 /bin/sh -c y # buildkit"]),
    ("§6.4 not by --from", &[], "FROM bare AS s\nARG a=1\nFROM bare\nCOPY --from=s x /\nENV b=${a:-no}", &["env b=no"]),
    ("§6.5 ENV after ARG", &[], "FROM bare\nARG a=1\nENV a=2\nRUN x", &["run-env a=2", "env a=2", "history RUN |1 a=2 /bin/sh -c x # buildkit"]),
    ("§6.5 ARG after ENV", &[], "FROM bare\nENV a=2\nARG a=1\nRUN x\nENV b=$a", &["run-env a=1", "env a=2", "env b=1"]),
    ("§6.6 by name", &[], "FROM bare\nARG TARGETARCH\nARG TARGETOS\nENV a=$TARGETOS/$TARGETARCH", &["env a=linux/amd64", "history- ARG TARGETARCH=amd64"]),
    ("§6.6 not without", &[], "FROM bare\nENV a=${TARGETARCH:-no}", &["env a=no"]),
    ("§6.6 in FROM", &[], "FROM bare$TARGETVARIANT\nENV a=b", &["env a=b"]),
    ("§6.6 variants", &[("--platform", "linux/arm/v7")], "FROM scratch\nARG TARGETPLATFORM TARGETVARIANT\nENV a=$TARGETPLATFORM b=$TARGETVARIANT", &["env a=linux/arm/v7", "env b=v7"]),
    ("§6.6 --build-arg overrides", &[("TARGETARCH", "z80")], "FROM bare\nARG TARGETARCH\nENV a=$TARGETARCH", &["env a=z80"]),
    ("§6.6 TARGETSTAGE is the target", &[("--target", "s")], "FROM bare AS s\nARG TARGETSTAGE\nENV a=$TARGETSTAGE\nFROM bare", &["env a=s"]),
    ("§6.6 TARGETSTAGE is the last stage", &[], "FROM bare AS Last\nARG TARGETSTAGE\nENV a=$TARGETSTAGE", &["env a=last"]),
    ("§6.6 TARGETSTAGE is default", &[], "FROM bare\nARG TARGETSTAGE\nENV a=$TARGETSTAGE", &["env a=default"]),
    ("§6.7 both letter cases", &[("Https_Proxy", "p")], "FROM bare\nRUN x", &["hidden HTTPS_PROXY=p", "hidden https_proxy=p", "!run-env HTTPS_PROXY=p", "history RUN /bin/sh -c x # buildkit"]),
    ("§6.7 declared", &[("http_proxy", "p")], "FROM bare\nARG http_proxy\nRUN x", &["run-env http_proxy=p", "history RUN |1 http_proxy=p /bin/sh -c x # buildkit"]),
    ("§6.7 all of them", &[("ftp_proxy", "f"), ("NO_PROXY", "n"), ("all_proxy", "a")], "FROM bare\nRUN x", &["hidden FTP_PROXY=f", "hidden no_proxy=n", "hidden ALL_PROXY=a"]),
    ("§6.8 names of caches", &[("BUILDKIT_CACHE_MOUNT_NS", "ns")], "FROM bare\nRUN --mount=type=cache,target=/c x", &["mount /c cache ns/c rw"]),
    ("§6.8 the host name", &[("BUILDKIT_SANDBOX_HOSTNAME", "h")], "FROM bare\nRUN x", &["run-host h"]),
    ("§6.8 arguments that are no variables", &[], "FROM bare\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN x", &["!run-env BUILDKIT_SBOM_SCAN_STAGE=true", "history RUN |1 BUILDKIT_SBOM_SCAN_STAGE=true /bin/sh -c x # buildkit"]),
    ("§7.1 a name in any letter case", &[("--target", "BUILD")], "FROM bare AS Build\nENV a=b\nFROM bare", &["env a=b"]),
    ("§7.2 the later one, from there on", &[], "FROM bare AS s\nENV a=1\nFROM s AS s\nENV a=${a}2\nFROM s", &["env a=12"]),
    ("§7.2 as the target", &[("--target", "s")], "FROM bare AS s\nENV a=1\nFROM bare AS s\nENV a=2\nFROM bare", &["env a=2"]),
    ("§7.3 scratch", &[], "FROM scratch", &["workdir /", "env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "platform linux/amd64"]),
    ("§7.3 in lower case alone", &[], "FROM Scratch", &["error"]),
    ("§7.4 a stage before an image", &[], "FROM bare AS base\nENV a=b\nFROM base\nENV c=d", &["env a=b", "env c=d", "!env LANG=C"]),
    ("§7.4 stages above alone", &[], "FROM base\nENV a=b\nFROM bare AS base", &["!env a=b"]),
    ("§7.4 an image for a stage that comes later", &[("--target", "0")], "FROM base\nENV a=b\nFROM bare AS base", &["env LANG=C"]),
    ("§7.4 exact text", &[], "FROM bare AS s\nFROM S", &["error"]),
    ("§7.6 a number", &[], "FROM bare\nRUN x\nFROM bare\nCOPY --from=0 a /", &["copy-from step", "copy a -> /"]),
    ("§7.6 a name in any letter case", &[], "FROM bare AS s\nRUN x\nFROM bare\nCOPY --from=S a /", &["copy-from step"]),
    ("§7.6 an image", &[], "FROM bare\nCOPY --from=base a /", &["copy-from image base"]),
    ("§7.6 a number that is none of a mount", &[], "FROM bare\nFROM bare\nRUN --mount=from=0,target=/a x", &["error image `0` can't be used: there is no such image"]),
    ("§7.6 a number that no stage has", &[], "FROM bare\nCOPY --from=2 a /", &["error `--from=2` names no stage"]),
    ("§7.6 nor in a stage that is not built", &[], "FROM bare\nCOPY --from=9 a /\nFROM bare", &["error `--from=9` names no stage"]),
    ("§7.6 scratch in a mount", &[], "FROM bare\nRUN --mount=type=cache,from=scratch,target=/c x", &["mount /c cache /c rw"]),
    ("§7.7 itself", &[], "FROM bare AS s\nCOPY --from=s a /", &["error `s` names the stage itself"]),
    ("§7.7 later", &[("--target", "s")], "FROM bare AS s\nCOPY --from=t a /\nFROM bare AS t", &["error `t` names a later stage"]),
    ("§7.7 itself, though it is not built", &[], "FROM bare AS s\nCOPY --from=s a /\nFROM bare", &["error stages need each other in a circle"]),
    ("§7.7 a circle that is not built", &[], "FROM bare AS s\nCOPY --from=t a /\nFROM s AS t\nCOPY --from=s a /\nFROM bare AS u\nRUN --mount=from=u,target=/a x\nFROM bare", &["error stages need each other in a circle"]),
    ("§7.7 later is no circle", &[], "FROM bare AS s\nCOPY --from=t a /\nFROM bare AS t\nFROM bare\nENV a=b", &["env a=b"]),
    ("§7.8 in place of a stage", &[("--build-context", "s=bare")], "FROM gone AS s\nRUN x\nFROM s\nENV a=b", &["env a=b", "!run [\"/bin/sh\",\"-c\",\"x\"]"]),
    ("§7.8 in place of an image", &[("--build-context", "gone=bare")], "FROM gone\nENV a=b", &["env a=b"]),
    ("§7.8 never of scratch", &[("--build-context", "scratch=base")], "FROM scratch", &["!env LANG=C"]),
    ("§7.8 of a source", &[("--build-context", "gone=base")], "FROM bare\nCOPY --from=gone a /", &["copy-from image base"]),
    ("§7.9 the last", &[], "FROM gone\nFROM bare\nENV a=b", &["env a=b"]),
    ("§7.9 a target", &[("--target", "s")], "FROM bare AS s\nENV a=b\nFROM gone", &["env a=b"]),
    ("§7.9 a target that is not there", &[("--target", "t")], "FROM bare AS s", &["error target stage `t` could not be found"]),
    ("§7.10 of an image", &[("--no-platform", "")], "FROM --platform=linux/arm64 arm", &["platform linux/arm64"]),
    ("§7.10 by an argument", &[("--no-platform", "")], "ARG p=linux/arm64\nFROM --platform=$p arm", &["platform linux/arm64"]),
    ("§7.10 an empty one", &[], "FROM --platform=$p bare", &["error"]),
    ("§7.10 an unknown one", &[], "FROM --platform=a/b/c/d bare", &["error"]),
    ("§7.10 not of scratch", &[], "FROM --platform=linux/arm64 scratch", &["platform linux/amd64"]),
    ("§7.11 without PATH", &[], "FROM bare", &["env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
    ("§7.11 with PATH", &[], "FROM base", &["env PATH=/bin"]),
    ("§7.12 all of it", &[], "FROM base", &["env LANG=C", "cmd [\"sh\"]", "user app", "workdir /srv", "label of=base", "port 1/tcp", "history base made"]),
    ("§7.13 a blank one", &[], "FROM $x\nFROM bare", &["error base name `$x` should not be blank"]),
    ("§7.13 no name at all", &[], "FROM No/Name\nFROM bare", &["error"]),
    ("§7.13 no platform", &[], "FROM --platform=a/b/c/d bare\nFROM bare", &["error"]),
    ("§8.1 relative", &[], "FROM base\nWORKDIR a\nWORKDIR b/../c", &["workdir /srv/a/c"]),
    ("§8.1 absolute", &[], "FROM base\nWORKDIR /a/./b//", &["workdir /a/b", "history WORKDIR /a/b"]),
    ("§8.1 never above the root", &[], "FROM base\nWORKDIR ../../../x", &["workdir /x"]),
    ("§8.2 a step", &[], "FROM base\nWORKDIR /a", &["mkdir /a app", "history WORKDIR /a"]),
    ("§8.2 none for the root", &[], "FROM base\nWORKDIR /", &["!mkdir / app", "history- WORKDIR /"]),
    ("§8.3 any text", &[], "FROM base\nUSER no such:user", &["user no such:user", "history- USER no such:user"]),
    ("§8.4 words", &[], "FROM bare\nVOLUME /a b", &["volume /a", "volume b", "history- VOLUME [/a b]"]),
    ("§8.4 JSON, without blanks around", &[], "FROM bare\nVOLUME [\"/a b\", \" /c \"]", &["volume /a b", "volume /c"]),
    ("§8.4 an empty one", &[], "FROM bare\nVOLUME $x", &["error VOLUME specified can not be an empty string"]),
    ("§8.5 ranges and protocols", &[], "FROM bare\nEXPOSE 1-3/udp 4 5/SCTP", &["port 1/udp", "port 2/udp", "port 3/udp", "port 4/tcp", "port 5/sctp"]),
    ("§8.5 of the host", &[], "FROM bare\nEXPOSE 127.0.0.1:80:8080 1:2", &["port 8080/tcp", "port 2/tcp"]),
    ("§8.5 words are sorted", &[], "FROM bare\nEXPOSE 9-10 80 80", &["history- EXPOSE [80/tcp 80/tcp 9/tcp 10/tcp]"]),
    ("§8.5 added to the base's", &[], "FROM base\nEXPOSE 2", &["port 1/tcp", "port 2/tcp"]),
    ("§8.6 ENV keeps its place", &[], "FROM base\nENV Z=1\nENV PATH=/x", &["envs PATH=/x LANG=C Z=1"]),
    ("§8.6 LABEL", &[], "FROM base\nLABEL of=mine", &["label of=mine"]),
    ("§8.7 the shell in front", &[], "FROM bare\nCMD a b", &["cmd [\"/bin/sh\",\"-c\",\"a b\"]", "args-escaped", "history- CMD [\"/bin/sh\" \"-c\" \"a b\"]"]),
    ("§8.7 SHELL in front", &[], "FROM bare\nSHELL [\"s\", \"-c\"]\nENTRYPOINT a b", &["entrypoint [\"s\",\"-c\",\"a b\"]", "!args-escaped"]),
    ("§8.7 JSON form", &[], "FROM bare\nCMD [\"a\", \"b c\"]", &["cmd [\"a\",\"b c\"]", "args-escaped"]),
    ("§8.8 of the base", &[], "FROM base\nENTRYPOINT [\"e\"]", &["entrypoint [\"e\"]", "!cmd [\"sh\"]"]),
    ("§8.8 of a stage below", &[], "FROM bare AS s\nCMD [\"c\"]\nFROM s\nENTRYPOINT [\"e\"]", &["!cmd [\"c\"]", "args-escaped"]),
    ("§8.8 not of this stage", &[], "FROM base\nCMD [\"c\"]\nENTRYPOINT [\"e\"]", &["cmd [\"c\"]"]),
    ("§8.8 empty ones", &[], "FROM base\nENTRYPOINT [\"e\"]\nENTRYPOINT []\nCMD []", &["!entrypoint [\"e\"]", "cmd []"]),
    ("§8.9 kept", &[], "FROM bare\nSHELL [\"s\", \"-c\"]\nRUN x", &["shell [\"s\",\"-c\"]", "run [\"s\",\"-c\",\"x\"]", "history- SHELL [s -c]"]),
    ("§8.9 from stage to stage", &[], "FROM bare AS s\nSHELL [\"s\"]\nFROM s\nRUN x", &["run [\"s\",\"x\"]"]),
    ("§8.10 NONE", &[], "FROM bare\nHEALTHCHECK NONE", &["health NONE"]),
    ("§8.10 JSON form", &[], "FROM bare\nHEALTHCHECK CMD [\"a\", \"b\"]", &["health CMD a b"]),
    ("§8.10 the last one", &[], "FROM bare\nHEALTHCHECK CMD a\nHEALTHCHECK NONE", &["health NONE"]),
    ("§8.10 not with the SHELL", &[], "FROM bare\nSHELL [\"s\"]\nHEALTHCHECK CMD a", &["health CMD-SHELL a"]),
    ("§8.11 a name", &[], "FROM bare\nSTOPSIGNAL kill", &["stop kill"]),
    ("§8.11 a number", &[], "FROM bare\nSTOPSIGNAL 9", &["stop 9"]),
    ("§8.11 neither", &[], "FROM bare\nENV s=x\nSTOPSIGNAL $s", &["error `x` is not a signal"]),
    ("§8.12 kept as text, in no history", &[], "FROM bare\nONBUILD  RUN a  $b", &["onbuild RUN a  $b", "!history- ONBUILD RUN a  $b"]),
    ("§8.12 first and in order", &[], "FROM bare AS tool\nRUN t\nFROM triggers\nRUN own", &["env T=1", "run [\"/bin/sh\",\"-c\",\"x $T\"]", "runs x $T, t, own", "!onbuild ENV T=1"]),
    ("§8.12 of a stage", &[], "FROM bare AS s\nONBUILD ENV a=b\nFROM s AS t\nFROM t", &["env a=b"]),
    ("§8.12 no further", &[], "FROM bare AS s\nONBUILD RUN x\nFROM s AS t\nFROM t\nRUN y", &["runs x, y"]),
    ("§8.12 not in the stage itself", &[], "FROM bare\nONBUILD ENV a=b", &["!env a=b"]),
    ("§8.13 the author", &[], "FROM bare\nMAINTAINER A <a@b>", &["author A <a@b>", "history- MAINTAINER A <a@b>"]),
    ("§9.8 a URL", &[], "FROM bare\nCOPY http://h/x /", &["error"]),
    ("§9.8 that a variable holds", &[], "FROM bare\nENV u=https://h/x\nCOPY $u /", &["error COPY can't fetch a URL"]),
    ("§9.9 joins WORKDIR", &[], "FROM base\nCOPY a b", &["copy a -> /srv/b"]),
    ("§9.9 the directory itself", &[], "FROM base\nCOPY a .", &["copy a -> /srv/"]),
    ("§9.9 above it", &[], "FROM base\nCOPY a ../x/", &["copy a -> /x/"]),
    ("§9.23 what is no digest", &[], "FROM bare\nADD --checksum=x http://h/a /", &["error"]),
    ("§9.23 a local file", &[], "FROM bare\nADD --checksum=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa a /", &["error `--checksum` needs exactly one remote source"]),
    ("§9.25 the order is kept", &[], "FROM bare\nADD a http://h/x b c git@h:r.git /d/", &["copy a b c -> /d/", "remote after 1", "remote after 3", "history ADD a http://h/x b c git@h:r.git /d/ # buildkit"]),
    ("§9.25 heredocs last", &[], "FROM bare\nCOPY a <<x b /d/\ny\nx\n", &["copy a b -> /d/", "file x y\\n", "history COPY a b <<x /d/ # buildkit"]),
    ("§4.8 a file", &[], "FROM bare\nCOPY <<name /d\ntext\nname\n", &["file name text\\n", "copy  -> /d"]),
    ("§4.10 the last of a name", &[], "FROM bare\nCOPY <<x <<x /d/\n1\nx\n2\nx\n", &["file x 2\\n", "!file x 1\\n"]),
    ("§4.11 a program", &[], "FROM bare\nRUN <<x\n#!/bin/y\nx\n", &["run [\"/bin/sh\",\"-c\",\"/dev/pipes/x\"]", "script x #!/bin/y\\n"]),
    ("§4.12 the shell's text", &[], "FROM bare\nRUN <<x\na\nb\nx\n", &["run [\"/bin/sh\",\"-c\",\"a\\nb\\n\"]"]),
    ("§4.13 put together again", &[], "FROM bare\nRUN <<x cat\na\nx\n", &["run [\"/bin/sh\",\"-c\",\"<<x cat\\na\\nx\"]"]),
    ("§4.14 not expanded", &[], "FROM bare\nENV a=b\nRUN <<x\n$a\nx\n", &["run [\"/bin/sh\",\"-c\",\"$a\\n\"]"]),
    ("§4.15 expanded", &[], "FROM bare\nENV a=b\nCOPY <<x <<'y' /\n'$a' \"${a}\"\nx\n$a\ny\n", &["file x 'b' \"b\"\\n", "file y $a\\n"]),
    ("§10.1 in JSON form", &[], "FROM bare\nRUN [\"a\", \"b c\"]", &["run [\"a\",\"b c\"]", "history RUN a b c # buildkit"]),
    ("§10.1 nothing at all is the shell's", &[], "FROM bare\nRUN", &["run [\"/bin/sh\",\"-c\",\"\"]"]),
    ("§10.1 no program", &[], "FROM bare\nRUN []", &["error RUN has no command"]),
    ("§10.2 in order", &[], "FROM base\nARG a=1\nENV b=2\nARG LANG=D\nRUN x", &["run-envs PATH=/bin LANG=D a=1 b=2"]),
    ("§10.3 directory, user, name", &[], "FROM base\nRUN x", &["run-cwd /srv", "run-user app", "run-host buildkitsandbox"]),
    ("§10.8 an entitlement that is not given", &[], "FROM bare\nRUN --network=host x", &["error this step wants `network.host`, which is not allowed"]),
    ("§10.8 an entitlement that is given", &[("--allow", "network.host")], "FROM bare\nRUN --network=host x", &["run [\"/bin/sh\",\"-c\",\"x\"]"]),
    ("§10.8 a device that may be missing", &[], "FROM bare\nRUN --device=a.b/c=d x", &["run [\"/bin/sh\",\"-c\",\"x\"]", "warning no-devices"]),
    ("§10.8 a device that may not", &[], "FROM bare\nRUN --device=a.b/c=d,required x", &["error the device `a.b/c=d` is required, and no CDI spec of this host has it"]),
    ("§10.8 a device of no kind", &[], "FROM bare\nRUN --device=gpu x", &["error `gpu` is no name of a device: expected `vendor.com/class` or `vendor.com/class=name`"]),
    ("§11.2 of a stage", &[], "FROM bare AS s\nRUN a\nFROM bare\nRUN --mount=from=s,source=/x,target=/y z", &["mount /y bind /x ro"]),
    ("§11.2 writable", &[], "FROM bare\nRUN --mount=type=bind,rw,target=/y z", &["mount /y bind /source rw"]),
    ("§11.3 options", &[], "FROM bare\nRUN --mount=type=cache,id=i,target=/y,ro z", &["mount /y cache /i ro"]),
    ("§11.4 without a limit", &[], "FROM bare\nRUN --mount=type=tmpfs,target=/y z", &["mount /y tmpfs rw"]),
    ("§11.5 by its id", &[], "FROM bare\nRUN --mount=type=secret,id=a/b z", &["mount /run/secrets/b secret a/b file ro"]),
    ("§11.5 by its target", &[], "FROM bare\nRUN --mount=type=secret,target=/x/y z", &["mount /x/y secret y file ro"]),
    ("§11.5 as a variable", &[], "FROM bare\nRUN --mount=type=secret,id=a,env=A z", &["mount /run/secrets/a secret a env A ro"]),
    ("§11.5 as both", &[], "FROM bare\nRUN --mount=type=secret,id=a,env=A,target=/y z", &["mount /y secret a file env A ro"]),
    ("§11.6 one after the other", &[], "FROM bare\nRUN --mount=type=ssh --mount=type=ssh,id=b z", &["mount /run/buildkit/ssh_agent.0 ssh default ro", "mount /run/buildkit/ssh_agent.1 ssh b ro"]),
    ("§11.7 relative", &[], "FROM base\nRUN --mount=type=tmpfs,target=a z", &["mount /srv/a tmpfs rw"]),
    ("§11.7 none", &[], "FROM base\nRUN --mount=type=tmpfs z", &["mount /srv tmpfs rw"]),
    ("§11.7 the root", &[], "FROM base\nRUN --mount=type=tmpfs,target=.. z", &["error a mount can't replace the root `/`"]),
    ("§11.10 another mode", &[], "FROM bare\nRUN --mount=type=cache,target=/y,mode=0700 z", &["mount /y cache /y?700,0,0 rw"]),
    ("§12.1 none for FROM and ONBUILD", &[], "FROM base\nONBUILD RUN x", &["histories base made"]),
    ("§12.2 ENV and LABEL", &[], "FROM bare\nENV a b\nLABEL c=\"d e\"", &["history- ENV a=b", "history- LABEL c=d e"]),
    ("§12.2 COPY with flags", &[], "FROM bare AS s\nRUN x\nFROM bare\nCOPY --from=s --link --exclude=z --parents --chown=1 --chmod=700 a b/", &["history COPY --parents --chown=1 --chmod=700 a b/ # buildkit"]),
    ("§12.2 HEALTHCHECK", &[], "FROM bare\nHEALTHCHECK --interval=90s --retries=2 CMD a b", &["history- HEALTHCHECK {Test:[CMD-SHELL a b] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:2}"]),
    ("§12.2 HEALTHCHECK NONE", &[], "FROM bare\nHEALTHCHECK NONE", &["history- HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"]),
    ("§12.2 ENTRYPOINT in quotes", &[], "FROM bare\nENTRYPOINT [\"a \\\"b\\\"\", \"c\"]", &["history- ENTRYPOINT [\"a \\\"b\\\"\" \"c\"]"]),
    ("§12.2 a script", &[], "FROM bare\nRUN <<x\n#!/bin/y\nx\n", &["history RUN /bin/sh -c /dev/pipes/x # buildkit"]),
];

#[test]
fn plans_keep_the_rules() {
    let mut wrong = String::new();
    for (rule, options, text, expected) in RULES {
        let facts = facts(text, options);
        for fact in *expected {
            let (fact, wanted) = match fact.strip_prefix('!') {
                Some(fact) => (fact, false),
                None => (*fact, true),
            };
            // Just that it is an error, if that is all.
            let there = facts
                .iter()
                .any(|known| known == fact || (fact == "error" && known.starts_with("error")));
            if there != wanted {
                let not = if wanted { "is not" } else { "is" };
                writeln!(wrong, "{rule}: `{fact}` {not} in {facts:#?}\n{text}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn facts(text: &str, options: &[(&str, &str)]) -> Vec<String> {
    let mut request = request();
    for (name, value) in options {
        option(&mut request, name, value);
    }
    let images = vec![
        ("base", BASE),
        ("bare", BARE),
        ("arm", ARM),
        ("triggers", TRIGGERS),
    ];
    let planned = Dockerfile::parse(text.as_bytes())
        .and_then(|dockerfile| plan(&dockerfile, &request, &Fake(images)));
    match planned {
        Err(errors) => vec![format!("error {}", errors.list[0].message)],
        Ok(plan) => of_plan(&plan),
    }
}

fn option(request: &mut BuildRequest, name: &str, value: &str) {
    match name {
        "--target" => request.target = Some(value.to_owned()),
        "--platform" => request.platforms = vec![value.to_owned()],
        "--no-platform" => request.platforms = Vec::new(),
        "--allow" => request.allow.push(value.to_owned()),
        "--build-context" => {
            let (name, image) = value.split_once('=').unwrap();
            let image = NamedContext::Image(image.to_owned());
            request.build_contexts.push((name.to_owned(), image));
        }
        name => request.build_args.push((name.to_owned(), value.to_owned())),
    }
}

fn json(words: &[String]) -> String {
    serde_json::to_string(words).unwrap()
}

fn of_plan(plan: &Plan) -> Vec<String> {
    let image = &plan.targets[0].state.config;
    let config = &image.config;
    let mut facts = vec![
        format!("workdir {}", config.working_dir),
        format!("user {}", config.user),
        format!("stop {}", config.stop_signal),
        format!("shell {}", json(&config.shell)),
        format!("platform {}", image.platform()),
        format!("envs {}", config.env.join(" ")),
    ];
    let mut all = |kind: &str, values: Vec<String>| {
        facts.extend(values.iter().map(|value| format!("{kind} {value}")));
    };
    all("env", config.env.clone());
    all("cmd", config.cmd.iter().map(|it| json(it)).collect());
    all(
        "entrypoint",
        config.entrypoint.iter().map(|it| json(it)).collect(),
    );
    all("port", config.exposed_ports.iter().cloned().collect());
    all("volume", config.volumes.iter().cloned().collect());
    all("onbuild", config.on_build.clone());
    all("author", image.author.iter().cloned().collect());
    let labels = config.labels.iter();
    all(
        "label",
        labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
    );
    let health = config.healthcheck.iter();
    all("health", health.map(|check| check.test.join(" ")).collect());
    let warnings = plan.warnings.iter();
    all(
        "warning",
        warnings.map(|warning| warning.code.to_owned()).collect(),
    );
    if config.args_escaped {
        facts.push("args-escaped".to_owned());
    }
    let history: Vec<String> = plan.targets[0]
        .state
        .history
        .iter()
        .map(of_history)
        .collect();
    facts.push(format!("histories {}", history.join("; ")));
    facts.extend(
        history
            .into_iter()
            .map(|entry| match entry.strip_prefix("base") {
                Some(_) => format!("history {entry}"),
                None => entry,
            }),
    );
    let mut runs = Vec::new();
    for vertex in &plan.graph.vertices {
        match &vertex.op {
            Op::Run(run) => {
                runs.push(run.argv.last().cloned().unwrap_or_default());
                of_run(run, &mut facts);
            }
            Op::Copy(copy) => of_copy(plan, copy, &mut facts),
            Op::Workdir(workdir) => facts.push(format!("mkdir {} {}", workdir.path, workdir.user)),
        }
    }
    facts.push(format!("runs {}", runs.join(", ")));
    facts
}

fn of_history(entry: &PlannedHistory) -> String {
    match entry {
        PlannedHistory::Base(entry) => format!("base {}", entry.created_by),
        PlannedHistory::Layer { text, .. } => format!("history {text}"),
        PlannedHistory::Empty { text } => format!("history- {text}"),
    }
}

fn of_run(run: &RunOp, facts: &mut Vec<String>) {
    facts.push(format!("run {}", json(&run.argv)));
    facts.push(format!("run-cwd {}", run.cwd));
    facts.push(format!("run-user {}", run.user));
    facts.push(format!("run-host {}", run.hostname));
    let pairs = |pairs: &[(String, String)]| -> Vec<String> {
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    };
    facts.push(format!("run-envs {}", pairs(&run.env).join(" ")));
    facts.extend(pairs(&run.env).iter().map(|pair| format!("run-env {pair}")));
    facts.extend(
        pairs(&run.hidden_env)
            .iter()
            .map(|pair| format!("hidden {pair}")),
    );
    if let Some((name, text)) = &run.script {
        facts.push(format!("script {name} {}", text.escape_debug()));
    }
    for mount in &run.mounts {
        let what = match &mount.source {
            MountSource::Bind { path, .. } => format!("bind {path}"),
            MountSource::Cache { id, .. } => format!("cache {id}"),
            MountSource::Host { path, .. } => format!("volume {}", path.display()),
            MountSource::Tmpfs { .. } => "tmpfs".to_owned(),
            MountSource::Ssh { id, .. } => format!("ssh {id}"),
            MountSource::Secret { id, file, env, .. } => {
                let file = if *file { " file" } else { "" };
                let env = env
                    .iter()
                    .fold(String::new(), |_, name| format!(" env {name}"));
                format!("secret {id}{file}{env}")
            }
        };
        let mode = if mount.read_only { "ro" } else { "rw" };
        facts.push(format!("mount {} {what} {mode}", mount.target));
    }
}

fn of_copy(plan: &Plan, copy: &CopyOp, facts: &mut Vec<String>) {
    let owner = copy.chown.iter().map(|owner| format!("--chown={owner}"));
    let mode = copy.chmod.iter().map(|(mode, _)| format!("--chmod={mode}"));
    let words: Vec<String> = owner
        .chain(mode)
        .chain(copy.sources.iter().cloned())
        .collect();
    facts.push(format!("copy {} -> {}", words.join(" "), copy.dest));
    facts.push(match copy.from {
        CopyFrom::Root(Root::Image(image)) => {
            format!("copy-from image {}", plan.graph.images[image.0].reference)
        }
        CopyFrom::Root(Root::Step(_)) => "copy-from step".to_owned(),
        CopyFrom::Root(Root::Empty) => "copy-from nothing".to_owned(),
        CopyFrom::Context => "copy-from context".to_owned(),
        CopyFrom::Source(_) => "copy-from source".to_owned(),
    });
    facts.extend(
        copy.excludes
            .iter()
            .map(|pattern| format!("exclude {pattern}")),
    );
    facts.extend(
        copy.remotes
            .iter()
            .map(|(before, _)| format!("remote after {before}")),
    );
    facts.extend(copy.files.iter().map(|(name, text)| {
        let text = text.replace('\n', "\\n");
        format!("file {name} {text}")
    }));
}
