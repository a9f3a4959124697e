//! `orlop-cni install DIR`: links with the plugins' names, so that a runtime finds them there.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::Plugin;

/// The links could not be made.
#[derive(Debug, Error)]
#[error("cannot {step} {path}")]
pub(crate) struct InstallError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Makes the folder and a link for each plugin. What has such a name already and is no link of ours stays: it is
/// somebody's plugin.
pub(crate) fn install(folder: &Path) -> Result<(), InstallError> {
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| InstallError { step, path, source }
    };
    let program = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
    fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
    for plugin in Plugin::ALL {
        let link = folder.join(plugin.name());
        match fs::read_link(&link) {
            Ok(target) if target == program => continue,
            Ok(target) if target.file_name() == program.file_name() => {
                fs::remove_file(&link).map_err(failed("replace", &link))?;
            }
            Ok(_) | Err(_) => {}
        }
        symlink(&program, &link).map_err(failed("make the link", &link))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_once_and_others_plugins_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("bin");
        install(&folder).unwrap();
        install(&folder).unwrap();
        let target = fs::read_link(folder.join("host-local")).unwrap();
        assert_eq!(target, std::env::current_exe().unwrap());
        fs::remove_file(folder.join("portmap")).unwrap();
        fs::File::create(folder.join("portmap")).unwrap();
        assert!(install(&folder).is_err());
        assert!(fs::symlink_metadata(folder.join("portmap")).unwrap().is_file());
    }
}
