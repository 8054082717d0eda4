//! An assembler for the few classic BPF instructions that a filter by number needs.

use crate::sys::BpfInstruction;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Offsets of an argument's halves.
const LOW: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };
const HIGH: u32 = 4 - LOW;

/// Load a word of `seccomp_data`; jumps; `and`; return.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// What the kernel does.
pub(super) const RETURN_ALLOW: u32 = 0x7fff_0000;
pub(super) const RETURN_ERRNO: u32 = 0x0005_0000;

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes on.
    Allow,
    /// It fails with this error.
    Errno(u16),
    /// What the first case says whose conditions hold; the last one has none.
    Cases(Vec<Case>),
    /// It goes on if the low half of its first argument is one of these; `EPERM` otherwise.
    FirstIsOneOf(&'static [u32]),
    /// It goes on unless the low half of its first argument is this; `EPERM` then.
    FirstIsNot(u32),
    /// It goes on if its first argument has none of these bits; `EPERM` otherwise.
    FirstHasNone(u32),
}

/// One case of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    /// All of them have to hold.
    pub(super) conditions: Vec<Condition>,
    /// What the filter returns to the kernel.
    pub(super) answer: u32,
}

/// A comparison of an argument, all 64 bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0 to 5.
    pub(super) argument: u32,
    /// What is compared.
    pub(super) is: Comparison,
    /// What has to come of it.
    pub(super) holds: bool,
}

/// See [`Condition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The bits of the mask are these.
    Masked(u64, u64),
    /// It is more than this.
    Greater(u64),
    /// It is this or more.
    AtLeast(u64),
}

/// Where a jump inside of a condition leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    True,
    False,
}

impl Condition {
    /// Instructions that go on after their end if the condition holds, and `past` instructions
    /// further if not.
    fn emit(self, past: usize) -> Vec<BpfInstruction> {
        let offset = ARGUMENTS + 8 * self.argument;
        let half =
            |value: u64, shift: u32| u32::try_from((value >> shift) & 0xffff_ffff).unwrap_or(0);
        let plain = |code, k| (code, k, To::Next, To::Next);
        let steps = match self.is {
            Comparison::Masked(mask, bits) => vec![
                plain(LOAD, offset + HIGH),
                plain(AND, half(mask, 32)),
                (JUMP_EQUAL, half(bits, 32), To::Next, To::False),
                plain(LOAD, offset + LOW),
                plain(AND, half(mask, 0)),
                (JUMP_EQUAL, half(bits, 0), To::True, To::False),
            ],
            Comparison::Greater(value) | Comparison::AtLeast(value) => {
                let last = if matches!(self.is, Comparison::Greater(_)) {
                    JUMP_GREATER
                } else {
                    JUMP_AT_LEAST
                };
                vec![
                    plain(LOAD, offset + HIGH),
                    (JUMP_GREATER, half(value, 32), To::True, To::Next),
                    (JUMP_EQUAL, half(value, 32), To::Next, To::False),
                    plain(LOAD, offset + LOW),
                    (last, half(value, 0), To::True, To::False),
                ]
            }
        };
        let end = steps.len();
        let (on_true, on_false) = if self.holds { (0, past) } else { (past, 0) };
        let distance = |to: To, position: usize| {
            let beyond = match to {
                To::Next => return 0,
                To::True => on_true,
                To::False => on_false,
            };
            // The reader of profiles lets only so many conditions through that this fits.
            u8::try_from(end - position - 1 + beyond).unwrap_or(u8::MAX)
        };
        steps
            .iter()
            .enumerate()
            .map(|(position, (code, k, on, off))| {
                instruction(*code, *k, distance(*on, position), distance(*off, position))
            })
            .collect()
    }
}

impl Action {
    fn emit(&self, program: &mut Vec<BpfInstruction>) {
        const REFUSED: Action = Action::Errno(1);
        // Arguments are 64 bits wide. Those looked at here are 32 bits to the kernel, so the high
        // half says nothing, and must not be a way to slip past.
        let low_half = ARGUMENTS + LOW;
        match self {
            Self::Allow => program.push(instruction(RETURN, RETURN_ALLOW, 0, 0)),
            Self::Errno(errno) => {
                program.push(instruction(RETURN, RETURN_ERRNO | u32::from(*errno), 0, 0));
            }
            Self::Cases(cases) => {
                for case in cases {
                    let mut code = vec![instruction(RETURN, case.answer, 0, 0)];
                    for condition in case.conditions.iter().rev() {
                        let mut before = condition.emit(code.len());
                        before.append(&mut code);
                        code = before;
                    }
                    program.append(&mut code);
                }
            }
            Self::FirstIsOneOf(values) => {
                program.push(instruction(LOAD, low_half, 0, 0));
                for value in *values {
                    program.push(instruction(JUMP_EQUAL, *value, 0, 1));
                    Self::Allow.emit(program);
                }
                REFUSED.emit(program);
            }
            Self::FirstIsNot(value) => {
                program.push(instruction(LOAD, low_half, 0, 0));
                program.push(instruction(JUMP_EQUAL, *value, 0, 1));
                REFUSED.emit(program);
                Self::Allow.emit(program);
            }
            Self::FirstHasNone(bits) => {
                program.push(instruction(LOAD, low_half, 0, 0));
                program.push(instruction(AND, *bits, 0, 0));
                program.push(instruction(JUMP_EQUAL, 0, 0, 1));
                Self::Allow.emit(program);
                REFUSED.emit(program);
            }
        }
    }
}

