//! The command line that containerd's shim protocol fixes: single-dash flags, then an action.

use std::path::PathBuf;

use thiserror::Error;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Delete,
    Information,
    Version,
    Help,
}

/// What a person who finds this program in a process list is told.
pub(crate) const USAGE: &str = "\
The shim of one pod: the daemon starts it, and it outlives the daemon. Nobody has to by hand.

  containerd-shim-orlop-v1 -namespace NAMESPACE -id ID start    in the bundle's folder
  containerd-shim-orlop-v1 -namespace NAMESPACE -id ID [-bundle FOLDER] delete
  containerd-shim-orlop-v1 -v
";

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) action: Action,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) bundle: Option<PathBuf>,
}

/// A command line that is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ArgumentError {
    #[error("flag {flag} is not known")]
    Flag { flag: String },
    #[error("flag {flag} needs a value")]
    Value { flag: String },
    #[error("flag {flag} is missing")]
    Missing { flag: &'static str },
    #[error("action {action:?} is not known; start and delete are")]
    Action { action: String },
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Arguments, ArgumentError> {
    let mut words = words.into_iter();
    let (mut namespace, mut id, mut bundle) = (String::new(), String::new(), None);
    let mut action = None;
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag)) else {
            action = Some(match word.as_str() {
                "start" => Action::Start,
                "delete" => Action::Delete,
                _ => return Err(ArgumentError::Action { action: word }),
            });
            continue;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let mut value =
            || inline.clone().or_else(|| words.next()).ok_or(ArgumentError::Value { flag: word.clone() });
        match name {
            "namespace" => namespace = value()?,
            "id" => id = value()?,
            "bundle" => bundle = Some(value()?.into()),
            // The daemon's address is of use only for events, which go over the connection instead.
            "address" | "publish-binary" | "socket" => drop(value()?),
            "debug" => {}
            "h" | "help" => action = Some(Action::Help),
            "v" => action = Some(Action::Version),
            "info" => action = Some(Action::Information),
            _ => return Err(ArgumentError::Flag { flag: word }),
        }
    }
    let action = action.ok_or_else(|| ArgumentError::Action { action: String::new() })?;
    if matches!(action, Action::Start | Action::Delete) {
        for (flag, text) in [("-namespace", &namespace), ("-id", &id)] {
            if text.is_empty() {
                return Err(ArgumentError::Missing { flag });
            }
        }
    }
    Ok(Arguments { action, namespace, id, bundle })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Arguments, ArgumentError> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_daemons_command_line() {
        let line = "-namespace k8s.io -address /run/x.sock -publish-binary /bin/x -id abc -debug start";
        let arguments = words(line).unwrap();
        assert_eq!(
            (arguments.action, &*arguments.namespace, &*arguments.id),
            (Action::Start, "k8s.io", "abc")
        );
        let arguments = words("--namespace=a -id=b -bundle /x delete").unwrap();
        assert_eq!((arguments.action, arguments.bundle), (Action::Delete, Some("/x".into())));
        assert_eq!(words("-v").unwrap().action, Action::Version);
        assert_eq!(words("--help").unwrap().action, Action::Help);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(words("-id x start"), Err(ArgumentError::Missing { flag: "-namespace" }));
        assert_eq!(words("-nope"), Err(ArgumentError::Flag { flag: "-nope".into() }));
        assert_eq!(words("-id"), Err(ArgumentError::Value { flag: "-id".into() }));
        assert!(matches!(words("-namespace a -id b"), Err(ArgumentError::Action { .. })));
        assert!(matches!(words("stop"), Err(ArgumentError::Action { .. })));
    }
}
