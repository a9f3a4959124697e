//! Reading one filter, left to right with one character of lookahead.
//!
//! Where spaces may stand is containerd's habit: before a field, an operator or a value, nowhere else. So is the
//! byte an error points at.

use super::error::{FilterError, Place, Problem};
use super::{Budget, Filter, Operator, Pattern, Selector, quote};

pub(super) fn filter(text: &str, budget: &mut Budget) -> Result<Filter, FilterError> {
    if text.is_empty() {
        return Ok(Filter::default());
    }
    let mut parser = Parser { text, position: 0, budget };
    let mut selectors = vec![parser.selector()?];
    loop {
        match parser.peek() {
            None => return Ok(Filter { selectors }),
            Some(',') => {
                parser.bump(',');
                selectors.push(parser.selector()?);
            }
            Some(_) => return Err(parser.problem(parser.position, Problem::End)),
        }
    }
}

/// Which quotes a quoted part may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Double,
    /// Regular expressions are full of backslashes and double quotes: they may stand in `/…/` and `|…|` as well.
    Any,
}

struct Parser<'a, 'b> {
    text: &'a str,
    position: usize,
    budget: &'b mut Budget,
}

impl<'a> Parser<'a, '_> {
    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self, character: char) {
        self.position += character.len_utf8();
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = rest.split_at(rest.find(|c| !wanted(c)).unwrap_or(rest.len())).0;
        self.position += taken.len();
        taken
    }

    fn problem(&self, position: usize, problem: Problem) -> FilterError {
        // containerd stops at these two wherever it meets them: its decoder gives the second for broken UTF-8.
        let problem = match self.text.get(position..).and_then(|rest| rest.chars().next()) {
            Some('\0' | char::REPLACEMENT_CHARACTER) => Problem::Character,
            _ => problem,
        };
        FilterError::Syntax { place: Place::of(self.text, position), problem }
    }

    fn selector(&mut self) -> Result<Selector, FilterError> {
        self.budget.take_selector()?;
        let mut path = vec![self.field()?];
        while self.peek() == Some('.') {
            self.bump('.');
            path.push(self.field()?);
        }
        let operator = match self.peek() {
            None | Some(',') => Operator::Present,
            Some(_) => self.comparison()?,
        };
        Ok(Selector { path, operator })
    }

    fn field(&mut self) -> Result<String, FilterError> {
        self.skip_spaces();
        match self.peek() {
            Some(quote) if quote::opens(quote) => self.quoted(quote, Quotes::Double),
            Some(c) if is_field_character(c) => Ok(self.take_while(is_field_character).to_owned()),
            _ => Err(self.problem(self.position, Problem::Field)),
        }
    }

    fn comparison(&mut self) -> Result<Operator, FilterError> {
        self.skip_spaces();
        let start = self.position;
        match self.take_while(is_operator_character) {
            "==" => Ok(Operator::Equal(self.value(Quotes::Double)?)),
            "!=" => Ok(Operator::NotEqual(self.value(Quotes::Double)?)),
            "~=" => self.pattern(),
            "" => Err(self.problem(
                start,
                match self.peek() {
                    // A label's key with a slash, most likely.
                    Some(quote @ ('/' | '|')) => Problem::QuoteNotHere(quote),
                    _ => Problem::Operator,
                },
            )),
            other => {
                let shown = other.chars().take(8).collect();
                Err(self.problem(start, Problem::UnknownOperator(shown)))
            }
        }
    }

    fn pattern(&mut self) -> Result<Operator, FilterError> {
        self.skip_spaces();
        let start = self.position;
        let text = self.value(Quotes::Any)?;
        self.budget.take_pattern()?;
        Pattern::new(text)
            .map(Operator::Matches)
            .map_err(|source| FilterError::Pattern { place: Place::of(self.text, start), source })
    }

    fn value(&mut self, quotes: Quotes) -> Result<String, FilterError> {
        self.skip_spaces();
        let start = self.position;
        match self.peek() {
            Some(quote) if quote::opens(quote) => self.quoted(quote, quotes),
            Some('\0' | char::REPLACEMENT_CHARACTER) | None => Err(self.problem(start, Problem::Value)),
            Some(c) if is_separator(c) || is_operator_character(c) => {
                Err(self.problem(start, Problem::Value))
            }
            // Whatever else it is, containerd takes the first character.
            Some(first) => {
                self.bump(first);
                self.take_while(is_value_character);
                Ok(self.text.get(start..self.position).unwrap_or_default().to_owned())
            }
        }
    }

    fn quoted(&mut self, quote: char, quotes: Quotes) -> Result<String, FilterError> {
        let start = self.position;
        if quotes == Quotes::Double && quote != '"' {
            return Err(self.problem(start, Problem::QuoteNotHere(quote)));
        }
        match quote::read(self.rest(), quote) {
            Ok((value, length)) => {
                self.position += length;
                Ok(value)
            }
            Err(problem) => Err(self.problem(start, problem)),
        }
    }
}

pub(super) fn is_field_character(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

pub(super) fn is_operator_character(c: char) -> bool {
    matches!(c, '=' | '!' | '~')
}

pub(super) fn is_separator(c: char) -> bool {
    matches!(c, ',' | '.')
}

/// What may follow the first character of a value without quotes: what one can see, but no comma. containerd ends
/// a value at characters of Unicode's categories Cf, Co and Cn too (joiners, private use); here they are part of it.
pub(super) fn is_value_character(c: char) -> bool {
    c != ',' && c != char::REPLACEMENT_CHARACTER && !c.is_whitespace() && !c.is_control()
}
