//! Profiles: filters that users give in place of the default one.
//!
//! The form is the one that container engines read, in either of its spellings (Docker's, with
//! `archMap`, `includes` and `excludes`; the OCI runtime specification's, with `architectures`).
//! What a rule of it means: the first of the rules of a call whose conditions hold says what becomes
//! of it, one without conditions last; calls that nothing says anything of get the default action.
//! Names that this program doesn't know are left out, as in the engines.

use serde::{Deserialize, Serialize};
use strata_cache::Digest;

use super::super::capability::Capabilities;
use super::bpf::{self, Action, Case, Comparison, Condition, RETURN_ALLOW, RETURN_ERRNO};
use super::table::{NONE, TABLE};
use super::{Columns, architectures};
use crate::sys::BpfInstruction;

/// More conditions than one rule can sensibly have (a call has six arguments).
const MOST_CONDITIONS: usize = 24;

/// The kernel's limit of a program.
const LONGEST: usize = 4096;

/// A profile as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Machine>>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// When a rule counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// It is not of the form.
    #[error("it is no seccomp profile")]
    Form {
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A word that means nothing here.
    #[error("{what} `{word}` is not supported")]
    Unsupported {
        /// What kind of word.
        what: &'static str,
        /// The word.
        word: String,
    },
    /// A rule that can't be turned into a filter.
    #[error("a rule of `{call}` has {what}")]
    Rule {
        /// The first call that it is for.
        call: String,
        /// What is wrong with it.
        what: String,
    },
    /// The kernel would refuse it.
    #[error("it is {length} instructions long, and the kernel takes {LONGEST}")]
    TooLong {
        /// Its length.
        length: usize,
    },
}

/// The machine that a filter is made for.
struct Host<'a> {
    machine: &'a str,
    kernel: (u32, u32),
    capabilities: Capabilities,
}

impl Profile {
    /// Reads a profile and checks all of it.
    ///
    /// # Errors
    /// It is no profile, or has something that can't be had.
    pub fn parse(text: &[u8]) -> Result<Self, ProfileError> {
        let profile: Self =
            serde_json::from_slice(text).map_err(|source| ProfileError::Form { source })?;
        profile.compile(Capabilities::default())?;
        Ok(profile)
    }

    /// The same for profiles that say the same in the same order.
    pub(in super::super) fn digest(&self) -> Digest {
        // A structure of strings and numbers has a JSON form.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// The filter for a command that has `capabilities`. Empty on a machine whose calls are not known.
    pub(in super::super) fn compile(
        &self,
        capabilities: Capabilities,
    ) -> Result<Vec<BpfInstruction>, ProfileError> {
        let kernel = rustix::system::uname();
        self.compile_for(&Host {
            machine: std::env::consts::ARCH,
            kernel: release(&kernel.release().to_string_lossy()).unwrap_or((u32::MAX, 0)),
            capabilities,
        })
    }

    fn compile_for(&self, host: &Host<'_>) -> Result<Vec<BpfInstruction>, ProfileError> {
        let default = answer(&self.default_action, self.default_errno_ret)?;
        let mut rules: Vec<(&Rule, Case)> = Vec::new();
        for rule in self.syscalls.iter().flatten() {
            let case = Case {
                conditions: rule.conditions()?,
                answer: answer(&rule.action, rule.errno_ret.or(self.default_errno_ret))?,
            };
            if rule.counts(host) {
                rules.push((rule, case));
            }
        }
        let parts = self
            .columns(host.machine)
            .into_iter()
            .map(|(audit, columns)| bpf::Architecture {
                audit,
                calls: columns
                    .iter()
                    .flat_map(|(column, offset)| {
                        TABLE
                            .iter()
                            .filter(|row| row.2[*column] != NONE)
                            .filter_map(|row| {
                                let cases = cases(row.0, &rules, default)?;
                                Some((row.2[*column] + *offset, cases))
                            })
                            .collect::<Vec<_>>()
                    })
                    .collect(),
            })
            .collect::<Vec<_>>();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let otherwise = Action::Cases(vec![Case {
            conditions: Vec::new(),
            answer: default,
        }]);
        let program = bpf::assemble(parts, &otherwise);
        if program.len() > LONGEST {
            return Err(ProfileError::TooLong {
                length: program.len(),
            });
        }
        Ok(program)
    }

    /// The machine's architectures that the profile is for: all of them if it doesn't say.
    fn columns(&self, machine: &str) -> Vec<Columns> {
        let mut named: Vec<&str> = Vec::new();
        for architecture in self.architectures.iter().flatten() {
            named.push(architecture);
        }
        let native = native(machine);
        for map in self.arch_map.iter().flatten() {
            if map.architecture == native {
                named.push(&map.architecture);
                named.extend(map.sub_architectures.iter().flatten().map(String::as_str));
            }
        }
        let all = architectures(machine);
        if named.is_empty() {
            return all
                .iter()
                .map(|(audit, columns)| (*audit, columns.to_vec()))
                .collect();
        }
        all.iter()
            .filter_map(|(audit, columns)| {
                let columns: Vec<_> = columns
                    .iter()
                    .filter(|(column, _)| named.contains(&COLUMNS[*column]))
                    .copied()
                    .collect();
                (!columns.is_empty()).then_some((*audit, columns))
            })
            .collect()
    }
}

/// Names of the table's columns in profiles.
const COLUMNS: [&str; 5] = [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
];

fn native(machine: &str) -> &'static str {
    match machine {
        "aarch64" => COLUMNS[3],
        _ => COLUMNS[0],
    }
}

