//! `CNI_ARGS`: pairs as `K=V;K2=V2`. A plugin names the ones it knows; others are an error unless `IgnoreUnknown` is set.

use thiserror::Error;

/// The arguments are not right.
#[derive(Debug, Error)]
pub(crate) enum ArgsError {
    #[error("CNI_ARGS: invalid pair {0:?}")]
    Pair(String),
    #[error("CNI_ARGS: IgnoreUnknown is neither true nor false but {0:?}")]
    IgnoreUnknown(String),
    #[error("CNI_ARGS: unknown arguments {0:?}")]
    Unknown(Vec<String>),
    #[error("CNI_ARGS: {key} has the value {value:?}: {why}")]
    Value { key: &'static str, value: String, why: &'static str },
}

/// The value of the one argument that the plugin knows.
pub(crate) fn known<'a>(args: &'a str, key: &str) -> Result<Option<&'a str>, ArgsError> {
    let (mut found, mut unknown, mut ignore) = (None, Vec::new(), false);
    for pair in args.split(';').filter(|_| !args.is_empty()) {
        let Some((name, value)) = pair.split_once('=').filter(|(_, value)| !value.contains('=')) else {
            return Err(ArgsError::Pair(shortened(pair)));
        };
        if name == "IgnoreUnknown" {
            ignore = match value.to_ascii_lowercase().as_str() {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return Err(ArgsError::IgnoreUnknown(shortened(value))),
            };
        } else if name == key {
            found = Some(value).filter(|value| !value.is_empty());
        } else {
            unknown.push(shortened(pair));
        }
    }
    if ignore || unknown.is_empty() { Ok(found) } else { Err(ArgsError::Unknown(unknown)) }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_arguments() {
        assert_eq!(known("", "IP").unwrap(), None);
        assert_eq!(known("IP=10.1.1.5", "IP").unwrap(), Some("10.1.1.5"));
        assert_eq!(known("IgnoreUnknown=1;K8S_POD_NAME=a;IP=10.1.1.5", "IP").unwrap(), Some("10.1.1.5"));
        assert_eq!(known("K8S_POD_NAME=a;IgnoreUnknown=True", "IP").unwrap(), None);
        for bad in ["K8S_POD_NAME=a", "IP", "IP=a=b", ";", "IgnoreUnknown=perhaps", "ip=10.1.1.5"] {
            assert!(known(bad, "IP").is_err(), "{bad}");
        }
    }
}
