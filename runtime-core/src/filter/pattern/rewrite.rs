//! From Go's syntax to that of the `regex` crate, outside of character classes.
//!
//! Literals that could mean something are written as `\x{…}`, named groups become plain ones: nobody asks for them.

use super::PatternError;
use super::class;

pub(super) fn rewrite(pattern: &str) -> Result<String, PatternError> {
    let mut rewriter = Rewriter { rest: pattern, out: String::with_capacity(pattern.len() * 2) };
    while let Some(c) = rewriter.next() {
        rewriter.one(c)?;
    }
    Ok(rewriter.out)
}

/// What is left of the expression and what has been written.
pub(super) struct Rewriter<'a> {
    pub(super) rest: &'a str,
    pub(super) out: String,
}

/// Characters of an expression that an error repeats.
const SHOWN: usize = 16;

pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl<'a> Rewriter<'a> {
    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = self.rest.split_at(c.len_utf8()).1;
        Some(c)
    }

    /// Takes `prefix` away if it is next.
    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        let behind = self.rest.strip_prefix(prefix);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    /// Takes everything before `end` and `end` itself; nothing if it does not come.
    pub(super) fn eat_until(&mut self, end: &str) -> Option<&'a str> {
        let (before, behind) = self.rest.split_once(end)?;
        self.rest = behind;
        Some(before)
    }

    fn one(&mut self, c: char) -> Result<(), PatternError> {
        match c {
            '\\' => self.escape(),
            '[' => class::rewrite(self),
            '(' => self.group(),
            '{' => self.brace(),
            '*' | '+' | '?' | '|' | ')' | '^' | '$' | '.' => {
                self.out.push(c);
                Ok(())
            }
            c => {
                self.literal(c);
                Ok(())
            }
        }
    }

    pub(super) fn literal(&mut self, c: char) {
        if c.is_alphanumeric() {
            self.out.push(c);
        } else {
            self.out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
        }
    }

    fn escape(&mut self) -> Result<(), PatternError> {
        let before = self.rest;
        match self.next() {
            Some('A') => self.out.push_str("\\A"),
            Some('z') => self.out.push_str("\\z"),
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some('B') => self.out.push_str("(?-u:\\B)"),
            Some('Q') => {
                let whole = std::mem::take(&mut self.rest);
                let (quoted, behind) = whole.split_once("\\E").unwrap_or((whole, ""));
                quoted.chars().for_each(|c| self.literal(c));
                self.rest = behind;
            }
            Some(c) if class::perl(c).is_some() => {
                self.out.push_str(class::perl(c).unwrap_or_default());
            }
            Some('p' | 'P') => {
                self.rest = before;
                class::unicode(self)?;
            }
            _ => {
                self.rest = before;
                let c = class::escaped_character(self)?;
                self.literal(c);
            }
        }
        Ok(())
    }

    /// Behind `(`.
    fn group(&mut self) -> Result<(), PatternError> {
        let before = self.rest;
        if !self.eat("?") {
            self.out.push_str("(?:");
            return Ok(());
        }
        let wrong = || PatternError::Group(format!("({}", shown(before)));
        if self.eat("P<") || self.eat("<") {
            let name = self.eat_until(">").ok_or_else(wrong)?;
            let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(word) {
                return Err(wrong());
            }
            self.out.push_str("(?:");
            return Ok(());
        }
        let end = self.rest.find([':', ')']).ok_or_else(wrong)?;
        let (flags, behind) = self.rest.split_at(end);
        let known = |flags: &str| flags.chars().all(|c| matches!(c, 'i' | 'm' | 's' | 'U'));
        let understood = match flags.split_once('-') {
            Some((set, cleared)) => known(set) && known(cleared) && !cleared.is_empty(),
            None => known(flags),
        };
        if !understood {
            return Err(wrong());
        }
        self.rest = behind;
        match self.next() {
            Some(')') if flags.is_empty() => {}
            Some(closing) => self.out.push_str(&format!("(?{flags}{closing}")),
            None => return Err(wrong()),
        }
        Ok(())
    }

    /// Behind `{`: a count such as `{2}`, `{2,}` or `{2,5}`, or else the character itself.
    fn brace(&mut self) -> Result<(), PatternError> {
        let Some((first, last, behind)) = count(self.rest) else {
            self.literal('{');
            return Ok(());
        };
        let text = self.rest.split_at(self.rest.len() - behind.len()).0;
        let limits = (number(first), last.filter(|last| !last.is_empty()).map(number));
        match limits {
            (Some(_), None) => {}
            (Some(first), Some(Some(last))) if first <= last => {}
            _ => return Err(PatternError::Repeat(format!("{{{}", shown(text)))),
        }
        self.out.push('{');
        self.out.push_str(text);
        self.rest = behind;
        Ok(())
    }
}

/// The numbers of a count and what is behind its brace.
fn count(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (inside, behind) = text.split_once('}')?;
    let (first, last) = match inside.split_once(',') {
        Some((first, last)) => (first, Some(last)),
        None => (inside, None),
    };
    // Go reads a number with a leading zero as no number.
    let digits =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && !(text.len() > 1 && text.starts_with('0'));
    let well_formed = !first.is_empty() && digits(first) && last.is_none_or(digits);
    well_formed.then_some((first, last, behind))
}

fn number(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|number| *number <= 1000)
}
