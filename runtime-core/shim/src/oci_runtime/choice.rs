//! Which OCI runtime a container was given, kept in its bundle for a `delete` by another process.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use prost::Message;
use runtime_shim::layout::{self, Bundle};
use runtime_shim::protocol::runc::Options;

/// State folder of a bundle that lies nowhere known.
const DEFAULT_STATE: &str = "/run/orlop";
const DEFAULT_BINARY: &str = "runc";

/// The program and its state folder (`--root`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) binary: PathBuf,
    pub(crate) root: PathBuf,
}

impl Choice {
    /// What the options say, with defaults where they say nothing.
    pub(crate) fn of(options: &Options, bundle: &Bundle, namespace: &str) -> Self {
        let binary = match options.binary_name.as_str() {
            "" => DEFAULT_BINARY,
            name => name,
        };
        let root = match options.root.as_str() {
            "" => layout::runtime_root(bundle.state().unwrap_or(Path::new(DEFAULT_STATE)), namespace),
            root => Path::new(root).join(namespace),
        };
        Self { binary: binary.into(), root }
    }
}

/// Keeps the options with the container.
pub(crate) fn remember(options: &Options, bundle: &Bundle) -> io::Result<()> {
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600);
    file.open(bundle.runtime_options())?.write_all(&options.encode_to_vec())
}

/// The options that were kept; the defaults when there are none, or none that can be read.
pub(crate) fn recall(bundle: &Bundle) -> Options {
    let kept = fs::read(bundle.runtime_options()).unwrap_or_default();
    Options::decode(kept.as_slice()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::at(folder.path());
        let nothing = Choice::of(&recall(&bundle), &bundle, "n");
        assert_eq!(nothing, Choice { binary: "runc".into(), root: "/run/orlop/runc/n".into() });
        let options = Options { binary_name: "/x/crun".into(), root: "/r".into(), ..Options::default() };
        remember(&options, &bundle).unwrap();
        let kept = Choice::of(&recall(&bundle), &bundle, "n");
        assert_eq!(kept, Choice { binary: "/x/crun".into(), root: "/r/n".into() });
    }
}
