//! The programs `iptables-save` and `iptables-restore`, for the table `nat`.

use std::fmt::Write;
use std::fs;

use super::netfilter::{self, Table};
use super::{Family, FirewallError};
use crate::program::{self, ProgramError};

/// How long another iptables may hold the lock of the old tables, in seconds.
const WAIT: &str = "--wait=10";

/// A rule: its chain, and the words after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) chain: String,
    pub(crate) words: Vec<String>,
}

impl Rule {
    pub(crate) fn new(chain: &str, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { chain: chain.to_owned(), words: words.into_iter().map(Into::into).collect() }
    }

    /// As `iptables-save` writes it, when the words are in its order.
    pub(crate) fn line(&self) -> String {
        format!("-A {}", self.text())
    }

    fn text(&self) -> String {
        let mut text = self.chain.clone();
        for word in &self.words {
            text.push(' ');
            text.push_str(&quoted(word));
        }
        text
    }
}

/// A word that the programs read as one.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,:/+[]!=@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The table `nat` as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    chains: Vec<String>,
    rules: Vec<String>,
}

impl Saved {
    /// Asks the program.
    pub(crate) fn read(family: Family) -> Result<Self, FirewallError> {
        let run = || program::demand(&program::find(save_program(family))?, &["-t", "nat"], b"");
        let stdout = run().map_err(|source| FirewallError::Program { step: "list rules", source })?;
        Ok(Self::parse(&String::from_utf8_lossy(&stdout)))
    }

    fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        for line in text.lines() {
            if let Some(chain) = line.strip_prefix(':') {
                saved.chains.extend(chain.split_whitespace().next().map(str::to_owned));
            } else if line.starts_with("-A ") {
                saved.rules.push(line.to_owned());
            }
        }
        saved
    }

    pub(crate) fn has_chain(&self, chain: &str) -> bool {
        self.chains.iter().any(|one| one == chain)
    }

    pub(crate) fn has_rule(&self, rule: &Rule) -> bool {
        self.rules.contains(&rule.line())
    }

    /// The rules of a chain.
    pub(crate) fn rules_of<'a>(&'a self, chain: &str) -> impl Iterator<Item = &'a str> {
        let start = format!("-A {chain} ");
        self.rules.iter().filter(move |line| line.starts_with(&start)).map(String::as_str)
    }

    pub(crate) fn chains(&self) -> impl Iterator<Item = &str> {
        self.chains.iter().map(String::as_str)
    }

    /// The rules of other chains that lead to this one.
    fn leading_to<'a>(&'a self, chain: &str) -> impl Iterator<Item = &'a str> {
        let (jump, goto) = (format!(" -j {chain}"), format!(" -g {chain}"));
        self.rules
            .iter()
            .filter(move |line| line.ends_with(&jump) || line.ends_with(&goto))
            .map(String::as_str)
    }
}

/// Changes to the table `nat`, made together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    lines: String,
}

impl Changes {
    fn push(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    /// Makes a chain, or empties it.
    pub(crate) fn fresh_chain(&mut self, chain: &str) {
        self.push(&format!(":{chain} - [0:0]"));
    }

    pub(crate) fn append(&mut self, rule: &Rule) {
        self.push(&rule.line());
    }

    pub(crate) fn insert_first(&mut self, rule: &Rule) {
        let line = rule.line();
        let words = line.strip_prefix(&format!("-A {}", rule.chain)).unwrap_or_default();
        self.push(&format!("-I {} 1{words}", rule.chain));
    }

    /// Removes the rules that lead to a chain.
    pub(crate) fn cut_off(&mut self, chain: &str, saved: &Saved) {
        for line in saved.leading_to(chain) {
            self.push(&line.replacen("-A ", "-D ", 1));
        }
    }

    /// Removes a chain with all that leads to it, if it is there.
    pub(crate) fn remove_chain(&mut self, chain: &str, saved: &Saved) {
        if saved.has_chain(chain) {
            self.cut_off(chain, saved);
            self.push(&format!("-F {chain}"));
            self.push(&format!("-X {chain}"));
        }
    }

    pub(crate) fn apply(&self, step: &'static str, family: Family) -> Result<(), FirewallError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut text = String::from("*nat\n");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}COMMIT", self.lines);
        let program = match family {
            Family::V4 => "iptables-restore",
            Family::V6 => "ip6tables-restore",
        };
        let run = || program::demand(&program::find(program)?, &["--noflush", WAIT], text.as_bytes());
        run().map(drop).map_err(|source| FirewallError::Program { step, source })
    }
}

/// Whether a chain is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    No,
    Possible,
    Certain,
}

