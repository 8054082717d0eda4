//! An assembler for the few classic BPF instructions that a filter by number needs.

use crate::sys::BpfInstruction;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Load a word of `seccomp_data`; jumps; `and`; return.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// What the kernel does.
const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes on.
    Allow,
    /// It fails with this error.
    Errno(u16),
    /// It goes on if the low half of its first argument is one of these; `EPERM` otherwise.
    FirstIsOneOf(&'static [u32]),
    /// It goes on unless the low half of its first argument is this; `EPERM` then.
    FirstIsNot(u32),
    /// It goes on if its first argument has none of these bits; `EPERM` otherwise.
    FirstHasNone(u32),
}

impl Action {
    fn emit(self, program: &mut Vec<BpfInstruction>) {
        const REFUSED: Action = Action::Errno(1);
        // Arguments are 64 bits wide. Those looked at here are 32 bits to the kernel, so the high
        // half says nothing, and must not be a way to slip past.
        let low_half = FIRST_ARGUMENT + if cfg!(target_endian = "big") { 4 } else { 0 };
        match self {
            Self::Allow => program.push(instruction(RETURN, RETURN_ALLOW, 0, 0)),
            Self::Errno(errno) => {
                program.push(instruction(RETURN, RETURN_ERRNO | u32::from(errno), 0, 0));
            }
            Self::FirstIsOneOf(values) => {
                program.push(instruction(LOAD, low_half, 0, 0));
                for value in values {
                    program.push(instruction(JUMP_EQUAL, *value, 0, 1));
                    Self::Allow.emit(program);
                }
                REFUSED.emit(program);
            }
            Self::FirstIsNot(value) => {
                program.push(instruction(LOAD, low_half, 0, 0));
                program.push(instruction(JUMP_EQUAL, value, 0, 1));
                REFUSED.emit(program);
                Self::Allow.emit(program);
            }
            Self::FirstHasNone(bits) => {
                program.push(instruction(LOAD, low_half, 0, 0));
                program.push(instruction(AND, bits, 0, 0));
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
pub(super) fn assemble(architectures: Vec<Architecture>, other: Action) -> Vec<BpfInstruction> {
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

fn ranges(mut calls: Vec<(u32, Action)>, other: Action) -> Vec<Range> {
    calls.sort_by_key(|call| call.0);
    let mut ranges: Vec<Range> = vec![(0, other)];
    let mut put = |start: u32, action: Action| match ranges.last_mut() {
        Some(last) if last.0 == start => last.1 = action,
        Some(last) if last.1 == action => {}
        _ => ranges.push((start, action)),
    };
    for (position, (number, action)) in calls.iter().enumerate() {
        put(*number, *action);
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

/// A binary search of the number, which is in the accumulator.
fn search(ranges: &[Range], program: &mut Vec<BpfInstruction>) {
    if let [(_, action)] = ranges {
        action.emit(program);
        return;
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let mut below = Vec::new();
    search(low, &mut below);
    // A conditional jump reaches 255 instructions; a plain one any number.
    if let Ok(distance) = u8::try_from(below.len()) {
        program.push(instruction(JUMP_AT_LEAST, high[0].0, distance, 0));
    } else {
        program.push(instruction(JUMP_AT_LEAST, high[0].0, 0, 1));
        program.push(instruction(JUMP, length(&below), 0, 0));
    }
    program.append(&mut below);
    search(high, program);
}

fn length(program: &[BpfInstruction]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> BpfInstruction {
    BpfInstruction { code, jt, jf, k }
}

/// What a program answers to a call: the kernel's interpreter, for tests.
#[cfg(test)]
pub(super) fn interpret(program: &[BpfInstruction], audit: u32, number: u32, first: u64) -> u32 {
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
                    16 => u32::try_from(first & 0xffff_ffff).unwrap(),
                    20 => u32::try_from(first >> 32).unwrap(),
                    _ => panic!("load from {k}"),
                }
            }
            JUMP => position += usize::try_from(k).unwrap(),
            JUMP_EQUAL => position += branch(accumulator == k),
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

    fn answer(action: Action) -> u32 {
        match action {
            Action::Errno(errno) => RETURN_ERRNO | u32::from(errno),
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
            let calls: Vec<_> = numbers.iter().map(|(number, action)| (*number, *action)).collect();
            let other = Action::Errno(38);
            let first = Architecture { audit: 7, calls: Vec::new() };
            let second = Architecture { audit: 9, calls };
            let program = assemble(vec![first, second], other);
            for number in numbers.keys().copied().chain(asked) {
                let expected = answer(numbers.get(&number).copied().unwrap_or(other));
                prop_assert_eq!(interpret(&program, 9, number, 0), expected);
                prop_assert_eq!(interpret(&program, 7, number, 0), answer(other));
                prop_assert_eq!(interpret(&program, 8, number, 0), answer(other));
            }
        }
    }
}
