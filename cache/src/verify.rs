//! The store's own fsck.
