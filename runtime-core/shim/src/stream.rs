//! Streams of a process through its shim: the protocol of the socket beside the shim's ttrpc one.
//!
//! A connection is one session: an attachment to a container, or an exec. The client opens it with one frame, the shim
//! answers with one; then input goes one way, output the other, and the exit code is the last frame. Closing the
//! connection ends the session: an exec's processes are killed, a container goes on. `frame` has the frames, which both
//! sides share; `session` is the client.

pub mod frame;
pub mod session;

/// What becomes of a container's standard input. How a `CreateTaskRequest` says it is defined here as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`; with a terminal, nobody writes to it.
    #[default]
    None,
    /// Open as long as the container runs, whoever attaches and leaves.
    Keep,
    /// Closed when the first attached client with input ends its input or leaves.
    Once,
}

impl Stdin {
    /// The value of `CreateTaskRequest.stdin`.
    #[must_use]
    pub fn uri(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Keep => "cri://keep",
            Self::Once => "cri://once",
        }
    }

    /// The meaning of a `CreateTaskRequest.stdin`, if it is one of ours.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        [Self::None, Self::Keep, Self::Once].into_iter().find(|stdin| stdin.uri() == uri)
    }
}
