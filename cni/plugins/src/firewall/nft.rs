//! The program `nft`: one transaction a call.

use super::FirewallError;
use crate::program;

/// Applies the lines together or not at all.
pub(crate) fn apply(step: &'static str, lines: &str) -> Result<(), FirewallError> {
    let run = || program::demand(&program::find("nft")?, &["-f", "-"], lines.as_bytes());
    run().map(drop).map_err(|source| FirewallError::Program { step, source })
}