/// What a program does for one architecture: the calls and their actions; all others get `other`.
#[derive(Debug)]
pub(super) struct Architecture {
    /// The kernel's `AUDIT_ARCH_*`.
    pub(super) audit: u32,
    /// Number and action. In any order; of two for one number, the last counts.
    pub(super) calls: Vec<(u32, Action)>,
}

/// A program for several architectures. Calls of another architecture, and numbers that are not
/// listed, get `other`.
pub(super) fn assemble(architectures: Vec<Architecture>, other: &Action) -> Vec<BpfInstruction> {
    let mut program = vec![instruction(LOAD, ARCHITECTURE, 0, 0)];
    for architecture in architectures {
        let mut body = vec![instruction(LOAD, NUMBER, 0, 0)];
        search(&ranges(architecture.calls, other), &mut body);
        program.push(instruction(JUMP_EQUAL, architecture.audit, 1, 0));
        program.push(instruction(JUMP, length(&body), 0, 0));
        program.append(&mut body);
    }
    other.emit(&mut program);
    program
}

/// Where a run of numbers with one action starts. Every number belongs to the run before it.
type Range = (u32, Action);

fn ranges(mut calls: Vec<(u32, Action)>, other: &Action) -> Vec<Range> {
    calls.sort_by_key(|call| call.0);
    let mut ranges: Vec<Range> = vec![(0, other.clone())];
    let mut put = |start: u32, action: &Action| match ranges.last_mut() {
        Some(last) if last.0 == start => last.1 = action.clone(),
        Some(last) if last.1 == *action => {}
        _ => ranges.push((start, action.clone())),
    };
    for (position, (number, action)) in calls.iter().enumerate() {
        put(*number, action);
        let next = calls.get(position + 1).map(|call| call.0);
        if next.is_none_or(|next| next > number.saturating_add(1))
            && let Some(after) = number.checked_add(1)
        {
            put(after, other);
        }
    }
    // A start that was overwritten may now equal the run before it.
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}

/// A binary search of the number, which is in the accumulator. Appended to `program`.
///
/// The kernel compiles a filter for every command anew, which takes time by its length. So what
/// several numbers have in common is there once, as far as jumps reach it.
fn search(ranges: &[Range], program: &mut Vec<BpfInstruction>) {
    let mut search = Backwards::default();
    search.place(ranges);
    program.extend(search.instructions.into_iter().rev());
}

/// A program that is made from its end, as jumps lead forward only.
#[derive(Default)]
struct Backwards {
    /// The last one first.
    instructions: Vec<BpfInstruction>,
}

