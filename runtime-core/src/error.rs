//! What kind of failure an error is. Each API maps kinds to its own codes in one file; nobody else does.

/// The classes of failure that callers act upon. Every error enum of the daemon has `kind()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already.
    AlreadyExists,
    /// The request can never succeed as it stands.
    InvalidArgument,
    /// The request may succeed once the state of the thing changes.
    FailedPrecondition,
    /// The caller may not do this.
    PermissionDenied,
    /// A peer (registry, shim) cannot be reached right now.
    Unavailable,
    /// A deadline passed.
    DeadlineExceeded,
    /// The caller went away or asked to stop.
    Cancelled,
    /// A limit was reached.
    ResourceExhausted,
    /// Not built yet, or not possible on this host.
    Unimplemented,
    /// Stored or received bytes are not what they should be.
    DataLoss,
    /// Everything that is our own fault.
    Internal,
}

/// An error with all its sources on one line, joined by ": ".
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
