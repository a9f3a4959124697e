//! Regular expressions mean what they mean in Go, where Rust's engine would read them in another way.

use super::super::pattern::{MAX_BYTES, Pattern, PatternError};

fn pattern(text: &str) -> Pattern {
    Pattern::new(text.to_owned()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn expressions_mean_what_they_mean_in_go() {
    let table: &[(&str, &[&str], &[&str])] = &[
        (r"^\d+$", &["19"], &["٣", "a"]),
        (r"^\w$", &["a", "_"], &["é"]),
        (r"^\W$", &["é", "-"], &["a"]),
        (r"^\s$", &[" ", "\t"], &["\u{a0}", "\x0b"]),
        (r"^[\d_]\S$", &["1a", "_é"], &["a1", "1 "]),
        (r"^[^\W\d]$", &["x", "_"], &["1", "-", "é"]),
        (r"\bx\b", &["é x é", "éxé"], &["axa"]),
        (r"a\Bb", &["ab"], &["a b"]),
        (r"^(?i)straße\z", &["STRAßE"], &["strasse", "straße\n"]),
        (r"^[[]a{,2}]$", &["[a{,2}]"], &["[aa]"]),
        (r"^a{01}$", &["a{01}"], &["a"]),
        (r"^[a&&b]$", &["a", "b", "&"], &["c"]),
        (r"^[a~~+--]$", &["~", "a", ","], &["/"]),
        (r"^[]a]$", &["]", "a"], &["b"]),
        (r"^[^]a]$", &["b"], &["]", "a"]),
        (r"^[a-c-e]$", &["b", "-", "e"], &["d"]),
        (r"^[[:alpha:][:^ascii:]]+$", &["aé"], &["1"]),
        (r"^\Qa.b\E+$", &["a.bb"], &["axb"]),
        (r"^\Q[(", &["[("], &["("]),
        (r"^\<\_\>$", &["<_>"], &["_"]),
        (r"^\101\x42\x{43}\0$", &["ABC\0"], &["abc"]),
        (r"^(?P<n>a)(?<n>b)(?:c)$", &["abc"], &["ab"]),
        (r"^\p{Greek}\pL\P{^Lu}\p{^Lu}$", &["λaBc"], &["abcd"]),
        (r"(?s)^a.b$", &["a\nb"], &["a\nbc"]),
        (r"(?m)^b$", &["a\nb"], &["a\nbc"]),
        (r"a$", &["ba"], &["a\n"]),
        (r"", &["", "x"], &[]),
    ];
    for (text, matching, others) in table {
        let pattern = pattern(text);
        for value in *matching {
            assert!(pattern.is_match(value), "{text:?} should match {value:?}");
        }
        for value in *others {
            assert!(!pattern.is_match(value), "{text:?} should not match {value:?}");
        }
    }
}

#[test]
fn wrong_expressions_say_what_is_wrong() {
    let table = [
        ("[a", "expected ] at the end of a character class"),
        ("[b-a]", "b-a is no range: its end comes before its start"),
        (r"a\h", r"\h is no escape"),
        (r"a\1", r"\1 is no escape"),
        (r"a\", r"\ is no escape"),
        (r"\x{d800}", r"\x is no escape"),
        ("(?x)a", "a group starts with (?x)a, expected (, (?:, (?P<name> or flags of i, m, s and U"),
        ("[[:word]:]]", "[:word]:] is no class of characters"),
        (r"\p{Greek", r"\p{Greek is no class of characters"),
        (r"\p{No Such}", r"\p{No Such} is no class of characters"),
        (r"\p{NoSuch}", "Unicode property not found"),
        ("a{1001}", "{1001} repeats more than 1000 times or less often than it says"),
        ("a{3,2}", "{3,2} repeats more than 1000 times or less often than it says"),
        ("(a", "unclosed group"),
        ("a)", "unopened group"),
        ("*a", "repetition operator missing expression"),
    ];
    for (text, expected) in table {
        assert_eq!(Pattern::new(text.to_owned()).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn large_expressions_are_refused() {
    let bytes = MAX_BYTES + 1;
    assert_eq!(Pattern::new("a".repeat(bytes)).unwrap_err(), PatternError::TooLong { bytes });
    for bomb in ["(((a{100}){100}){100}){100}", r"(\pL{500}){1000}", "((((((((a*)*)*)*)*)*)*)*){1000}"] {
        assert_eq!(Pattern::new(bomb.to_owned()).unwrap_err(), PatternError::TooLarge, "{bomb}");
    }
    assert!(Pattern::new("(".repeat(MAX_BYTES / 2) + &")".repeat(MAX_BYTES / 2)).is_err());
}