/// What becomes of the call `name`, if a rule says anything of it.
fn cases(name: &str, rules: &[(&Rule, Case)], default: u32) -> Option<Action> {
    let of_call = || {
        rules
            .iter()
            .filter(|(rule, _)| rule.is_for(name))
            .map(|(_, case)| case)
    };
    let mut cases: Vec<Case> = of_call()
        .filter(|case| !case.conditions.is_empty())
        .cloned()
        .collect();
    let last = of_call().find(|case| case.conditions.is_empty());
    if cases.is_empty() && last.is_none() {
        return None;
    }
    cases.push(last.cloned().unwrap_or(Case {
        conditions: Vec::new(),
        answer: default,
    }));
    Some(Action::Cases(cases))
}

impl Rule {
    fn is_for(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name) || self.names.iter().any(|it| it == name)
    }

    fn counts(&self, host: &Host<'_>) -> bool {
        self.includes.as_ref().is_none_or(|filter| filter.all(host))
            && !self
                .excludes
                .as_ref()
                .is_some_and(|filter| filter.any(host))
    }

    fn conditions(&self) -> Result<Vec<Condition>, ProfileError> {
        let failed = |what: String| ProfileError::Rule {
            call: self
                .name
                .iter()
                .chain(&self.names)
                .next()
                .cloned()
                .unwrap_or_default(),
            what,
        };
        let arguments = self.args.as_deref().unwrap_or_default();
        if arguments.len() > MOST_CONDITIONS {
            return Err(failed(format!("{} conditions", arguments.len())));
        }
        arguments
            .iter()
            .map(|argument| {
                if argument.index > 5 {
                    return Err(failed(format!("the argument {}", argument.index)));
                }
                let value = argument.value;
                let (is, holds) = match argument.op.as_str() {
                    "SCMP_CMP_EQ" => (Comparison::Masked(u64::MAX, value), true),
                    "SCMP_CMP_NE" => (Comparison::Masked(u64::MAX, value), false),
                    "SCMP_CMP_GT" => (Comparison::Greater(value), true),
                    "SCMP_CMP_LE" => (Comparison::Greater(value), false),
                    "SCMP_CMP_GE" => (Comparison::AtLeast(value), true),
                    "SCMP_CMP_LT" => (Comparison::AtLeast(value), false),
                    "SCMP_CMP_MASKED_EQ" => {
                        (Comparison::Masked(value, argument.value_two & value), true)
                    }
                    other => {
                        return Err(ProfileError::Unsupported {
                            what: "comparison",
                            word: other.to_owned(),
                        });
                    }
                };
                Ok(Condition {
                    argument: argument.index,
                    is,
                    holds,
                })
            })
            .collect()
    }
}

impl Host<'_> {
    fn has(&self, capability: &str) -> bool {
        self.capabilities.has(&capability.to_ascii_uppercase())
    }
}

impl Filter {
    fn is_arch(&self, host: &Host<'_>) -> bool {
        let name = match host.machine {
            "aarch64" => "arm64",
            "x86_64" => "amd64",
            other => other,
        };
        self.arches.iter().flatten().any(|arch| arch == name)
    }

    fn kernel(&self) -> Option<(u32, u32)> {
        self.min_kernel.as_deref().and_then(release)
    }

    /// Whether all that is asked for is there.
    fn all(&self, host: &Host<'_>) -> bool {
        self.caps.iter().flatten().all(|name| host.has(name))
            && (self.arches.iter().flatten().next().is_none() || self.is_arch(host))
            && self.kernel().is_none_or(|kernel| host.kernel >= kernel)
    }

