//! Instructions that can't be done.

use super::stage::Writer;

/// What no engine may take.
const WRONG: [(&str, &str); 40] = [
    ("COPY", "nowhere.txt /x"),
    ("COPY", "a.nowhere b.nowhere /x/"),
    ("COPY", "--from=0x0 /a /b"),
    ("COPY", "one"),
    ("COPY", "--chmod . /x/"),
    ("COPY", "--chmod=99999 . /x/"),
    ("COPY", "--nothing=1 . /x/"),
    ("COPY", "--from=99 /a /b"),
    ("COPY", "--chown=0 --chown=1 . /x/"),
    ("COPY", "\"unbalanced /x/"),
    ("COPY", "${A /x/"),
    ("COPY", ""),
    ("ADD", "nowhere.tar /x/"),
    ("ADD", "[\"one\"]"),
    ("ADD", "[1, \"/x\"]"),
    ("ENV", "NAME"),
    ("ENV", "A=1 B"),
    ("ENV", "=x"),
    ("ENV", "A=${}"),
    ("ENV", "A='open"),
    ("ENV", "A=${NONE:?needed}"),
    ("ENV", ""),
    ("LABEL", "alone"),
    ("LABEL", "a=1 b"),
    ("ARG", ""),
    ("ARG", "A=${x"),
    ("EXPOSE", "port"),
    ("EXPOSE", "80/icmp"),
    ("EXPOSE", "90-80"),
    ("STOPSIGNAL", "SIGNOTHING"),
    ("SHELL", "/bin/sh -c"),
    ("HEALTHCHECK", "RUN true"),
    ("HEALTHCHECK", "--interval=soon CMD true"),
    ("HEALTHCHECK", "NONE really"),
    ("ONBUILD", "ONBUILD RUN true"),
    ("ONBUILD", "FROM busybox"),
    ("RUN", ""),
    ("VOLUME", ""),
    ("NOTHING", "at all"),
    ("FROM", "busybox AS"),
];

impl Writer<'_> {
    pub(crate) fn wrong(&mut self) {
        if self.stage.shell && self.random.chance(15) {
            let command =
                self.random
                    .of(&["false", "exit 3", "[\"/not/there\"]", "(echo; exit 1)"]);
            self.put("RUN", command);
            return;
        }
        let (name, rest) = self.random.of(&WRONG);
        self.put(name, rest);
    }
}