impl Backwards {
    /// Puts a search of `ranges` before what is there. Gives the place where it is entered.
    fn place(&mut self, ranges: &[Range]) -> usize {
        if let [(_, action)] = ranges {
            return self.place_action(action);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let mut above = self.place(high);
        let mut below = self.place(low);
        loop {
            if let (Some(jt), Some(jf)) = (self.distance(above), self.distance(below)) {
                return self.push(instruction(JUMP_AT_LEAST, high[0].0, jt, jf));
            }
            if self.distance(above).is_none() {
                above = self.nearer(above);
            } else {
                below = self.nearer(below);
            }
        }
    }

    fn place_action(&mut self, action: &Action) -> usize {
        let mut code = Vec::new();
        action.emit(&mut code);
        if let [only] = code[..] {
            // One that is there already, if a jump from about here reaches it.
            let reach = self.instructions.len().saturating_sub(REUSED_WITHIN);
            let near = self.instructions[reach..]
                .iter()
                .rposition(|there| (there.code, there.k, only.code) == (RETURN, only.k, RETURN));
            if let Some(near) = near {
                return reach + near;
            }
        }
        self.instructions.extend(code.into_iter().rev());
        self.instructions.len() - 1
    }

    /// A place closer by that comes to the same.
    fn nearer(&mut self, place: usize) -> usize {
        let there = self.instructions[place];
        if there.code == RETURN {
            return self.push(there);
        }
        let distance = self.instructions.len() - 1 - place;
        let distance = u32::try_from(distance).unwrap_or(u32::MAX);
        self.push(instruction(JUMP, distance, 0, 0))
    }

    /// How far a conditional jump that is put before all would have to lead to `place`, if it can.
    fn distance(&self, place: usize) -> Option<u8> {
        u8::try_from(self.instructions.len() - 1 - place).ok()
    }

    fn push(&mut self, instruction: BpfInstruction) -> usize {
        self.instructions.push(instruction);
        self.instructions.len() - 1
    }
}

/// How far back an answer may be to be jumped to: a conditional jump reaches 255 instructions, and
/// the other part of the search may come in between.
const REUSED_WITHIN: usize = 200;

fn length(program: &[BpfInstruction]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> BpfInstruction {
    BpfInstruction { code, jt, jf, k }
}

/// What a program answers to a call: the kernel's interpreter, for tests.
#[cfg(test)]
pub(super) fn interpret(program: &[BpfInstruction], audit: u32, number: u32, first: u64) -> u32 {
    interpret_all(program, audit, number, [first, 0, 0, 0, 0, 0])
}

/// The same, with all arguments.
#[cfg(test)]
pub(super) fn interpret_all(
    program: &[BpfInstruction],
    audit: u32,
    number: u32,
    arguments: [u64; 6],
) -> u32 {
    let mut position = 0;
    let mut accumulator = 0;
    loop {
        let BpfInstruction { code, jt, jf, k } = program[position];
        position += 1;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            LOAD => {
                accumulator = match k {
                    NUMBER => number,
                    ARCHITECTURE => audit,
                    16..64 if k % 4 == 0 => {
                        let value = arguments[usize::try_from((k - 16) / 8).unwrap()];
                        u32::try_from((value >> (8 * (k % 8))) & 0xffff_ffff).unwrap()
                    }
                    _ => panic!("load from {k}"),
                }
            }
            JUMP => position += usize::try_from(k).unwrap(),
            JUMP_EQUAL => position += branch(accumulator == k),
            JUMP_GREATER => position += branch(accumulator > k),
            JUMP_AT_LEAST => position += branch(accumulator >= k),
            AND => accumulator &= k,
            RETURN => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(action: &Action) -> u32 {
        match action {
            Action::Errno(errno) => RETURN_ERRNO | u32::from(*errno),
            _ => RETURN_ALLOW,
        }
    }

    proptest! {
        #[test]
        fn every_number_gets_its_action(
            numbers in proptest::collection::btree_map(
                prop_oneof![0..600_u32, 0x4000_0000..0x4000_0300_u32, Just(u32::MAX)],
                prop_oneof![Just(Action::Allow), Just(Action::Errno(1)), Just(Action::Errno(38))],
                0..400,
            ),
            asked in proptest::collection::vec(0..700_u32, 50),
        ) {
            let calls: Vec<_> = numbers.iter().map(|(number, action)| (*number, action.clone())).collect();
            let other = Action::Errno(38);
            let first = Architecture { audit: 7, calls: Vec::new() };
            let second = Architecture { audit: 9, calls };
            let program = assemble(vec![first, second], &other);
            for number in numbers.keys().copied().chain(asked) {
                let expected = answer(numbers.get(&number).unwrap_or(&other));
                prop_assert_eq!(interpret(&program, 9, number, 0), expected);
                prop_assert_eq!(interpret(&program, 7, number, 0), answer(&other));
                prop_assert_eq!(interpret(&program, 8, number, 0), answer(&other));
            }
        }

        #[test]
        fn every_condition_is_the_comparison_that_it_says(
            argument in 0..6_u32,
            value in prop_oneof![0..4_u64, Just(u64::MAX), any::<u64>(), 0xffff_fffe..0x1_0000_0002_u64],
            limit in prop_oneof![0..4_u64, Just(u64::MAX), any::<u64>(), 0xffff_fffe..0x1_0000_0002_u64],
            mask in prop_oneof![Just(u64::MAX), any::<u64>(), Just(0x7e02_0000_u64)],
            holds in any::<bool>(),
            second in any::<bool>(),
        ) {
            let mut arguments = [7; 6];
            arguments[usize::try_from(argument).unwrap()] = value;
            for (is, expected) in [
                (Comparison::Masked(mask, limit & mask), value & mask == limit & mask),
                (Comparison::Greater(limit), value > limit),
                (Comparison::AtLeast(limit), value >= limit),
            ] {
                let condition = Condition { argument, is, holds };
                let other = (argument + 1) % 6;
                let seven = Comparison::Masked(u64::MAX, 7);
                let conditions = vec![
                    Condition { argument: other, is: seven, holds: second },
                    condition,
                    Condition { argument: other, is: seven, holds: true },
                ];
                let cases = vec![
                    Case { conditions, answer: 1 },
                    Case { conditions: vec![condition], answer: 2 },
                    Case { conditions: Vec::new(), answer: 3 },
                ];
                let calls = vec![(5, Action::Cases(cases))];
                let program = assemble(vec![Architecture { audit: 9, calls }], &Action::Errno(38));
                let found = interpret_all(&program, 9, 5, arguments);
                let expected = match (expected == holds, second) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, _) => 3,
                };
                prop_assert_eq!(found, expected);
            }
        }
    }
}
