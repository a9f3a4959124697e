//! Quoted parts of a filter: Go's string escapes between `"…"`, `/…/` or `|…|`.

use super::error::Problem;

/// containerd knows no others: `'` and `` ` `` are ordinary characters of a value.
pub(super) fn opens(c: char) -> bool {
    matches!(c, '"' | '/' | '|')
}

/// Reads the quoted part that `text` starts with. Returns its value and its length with both quotes.
pub(super) fn read(text: &str, quote: char) -> Result<(String, usize), Problem> {
    let mut value = Vec::new();
    let mut rest = text.strip_prefix(quote).unwrap_or_default();
    loop {
        let c = rest.chars().next().ok_or(Problem::Unclosed(quote))?;
        rest = rest.split_at(c.len_utf8()).1;
        match c {
            '\n' => return Err(Problem::Unclosed(quote)),
            '\0' | char::REPLACEMENT_CHARACTER => return Err(Problem::Character),
            '\\' => rest = escape(rest, quote, &mut value)?,
            c if c == quote => break,
            c => push(&mut value, c),
        }
    }
    let value = String::from_utf8(value).map_err(|_| Problem::NotUtf8)?;
    Ok((value, text.len() - rest.len()))
}

fn push(value: &mut Vec<u8>, c: char) {
    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Decodes what follows a backslash into `value` and returns what follows that.
fn escape<'a>(rest: &'a str, quote: char, value: &mut Vec<u8>) -> Result<&'a str, Problem> {
    let c = rest.chars().next().ok_or(Problem::Unclosed(quote))?;
    let behind = rest.split_at(c.len_utf8()).1;
    let byte = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        'x' => return bytes(behind, 2, 16, value),
        '0'..='7' => return bytes(rest, 3, 8, value),
        'u' => return character(behind, 4, value),
        'U' => return character(behind, 8, value),
        c if c == quote => {
            push(value, c);
            return Ok(behind);
        }
        _ => return Err(Problem::Escape),
    };
    value.push(byte);
    Ok(behind)
}

/// One byte in `count` digits; several of them may spell a character.
fn bytes<'a>(text: &'a str, count: usize, radix: u32, value: &mut Vec<u8>) -> Result<&'a str, Problem> {
    let (number, behind) = digits(text, count, radix)?;
    value.push(u8::try_from(number).map_err(|_| Problem::Escape)?);
    Ok(behind)
}

fn character<'a>(text: &'a str, count: usize, value: &mut Vec<u8>) -> Result<&'a str, Problem> {
    let (number, behind) = digits(text, count, 16)?;
    let c = match number {
        // Go writes U+FFFD for a half of a surrogate pair.
        0xd800..=0xdfff => char::REPLACEMENT_CHARACTER,
        number => char::from_u32(number).ok_or(Problem::Escape)?,
    };
    push(value, c);
    Ok(behind)
}

fn digits(text: &str, count: usize, radix: u32) -> Result<(u32, &str), Problem> {
    let (digits, behind) = text.split_at_checked(count).ok_or(Problem::Escape)?;
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Problem::Escape);
    }
    u32::from_str_radix(digits, radix).map(|number| (number, behind)).map_err(|_| Problem::Escape)
}
