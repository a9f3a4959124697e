//! Filters as text again: what needs no quotes has none, and the text parses to the same filter.

use std::fmt::{self, Display, Formatter, Write};

use super::parse::{is_field_character, is_operator_character, is_separator, is_value_character};
use super::{Filter, Operator, Selector, quote};

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, selector) in self.selectors.iter().enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            selector.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, field) in self.path.iter().enumerate() {
            if index > 0 {
                f.write_char('.')?;
            }
            let plain = !field.is_empty() && field.chars().all(is_field_character);
            write_part(f, field, plain)?;
        }
        let (operator, value) = match &self.operator {
            Operator::Present => return Ok(()),
            Operator::Equal(value) => ("==", value.as_str()),
            Operator::NotEqual(value) => ("!=", value.as_str()),
            Operator::Matches(pattern) => ("~=", pattern.as_str()),
        };
        f.write_str(operator)?;
        write_part(f, value, is_plain_value(value))
    }
}

fn is_plain_value(value: &str) -> bool {
    let starts =
        |c: char| is_value_character(c) && !quote::opens(c) && !is_separator(c) && !is_operator_character(c);
    value.starts_with(starts) && value.chars().all(is_value_character)
}

fn write_part(f: &mut Formatter<'_>, part: &str, plain: bool) -> fmt::Result {
    if plain {
        return f.write_str(part);
    }
    f.write_char('"')?;
    for c in part.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            c if c.is_control() || c == char::REPLACEMENT_CHARACTER => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
