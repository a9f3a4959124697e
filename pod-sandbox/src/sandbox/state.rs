//! The state of a pod: a projection of recorded facts.
//!
//! ```text
//!  SettingUp{stage} ──▶ Ready ──▶ Died ──────┐
//!         │               │                  ▼
//!         └──failed───────┴──Stop──▶ TearingDown ──▶ Stopped ──Remove──▶ gone
//! ```
//! Only Ready is READY to the kubelet.

use runtime_core::clock::Timestamp;

use crate::facts::{Fact, Stage};
use crate::timing::Timings;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxState {
    SettingUp { stage: Stage },
    Ready { since: Timestamp },
    Died { at: Timestamp },
    TearingDown { last_error: Option<String> },
    Stopped,
    Unknown { why: String },
}

/// Everything the journal says about a pod itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxFacts {
    pub state: SandboxState,
    /// The highest stage that was entered: where a teardown begins.
    pub reached: Stage,
    pub removing: bool,
    /// How long the stages of the set-up took.
    pub timings: Timings,
}

impl Default for SandboxFacts {
    fn default() -> Self {
        let stage = Stage::Reserved;
        Self {
            state: SandboxState::SettingUp { stage },
            reached: stage,
            removing: false,
            timings: Timings::default(),
        }
    }
}

impl SandboxFacts {
    #[must_use]
    pub(crate) fn after(mut self, fact: &Fact) -> Self {
        match fact {
            Fact::Entering(stage) => {
                self.reached = *stage;
                self.state = SandboxState::SettingUp { stage: *stage };
            }
            // Whatever may be there is taken down: every step of a teardown is fine with nothing.
            Fact::Unreadable { why } => {
                self.reached = Stage::NetworkUp;
                self.state = SandboxState::Unknown { why: why.clone() };
            }
            Fact::Ready { at, timings } => {
                self.state = SandboxState::Ready { since: *at };
                self.timings = timings.clone();
            }
            Fact::ShimDied { at } => self.state = SandboxState::Died { at: *at },
            Fact::Stopping => self.state = SandboxState::TearingDown { last_error: None },
            Fact::NetworkDown => self.reached = self.reached.min(Stage::NamespacesMade),
            Fact::Stopped { .. } => self.state = SandboxState::Stopped,
            Fact::Removing => self.removing = true,
            Fact::Shim { .. }
            | Fact::Starting { .. }
            | Fact::StartUndone { .. }
            | Fact::Started { .. }
            | Fact::Exited { .. }
            | Fact::RemovingContainer { .. } => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(facts: &[Fact]) -> SandboxFacts {
        facts.iter().fold(SandboxFacts::default(), SandboxFacts::after)
    }

    #[test]
    fn setup_climbs_and_stop_ends_it() {
        let up = [Fact::Entering(Stage::Files), Fact::Entering(Stage::ShimUp)];
        let shim = Fact::Shim { pid: 3, start_time: 8 };
        let half = project(&up);
        assert_eq!(
            (half.state, half.reached),
            (SandboxState::SettingUp { stage: Stage::ShimUp }, Stage::ShimUp)
        );
        let ready = project(
            &[up.to_vec(), vec![shim, Fact::Ready { at: Timestamp(1), timings: Timings::default() }]]
                .concat(),
        );
        assert_eq!(ready.state, SandboxState::Ready { since: Timestamp(1) });
        let stopped = project(&[
            Fact::Ready { at: Timestamp(1), timings: Timings::default() },
            Fact::Stopping,
            Fact::Stopped { at: Timestamp(2) },
        ]);
        assert_eq!(stopped.state, SandboxState::Stopped);
    }
}
