//! What is said of an image whose manifest is yet to be made.
//!
//! A statement names the digest of a manifest. An image that was built here gets its manifest when it
//! leaves the store, and another one with another compression: so the store has the statements without
//! their subject, and each manifest gets statements of its own.

use serde::{Deserialize, Serialize};
use strata_cache::{Digest, Store, StoreError};

use crate::attest::{self, Form, Statement};
use crate::export::{Artifact, ExportError};
use crate::manifest::Descriptor;

use super::Member;

/// Statements of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The statements, in order.
    pub statements: Vec<SaidStatement>,
    /// What the image was called when they were made: the subjects' names.
    pub names: Vec<String>,
    /// How they are attached.
    #[serde(default)]
    pub form: Form,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidStatement {
    /// What it is: a URI.
    pub predicate_type: String,
    /// What it says: JSON, a blob of the store.
    pub predicate: Digest,
}

impl Said {
    /// Brings statements into the store. A list with them has to be stored next, which keeps them.
    pub fn store(
        store: &Store,
        statements: &[Statement],
        names: &[String],
        form: Form,
    ) -> Result<Self, StoreError> {
        let stored = statements.iter().map(|statement| {
            let bytes = serde_json::to_vec(&statement.predicate)
                .expect("string keys and plain values always serialise");
            Ok(SaidStatement {
                predicate_type: statement.predicate_type.clone(),
                predicate: store.blobs().put(&bytes)?,
            })
        });
        Ok(Self {
            statements: stored.collect::<Result<_, StoreError>>()?,
            names: names.to_vec(),
            form,
        })
    }
}

impl Member {
    /// The manifest of what is said of the member, if that is anything and the member's manifest,
    /// which was made just now, has this descriptor.
    pub(crate) fn artifact(
        &self,
        store: &Store,
        manifest: &Descriptor,
    ) -> Result<Option<Artifact>, ExportError> {
        let Some(said) = &self.said else {
            return Ok(None);
        };
        let mut statements = Vec::with_capacity(said.statements.len());
        for statement in &said.statements {
            let bytes = store.blobs().read(statement.predicate)?;
            let predicate =
                serde_json::from_slice(&bytes).map_err(|source| ExportError::Statement {
                    digest: statement.predicate,
                    source,
                })?;
            statements.push(Statement {
                predicate_type: statement.predicate_type.clone(),
                predicate,
                filename: String::new(),
                inline_only: true,
            });
        }
        let mut manifest = manifest.clone();
        manifest.platform.clone_from(&self.platform);
        Ok(attest::artifact(
            &manifest,
            &said.names,
            &statements,
            said.form,
        ))
    }
}
