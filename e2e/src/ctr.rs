//! The real `ctr`, run as a person types it, and what of its output says the same at any time and place.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::process;

/// `ctr` for one daemon.
pub struct Ctr {
    socket: PathBuf,
    folder: PathBuf,
}

/// How a command line went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ctr {
    /// `folder` is the one with the daemon's folders in it.
    pub fn new(socket: &Path, folder: &Path) -> Self {
        Self { socket: socket.to_path_buf(), folder: folder.to_path_buf() }
    }

    /// Runs a command line of words, whatever comes of it.
    pub fn run(&self, line: &str) -> Outcome {
        self.run_with(line, b"")
    }

    /// The same, with something to read.
    pub fn run_with(&self, line: &str, stdin: &[u8]) -> Outcome {
        let mut command = process::command(process::built("tools/bin/ctr"));
        command.arg("--address").arg(&self.socket).args(line.split_whitespace());
        command.env("HOME", &self.folder).current_dir(&self.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        // One that reads nothing may have ended.
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(stdin));
        let output = child.wait_with_output().expect("wait for ctr");
        Outcome {
            code: output.status.code(),
            stdout: process::text(&output.stdout),
            stderr: process::text(&output.stderr),
        }
    }

    /// Runs a command line that has to succeed, and gives what it printed.
    pub fn done(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert_eq!(outcome.code, Some(0), "ctr {line}: {}{}", outcome.stdout, outcome.stderr);
        outcome.stdout
    }

    /// An output without what differs between two daemons and two moments: folders, times, ages, widths of columns.
    pub fn plain(&self, text: &str) -> Vec<String> {
        let folder = self.folder.to_string_lossy();
        let text = text.replace(&*folder, "<folder>");
        let line = |line: &str| {
            let line = line.replace("Less than a second", "<age>").replace("About a minute", "<age>");
            let line = line.replace("a second ago", "<age>");
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut plain = Vec::new();
            for (index, word) in words.iter().enumerate() {
                let is_age = |next: &&str| next.starts_with("second") || next.starts_with("minute");
                if word.parse::<u32>().is_ok() && words.get(index + 1).is_some_and(is_age) {
                    continue;
                }
                plain.push(if is_age(word) { "<age>".to_owned() } else { sorted(&without_times(word)) });
            }
            plain.join(" ")
        };
        text.lines().map(line).filter(|line| !line.is_empty()).collect()
    }
}

/// Labels come in any order out of a map of Go's.
fn sorted(word: &str) -> String {
    let mut parts: Vec<&str> = word.split(',').collect();
    if word.contains('=') {
        parts.sort_unstable();
    }
    parts.join(",")
}

/// Each RFC 3339 time of a word as `<time>`, also in Go's form, which is date, time and zone.
fn without_times(word: &str) -> String {
    if word.len() > 4 && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | '+')) {
        return "<time>".to_owned();
    }
    const SHAPE: &str = "0000-00-00T00:00:00";
    let fits = |at: &str| {
        let same =
            |(found, shape): (char, char)| if shape == '0' { found.is_ascii_digit() } else { found == shape };
        at.len() >= SHAPE.len() && at.chars().zip(SHAPE.chars()).all(same)
    };
    let Some(start) = (0..word.len()).find(|start| word.get(*start..).is_some_and(fits)) else {
        return word.to_owned();
    };
    let rest = &word[start + SHAPE.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | 'Z' | '+' | ':' | '-'));
    let rest = without_times(&rest[end.unwrap_or(rest.len())..]);
    format!("{}<time>{rest}", &word[..start])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_ages_and_folders_are_taken_out() {
        let ctr = Ctr::new(Path::new("/tmp/x/run/s"), Path::new("/tmp/x"));
        for (text, expected) in [
            (
                "l1 2026-11-28T10:32:18Z  expire=2026-11-29T10:32:18Z,foo=bar ",
                "l1 <time> expire=<time>,foo=bar",
            ),
            ("\"Created\": \"2026-11-28T10:32:18.691995334Z\",", "\"Created\": \"<time>\","),
            ("sha256:1\t6B\tLess than a second\t-", "sha256:1 6B <age> -"),
            ("sha256:1\t6B\t3 seconds\tb=2,a=1", "sha256:1 6B <age> a=1,b=2"),
            ("/tmp/x/root/y 7 z", "<folder>/root/y 7 z"),
        ] {
            assert_eq!(ctr.plain(text), [expected]);
        }
    }
}