    /// Whether any of it is there.
    fn any(&self, host: &Host<'_>) -> bool {
        self.caps.iter().flatten().any(|name| host.has(name))
            || self.is_arch(host)
            || self.kernel().is_some_and(|kernel| host.kernel >= kernel)
    }
}

/// The first two numbers of a kernel's release.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What the filter answers for an action.
fn answer(action: &str, errno: Option<u16>) -> Result<u32, ProfileError> {
    Ok(match action {
        "SCMP_ACT_ALLOW" => RETURN_ALLOW,
        "SCMP_ACT_ERRNO" => RETURN_ERRNO | u32::from(errno.unwrap_or(1)),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        other => {
            return Err(ProfileError::Unsupported {
                what: "action",
                word: other.to_owned(),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::bpf::interpret_all;
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const ALLOW: u32 = 0x7fff_0000;

    fn host(capabilities: Capabilities) -> Host<'static> {
        Host {
            machine: "x86_64",
            kernel: (6, 1),
            capabilities,
        }
    }

    fn compiled(text: &str, host: &Host<'_>) -> Vec<BpfInstruction> {
        serde_json::from_str::<Profile>(text)
            .unwrap()
            .compile_for(host)
            .unwrap()
    }

    #[test]
    fn rules_are_tried_in_order_and_one_without_conditions_last() {
        let program = compiled(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
                {"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW"},
                {"name":"socket","action":"SCMP_ACT_ALLOW"},
                {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,
                 "args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"},
                         {"index":2,"value":9,"op":"SCMP_CMP_EQ"}]},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":
                 [{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
                {"names":["personality"],"action":"SCMP_ACT_KILL_PROCESS",
                 "args":[{"index":0,"value":9,"op":"SCMP_CMP_GT"}]}]}"#,
            &host(Capabilities::default()),
        );
        for (audit, call, arguments, expected) in [
            (X86_64, 0, [0; 3], ALLOW),
            (I386, 3, [0; 3], ALLOW),
            (X86_64, 1, [0; 3], 0x0005_0026),
            (X86_64, 41, [2, 1, 0], ALLOW),
            (X86_64, 41, [16, 3, 0], ALLOW),
            (X86_64, 41, [16, 3, 9], 0x0005_0016),
            (X86_64, 56, [0x11, 0, 0], ALLOW),
            (X86_64, 56, [0x1000_0011, 0, 0], 0x0005_0026),
            (X86_64, 135, [9, 0, 0], 0x0005_0026),
            (X86_64, 135, [1 << 40, 0, 0], 0x8000_0000),
            (X86_64, 9999, [0; 3], 0x0005_0026),
        ] {
            let [a, b, c] = arguments;
            let found = interpret_all(&program, audit, call, [a, b, c, 0, 0, 0]);
            assert_eq!(found, expected, "{call} {arguments:?}: {found:#x}");
        }
    }

    #[test]
    fn rules_count_by_capability_architecture_and_kernel() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
            {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}},
            {"names":["kcmp"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
            {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,
             "excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        let few = compiled(text, &host(Capabilities::default()));
        let many = Capabilities::with(&["SYS_ADMIN".to_owned()], &[]).unwrap();
        let many = compiled(text, &host(many));
        let of = |program: &[BpfInstruction], call| interpret_all(program, X86_64, call, [0; 6]);
        assert_eq!((of(&few, 165), of(&many, 165)), (0x0005_0001, ALLOW));
        assert_eq!((of(&few, 435), of(&many, 435)), (0x0005_0026, 0x0005_0001));
        assert_eq!(of(&few, 101), ALLOW);
        assert_eq!(of(&few, 321), 0x0005_0001);
        assert_eq!(of(&few, 312), 0x0005_0001);
    }

    #[test]
    fn calls_of_architectures_that_are_not_named_get_the_default() {
        let program = compiled(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],
                "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#,
            &host(Capabilities::default()),
        );
        assert_eq!(interpret_all(&program, X86_64, 0, [0; 6]), ALLOW);
        assert_eq!(
            interpret_all(&program, X86_64, 0x4000_0000, [0; 6]),
            0x0005_0001
        );
        assert_eq!(interpret_all(&program, I386, 3, [0; 6]), 0x0005_0001);
    }

    #[test]
    fn what_can_not_be_had_is_named() {
        for (text, part) in [
            ("[]", "no seccomp profile"),
            (
                r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
                "`SCMP_ACT_NOTIFY`",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
                    "action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
                "the argument 6",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
                    "action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":0,"op":"LIKE"}]}]}"#,
                "`LIKE`",
            ),
        ] {
            let error = Profile::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
