//! Character classes of Go's syntax, and the escapes that classes share with the rest of an expression.

use super::PatternError;
use super::rewrite::{Rewriter, shown};

/// Perl's classes are ASCII in Go.
pub(super) fn perl(c: char) -> Option<&'static str> {
    Some(match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\f\\r\\x{20}]",
        'S' => "[^\\t\\n\\f\\r\\x{20}]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// Behind `[`, up to and with its `]`.
pub(super) fn rewrite(rewriter: &mut Rewriter<'_>) -> Result<(), PatternError> {
    rewriter.out.push('[');
    if rewriter.eat("^") {
        rewriter.out.push('^');
    }
    let mut first = true;
    while first || !rewriter.eat("]") {
        first = false;
        item(rewriter)?;
    }
    rewriter.out.push(']');
    Ok(())
}

fn item(rewriter: &mut Rewriter<'_>) -> Result<(), PatternError> {
    if rewriter.rest.starts_with("[:") && rewriter.rest.contains(":]") {
        return posix(rewriter);
    }
    if let Some(behind) = rewriter.rest.strip_prefix('\\')
        && let Some(c) = behind.chars().next()
    {
        if let Some(class) = perl(c) {
            rewriter.rest = behind.split_at(c.len_utf8()).1;
            rewriter.out.push_str(class);
            return Ok(());
        }
        if matches!(c, 'p' | 'P') {
            rewriter.rest = behind;
            return unicode(rewriter);
        }
    }
    range(rewriter)
}

/// One character, or two with a dash between them.
fn range(rewriter: &mut Rewriter<'_>) -> Result<(), PatternError> {
    let before = rewriter.rest;
    let low = character(rewriter)?;
    rewriter.literal(low);
    if rewriter.rest.starts_with('-') && !rewriter.rest.starts_with("-]") {
        rewriter.eat("-");
        let high = character(rewriter)?;
        if high < low {
            let length = before.len() - rewriter.rest.len();
            return Err(PatternError::Range(shown(before.split_at(length).0)));
        }
        rewriter.out.push('-');
        rewriter.literal(high);
    }
    Ok(())
}

fn character(rewriter: &mut Rewriter<'_>) -> Result<char, PatternError> {
    match rewriter.next() {
        Some('\\') => escaped_character(rewriter),
        Some(c) => Ok(c),
        None => Err(PatternError::UnclosedClass),
    }
}

/// `[:alpha:]` and its kin are written alike in both syntaxes.
fn posix(rewriter: &mut Rewriter<'_>) -> Result<(), PatternError> {
    rewriter.eat("[:");
    let name = rewriter.eat_until(":]").unwrap_or_default();
    match name.strip_prefix('^').unwrap_or(name) {
        "alnum" | "alpha" | "ascii" | "blank" | "cntrl" | "digit" | "graph" | "lower" | "print" | "punct"
        | "space" | "upper" | "word" | "xdigit" => {
            rewriter.out.push_str(&format!("[:{name}:]"));
            Ok(())
        }
        _ => Err(PatternError::UnknownClass(format!("[:{}:]", shown(name)))),
    }
}

/// Behind the backslash of `\pL`, `\p{Greek}`, `\p{^Greek}` and their opposites with `P`.
pub(super) fn unicode(rewriter: &mut Rewriter<'_>) -> Result<(), PatternError> {
    let before = rewriter.rest;
    let wrong = || PatternError::UnknownClass(format!("\\{}", shown(before)));
    let mut negated = rewriter.next() == Some('P');
    let name = if rewriter.eat("{") {
        let name = rewriter.eat_until("}").ok_or_else(wrong)?;
        negated ^= name.starts_with('^');
        name.strip_prefix('^').unwrap_or(name)
    } else {
        let length = rewriter.next().ok_or_else(wrong)?.len_utf8();
        before.get(1..1 + length).unwrap_or_default()
    };
    if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
        return Err(wrong());
    }
    rewriter.out.push_str(&format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }));
    Ok(())
}

/// Behind a backslash: a character by its number or name, or one that would mean something without.
pub(super) fn escaped_character(rewriter: &mut Rewriter<'_>) -> Result<char, PatternError> {
    let before = rewriter.rest;
    let wrong = || PatternError::Escape(format!("\\{}", before.chars().take(1).collect::<String>()));
    let c = rewriter.next().ok_or_else(wrong)?;
    match c {
        'a' => Ok('\x07'),
        'f' => Ok('\x0c'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\x0b'),
        'x' => hexadecimal(rewriter).ok_or_else(wrong),
        '0'..='7' => octal(rewriter, before).ok_or_else(wrong),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
        _ => Err(wrong()),
    }
}

fn hexadecimal(rewriter: &mut Rewriter<'_>) -> Option<char> {
    let digits = if rewriter.eat("{") {
        rewriter.eat_until("}")?
    } else {
        let (digits, behind) = rewriter.rest.split_at_checked(2)?;
        rewriter.rest = behind;
        digits
    };
    // The library's parser would take a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}

/// Up to three digits, the first of them taken already. A single one that is not 0 would be a back-reference,
/// which there are none of.
fn octal<'a>(rewriter: &mut Rewriter<'a>, before: &'a str) -> Option<char> {
    let count = before.bytes().take(3).take_while(|digit| matches!(digit, b'0'..=b'7')).count();
    let (digits, behind) = before.split_at_checked(count)?;
    rewriter.rest = behind;
    if digits.len() == 1 && digits != "0" {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, 8).ok()?)
}
