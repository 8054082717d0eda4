//! The client: one for each process, any number of registries.

use super::RegistryOptions;

/// Speaks to registries. Does nothing before it is first asked for something.
#[derive(Debug)]
pub struct Client {
    #[expect(dead_code, reason = "read once requests are made")]
    options: RegistryOptions,
}

impl Client {
    /// A client with `options`.
    pub fn new(options: RegistryOptions) -> Self {
        Self { options }
    }
}