/// Asks the kernel for a chain, which is much cheaper than a program. The old tables cannot be asked, only whether there
/// are any.
pub(crate) fn presence(family: Family, chain: &str) -> Presence {
    let (table, old) = match family {
        Family::V4 => (Table::Ip("nat"), "/proc/net/ip_tables_names"),
        Family::V6 => (Table::Ip6("nat"), "/proc/net/ip6_tables_names"),
    };
    let in_old = || fs::read_to_string(old).is_ok_and(|names| names.lines().any(|name| name == "nat"));
    match netfilter::has_chain(table, chain) {
        Ok(true) => Presence::Certain,
        Ok(false) if !in_old() => Presence::No,
        Ok(false) | Err(_) => Presence::Possible,
    }
}

/// The table, to remove chains from it that are there by this much.
pub(crate) fn read_for_removal(family: Family, presence: Presence) -> Result<Option<Saved>, FirewallError> {
    if presence == Presence::No {
        return Ok(None);
    }
    match Saved::read(family) {
        // Rules of ours would have needed the program. Those in the table are somebody else's.
        Err(FirewallError::Program { source: ProgramError::NotInstalled(_), .. })
            if presence == Presence::Possible =>
        {
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

/// Whether the program says that a rule is there.
pub(crate) fn has_rule(family: Family, rule: &Rule) -> Result<bool, FirewallError> {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let words = rule.words.iter().map(String::as_str);
    let args: Vec<&str> = ["--wait", "-t", "nat", "-C", &rule.chain].into_iter().chain(words).collect();
    let run =
        || -> Result<bool, ProgramError> { Ok(program::run(&program::find(program)?, &args, b"")?.success) };
    run().map_err(|source| FirewallError::Program { step: "look for a rule", source })
}

fn save_program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "# Generated\n*nat\n:POSTROUTING ACCEPT [0:0]\n:CNI-a - [0:0]\n:CNI-ab - [0:0]\n\
        -A POSTROUTING -s 10.1.0.2/32 -m comment --comment \"name: \\\"pods\\\" id: \\\"a\\\"\" -j CNI-a\n\
        -A POSTROUTING -s 10.1.0.3/32 -j CNI-ab\n-A CNI-a -d 10.1.0.0/24 -j ACCEPT\nCOMMIT\n";

    #[test]
    fn a_chain_goes_with_what_leads_to_it() {
        let saved = Saved::parse(SAVED);
        let mut changes = Changes::default();
        changes.remove_chain("CNI-a", &saved);
        changes.remove_chain("CNI-gone", &saved);
        assert_eq!(
            changes.lines,
            "-D POSTROUTING -s 10.1.0.2/32 -m comment --comment \"name: \\\"pods\\\" id: \\\"a\\\"\" -j CNI-a\n\
             -F CNI-a\n-X CNI-a\n"
        );
        assert_eq!(saved.rules_of("CNI-a").count(), 1);
        assert_eq!(saved.chains().count(), 3);
    }

    #[test]
    fn words_are_quoted_as_the_program_does() {
        let rule =
            Rule::new("POSTROUTING", ["-m", "comment", "--comment", "name: \"pods\" \\", "-j", "CNI-a"]);
        assert_eq!(rule.line(), "-A POSTROUTING -m comment --comment \"name: \\\"pods\\\" \\\\\" -j CNI-a");
        let rule = Rule::new("POSTROUTING", ["-s", "10.1.0.3/32", "-j", "CNI-ab"]);
        assert!(Saved::parse(SAVED).has_rule(&rule));
        let mut changes = Changes::default();
        changes.insert_first(&rule);
        assert_eq!(changes.lines, "-I POSTROUTING 1 -s 10.1.0.3/32 -j CNI-ab\n");
    }
}
