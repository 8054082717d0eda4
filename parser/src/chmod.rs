//! `--chmod`: octal, or symbolic as chmod(1) takes it.

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// These bits, 0 to 0o7777.
    Octal(u32),
    /// Clauses, applied in order.
    Symbolic(Vec<Clause>),
}

/// One clause: `u=rwX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    _private: (),
}

/// Why a text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode `{mode}`: {reason}")]
pub struct ChmodError {
    /// What was written.
    pub mode: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Chmod {
    /// Reads an expanded value.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        let _ = text;
        todo!()
    }

    /// Whether it is octal: then directories made for the destination get it, too.
    pub fn is_octal(&self) -> bool {
        matches!(self, Self::Octal(_))
    }

    /// The permission bits (0 to 0o7777) that `mode` becomes.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let _ = (mode, is_dir);
        todo!()
    }
}
