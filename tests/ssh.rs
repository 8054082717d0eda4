//! RUN --mount=type=ssh.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::support::{Base, Sandbox, cases};

cases! { Root, User =>
    a_step_gets_a_socket_of_its_own_and_leaves_no_trace,
}

cases! { Root =>
    what_an_agent_says_reaches_the_command,
    a_required_agent_has_to_be_given,
}

/// An agent that answers whatever comes with the same in capitals.
fn agent(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.path("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 512];
                while let Ok(count) = stream.read(&mut buffer)
                    && count > 0
                {
                    let text = buffer[..count].to_ascii_uppercase();
                    if stream.write_all(&text).is_err() {
                        return;
                    }
                }
            });
        }
    });
    sandbox.hand_over(&path);
    path
}

fn a_step_gets_a_socket_of_its_own_and_leaves_no_trace(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox
         RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && \
             stat -c '%a %u:%g %n' $SSH_AUTH_SOCK > /first
         RUN --mount=type=ssh,mode=0666,uid=1000,gid=1001,target=/own --mount=type=ssh,id=other \
             stat -c '%a %u:%g %n' $SSH_AUTH_SOCK > /second
         RUN test -z \"$SSH_AUTH_SOCK\"
         RUN --mount=type=ssh,id=missing test -z \"$SSH_AUTH_SOCK\"",
    );
    let path = agent(sandbox);
    let given = format!("default={}", path.display());
    let (image, _) = sandbox.build_with(&["--ssh", &given]);
    let tree = image.tree();
    assert_eq!(tree.text("first"), "600 0:0 /run/buildkit/ssh_agent.0\n");
    assert_eq!(tree.text("second"), "666 1000:1001 /own\n");
    assert!(!tree.has("run/buildkit") && !tree.has("own"));
    assert!(image.env("SSH_AUTH_SOCK").is_none());
    // The same agent elsewhere is no other step.
    let (_, steps) = sandbox.build_with(&[]);
    assert!(steps.ran().is_empty(), "{:?}", steps.ran());
}

fn what_an_agent_says_reaches_the_command(sandbox: &Sandbox) {
    sandbox.import(Base::Debian).dockerfile(
        "FROM demo/debian:12
         RUN --mount=type=ssh perl -MIO::Socket::UNIX -e ' \
             $agent = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die $!; \
             print $agent qq(question\\n); $agent->flush; print scalar <$agent>' > /answer",
    );
    let path = agent(sandbox);
    let output = sandbox
        .strata()
        .env("SSH_AUTH_SOCK", &path)
        .args(["build", "--ssh", "default", "-t", "x"])
        .arg(sandbox.context())
        .output();
    output.success();
    assert_eq!(sandbox.saved("x").tree().text("answer"), "QUESTION\n");
}

fn a_required_agent_has_to_be_given(sandbox: &Sandbox) {
    sandbox.busybox();
    let error = sandbox.build_fails(
        "FROM busybox\nRUN --mount=type=ssh,id=deploy,required=true true\n",
        1,
    );
    assert!(error.contains("--ssh deploy"), "{error}");
}
