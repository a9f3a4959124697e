//! Running other programs: input and outputs in memory files, so that no side waits for the other.
//!
//! They end with this process: who kills the plugin for being late wants no rules written after that.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime_sys::pidfd::{self, Exit};
use runtime_sys::spawn::{Spawn, Stdio};
use rustix::fs::MemfdFlags;
use thiserror::Error;

/// Folders that are searched besides PATH, in which a daemon often has no `sbin`.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Most of an output that is read, in bytes: rules of a large node are some megabytes.
const LARGEST_OUTPUT: u64 = 64 << 20;
/// The end of stderr that an error shows.
const SHOWN: usize = 1024;

/// A program did not do its work.
#[derive(Debug, Error)]
pub(crate) enum ProgramError {
    #[error("{0} is not installed")]
    NotInstalled(String),
    #[error("cannot run {program}")]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed{}", Said(stderr))]
    Failed { program: PathBuf, stderr: String },
}

struct Said<'a>(&'a str);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.0) }
    }
}

/// How a program ended.
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// The file of a program by its name.
pub(crate) fn find(name: &str) -> Result<PathBuf, ProgramError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    let mut files = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    files.find(|file| is_program(file)).ok_or_else(|| ProgramError::NotInstalled(name.to_owned()))
}

pub(crate) fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Runs a program with this process's environment to its end.
pub(crate) fn run(program: &Path, args: &[&str], input: &[u8]) -> Result<Output, ProgramError> {
    run_with(program, args, input, &[])
}

/// And with these variables in it.
pub(crate) fn run_with(
    program: &Path,
    args: &[&str],
    input: &[u8],
    variables: &[(&str, &str)],
) -> Result<Output, ProgramError> {
    let work = || -> io::Result<Output> {
        let mut stdin = memory()?;
        stdin.write_all(input)?;
        stdin.rewind()?;
        let (mut stdout, mut stderr) = (memory()?, memory()?);
        let mut spawn = Spawn::new(program).args(args).directory("/").ends_with_caller();
        for (name, value) in std::env::vars_os() {
            spawn = spawn.env(name, value);
        }
        for (name, value) in variables {
            spawn = spawn.env(name, value);
        }
        let child = spawn
            .stdin(Stdio::Fd(OwnedFd::from(stdin)))
            .stdout(Stdio::Fd(stdout.try_clone()?.into()))
            .stderr(Stdio::Fd(stderr.try_clone()?.into()))
            .start()?;
        let success = pidfd::wait(child.pidfd())? == Exit::Code(0);
        let stderr = contents(&mut stderr)?;
        Ok(Output { success, stdout: contents(&mut stdout)?, stderr: ending(&stderr) })
    };
    work().map_err(|source| ProgramError::Run { program: program.into(), source })
}

/// Runs a program that has to succeed; gives its stdout.
pub(crate) fn demand(program: &Path, args: &[&str], input: &[u8]) -> Result<Vec<u8>, ProgramError> {
    let output = run(program, args, input)?;
    if output.success {
        Ok(output.stdout)
    } else {
        Err(ProgramError::Failed { program: program.into(), stderr: output.stderr })
    }
}

fn memory() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("orlop-cni", MemfdFlags::CLOEXEC)?))
}

fn contents(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    if file.take(LARGEST_OUTPUT + 1).read_to_end(&mut bytes)? as u64 > LARGEST_OUTPUT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// The end of an output on one line, where the reason mostly is.
fn ending(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(SHOWN)..).unwrap_or_default());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_and_outputs_of_any_size_go_through() {
        let input = vec![b'x'; 1 << 20];
        let script = "tee /dev/stderr";
        let output = run(Path::new("/bin/sh"), &["-c", script], &input).unwrap();
        assert!(output.success);
        assert_eq!((output.stdout.len(), output.stderr.len()), (1 << 20, SHOWN));
    }

    #[test]
    fn a_failure_tells_what_the_program_said() {
        let error =
            demand(Path::new("/bin/sh"), &["-c", "echo a; echo 'no  way' >&2; exit 3"], b"").unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh failed: no way");
        assert!(matches!(find("no-such-program"), Err(ProgramError::NotInstalled(_))));
        assert!(matches!(run(Path::new("/nonexistent"), &[], b""), Err(ProgramError::Run { .. })));
    }
}
