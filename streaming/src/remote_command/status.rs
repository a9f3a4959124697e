//! How a remote command ended, in the words that clients expect on the error stream.

use bytes::Bytes;
use serde_json::json;

use crate::protocol::RemoteProtocol;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// Never 0.
    ExitCode(i32),
    Failed(String),
}

impl Outcome {
    /// A JSON status since version 4; before, plain text that is empty on success.
    pub(crate) fn encode(&self, protocol: RemoteProtocol) -> Bytes {
        let text = match self {
            Self::Success => String::new(),
            Self::ExitCode(code) => format!("command terminated with exit code {code}"),
            Self::Failed(why) => format!("Internal error occurred: {why}"),
        };
        if !protocol.has_status() {
            return text.into();
        }
        let status = match self {
            Self::Success => json!({ "metadata": {}, "status": "Success" }),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": text,
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Self::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "message": text,
                "details": { "causes": [{ "message": why }] },
                "code": 500,
            }),
        };
        status.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(outcome: &Outcome) -> serde_json::Value {
        serde_json::from_slice(&outcome.encode(RemoteProtocol::V4)).unwrap()
    }

    #[test]
    fn version_four_sends_a_status_object() {
        assert_eq!(json(&Outcome::Success)["status"], "Success");
        let failed = json(&Outcome::ExitCode(7));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0], json!({ "reason": "ExitCode", "message": "7" }));
        let failed = json(&Outcome::Failed("no \"such\" thing".into()));
        assert_eq!(failed["code"], 500);
        assert_eq!(failed["message"], "Internal error occurred: no \"such\" thing");
    }

    #[test]
    fn older_versions_send_text_and_nothing_on_success() {
        assert!(Outcome::Success.encode(RemoteProtocol::V3).is_empty());
        let text = Outcome::ExitCode(7).encode(RemoteProtocol::V1);
        assert_eq!(text, "command terminated with exit code 7");
    }
}
