//! The man pages of the command line: section 8, one page a command, made from the same definition as `--help`.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

/// Commands of a system's administrator, as the manual calls them.
const SECTION: &str = "8";

/// Writes `orlop.8`, `orlop-config.8` and so on into `folder`, which has to be there.
pub fn write(mut command: Command, folder: &Path) -> io::Result<()> {
    command.build();
    page(&command, folder)
}

fn page(command: &Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands() {
        page(below, folder)?;
    }
    Man::new(command.clone()).section(SECTION).generate_to(folder).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_that_names_its_options_and_its_commands() {
        let folder = tempfile::tempdir().expect("temporary folder");
        write(Cli::command(), folder.path()).expect("the folder is ours");
        let entries = std::fs::read_dir(folder.path()).expect("the folder is ours");
        let names: BTreeSet<String> =
            entries.map(|it| it.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        for name in ["orlop.8", "orlop-version.8", "orlop-config.8", "orlop-config-check.8", "orlop-man.8"] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
        let main = std::fs::read_to_string(folder.path().join("orlop.8")).expect("it was written");
        for word in [".TH orlop 8", "kubelet", "orlop\\-config(8)", "\\-\\-address", "orlop config check"] {
            assert!(main.contains(word), "{word} is not in {main}");
        }
    }
}
