//! Dockerfile text to typed instructions with source spans.
//!
//! ```
//! use strata_parser::Dockerfile;
//! use strata_parser::InstructionKind;
//!
//! let file = Dockerfile::parse(b"FROM debian AS base\nRUN echo hello\n")?;
//! assert_eq!(file.stages[0].name(), Some("base"));
//! assert!(matches!(file.stages[0].instructions[0].kind, InstructionKind::Run(_)));
//! # Ok::<(), strata_parser::Diagnostics>(())
//! ```
//!
//! A mistake is a [`Diagnostic`]: data with a place, rendered when somebody wants to read it.
//!
//! ```
//! use strata_parser::Dockerfile;
//! use strata_parser::render;
//!
//! let text = "FORM debian\n";
//! let errors = Dockerfile::parse(text.as_bytes()).unwrap_err();
//! assert!(render(&errors.list[0], "Dockerfile", text).contains("did you mean `FROM`?"));
//! ```
//!
//! Values of variables are nobody's business here: words stay raw until
//! [`expand::Lexer`] is given a lookup. Nothing in this crate opens a file.

#![forbid(unsafe_code)]

pub mod chmod;
pub mod chown;
pub mod diagnostic;
pub mod directive;
mod dockerfile;
pub mod duration;
pub mod expand;
pub mod expose;
pub mod fix;
mod grammar;
pub mod ignore;
pub mod instruction;
pub mod lint;
pub mod mount;
pub mod pattern;
pub mod platform;
mod reader;
pub mod reference;
pub mod signal;
pub mod source;
pub mod span;
pub mod suggest;
mod wildcard;

pub use diagnostic::Diagnostic;
pub use diagnostic::Diagnostics;
pub use diagnostic::Level;
pub use diagnostic::render;
pub use dockerfile::Dockerfile;
pub use dockerfile::GlobalArg;
pub use dockerfile::Stage;
pub use dockerfile::parse_trigger;
pub use instruction::Instruction;
pub use instruction::InstructionKind;
pub use span::LineIndex;
pub use span::Position;
pub use span::Span;
pub use span::Spanned;
