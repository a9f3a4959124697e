//! The state of a container: a projection of recorded facts.
//!
//! ```text
//!  Created ──Start──▶ Starting ──▶ Running ──Stop──▶ Stopping
//!     ▲                  │            │                 │
//!     └──undone──────────┤            ▼                 │
//!                        └────────▶ Exited ◀────────────┘      (Exited, Created ──Remove──▶ gone)
//!  Unknown: recovery could not tell; only Stop and Remove are admitted.
//! ```

use runtime_core::clock::Timestamp;

use crate::facts::{ContainerExit, ExitReason, Fact};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Starting,
    Running { pid: i32, since: Timestamp },
    Stopping { pid: i32, since: Timestamp },
    Exited { since: Option<Timestamp>, exit: ContainerExit },
    Unknown { why: String },
}

impl ContainerState {
    /// When its process was started, if ever.
    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            Self::Running { since, .. } | Self::Stopping { since, .. } => Some(*since),
            Self::Exited { since, .. } => *since,
            Self::Created | Self::Starting | Self::Unknown { .. } => None,
        }
    }

    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } | Self::Stopping { pid, .. } => Some(*pid),
            Self::Created | Self::Starting | Self::Exited { .. } | Self::Unknown { .. } => None,
        }
    }

    /// It runs, or is about to.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. } | Self::Stopping { .. })
    }

    /// The state after one more fact about this container.
    #[must_use]
    pub fn after(self, fact: &Fact) -> Self {
        match fact {
            Fact::Starting { .. } => Self::Starting,
            Fact::StartUndone { .. } => Self::Created,
            Fact::Started { pid, at, .. } => Self::Running { pid: *pid, since: *at },
            Fact::Exited { exit, .. } => Self::Exited { since: self.started_at(), exit: exit.clone() },
            Fact::Unreadable { why } => Self::Unknown { why: why.clone() },
            Fact::ShimDied { at } => self.after_shim_death(*at),
            Fact::Entering(_)
            | Fact::Shim { .. }
            | Fact::Ready { .. }
            | Fact::Stopping
            | Fact::NetworkDown
            | Fact::Stopped { .. }
            | Fact::Removing
            | Fact::RemovingContainer { .. } => self,
        }
    }

    /// A container cannot outlive its shim; one that never started has no exit to report.
    fn after_shim_death(self, at: Timestamp) -> Self {
        match self {
            Self::Running { since, .. } | Self::Stopping { since, .. } => Self::Exited {
                since: Some(since),
                exit: ContainerExit {
                    code: KILLED,
                    reason: ExitReason::ShimDied,
                    message: "the pod's shim died".to_owned(),
                    at,
                },
            },
            Self::Starting => Self::Created,
            Self::Created | Self::Exited { .. } | Self::Unknown { .. } => self,
        }
    }
}

/// 128 + SIGKILL.
pub(crate) const KILLED: i32 = 137;

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::ids::ContainerId;

    fn id() -> ContainerId {
        ContainerId::parse("c1").expect("valid")
    }

    fn exit(code: i32) -> ContainerExit {
        ContainerExit { code, reason: ExitReason::Error, message: String::new(), at: Timestamp(9) }
    }

    #[test]
    fn facts_project_to_states() {
        let starting = Fact::Starting { container: id() };
        let started = Fact::Started { container: id(), pid: 4, at: Timestamp(3) };
        let exited = Fact::Exited { container: id(), exit: exit(7) };
        let undone = Fact::StartUndone { container: id() };
        let died = Fact::ShimDied { at: Timestamp(9) };
        let table: &[(&[&Fact], ContainerState)] = &[
            (&[], ContainerState::Created),
            (&[&starting], ContainerState::Starting),
            (&[&starting, &undone], ContainerState::Created),
            (&[&starting, &died], ContainerState::Created),
            (&[&starting, &started], ContainerState::Running { pid: 4, since: Timestamp(3) }),
            (
                &[&starting, &started, &exited],
                ContainerState::Exited { since: Some(Timestamp(3)), exit: exit(7) },
            ),
            (&[&starting, &exited], ContainerState::Exited { since: None, exit: exit(7) }),
        ];
        for (facts, expected) in table {
            let state = facts.iter().fold(ContainerState::Created, |state, fact| state.after(fact));
            assert_eq!(state, *expected, "{facts:?}");
        }
    }

    #[test]
    fn the_death_of_the_shim_ends_what_ran_and_keeps_earlier_exits() {
        let running = ContainerState::Running { pid: 4, since: Timestamp(3) };
        let ContainerState::Exited { exit: end, .. } = running.after(&Fact::ShimDied { at: Timestamp(9) })
        else {
            panic!("a running container must end with its shim");
        };
        assert_eq!((end.code, end.reason), (KILLED, ExitReason::ShimDied));
        let before = ContainerState::Exited { since: None, exit: exit(7) };
        assert_eq!(before.clone().after(&Fact::ShimDied { at: Timestamp(9) }), before);
    }
}
