//! What filters match and how wrong ones are answered, as tables; anything at all in `property`.

mod adaptors;
mod patterns;
mod property;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::*;
use crate::error::ErrorKind;

/// A thing of the tables: its fields by name, labels by `labels.<key>`.
struct Thing(BTreeMap<&'static str, &'static str>);

impl Adaptor for Thing {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        self.0.get(path.join(".").as_str()).map(|value| Cow::Borrowed(*value))
    }
}

fn things() -> Vec<Thing> {
    let thing = |fields: &[(&'static str, &'static str)]| Thing(fields.iter().copied().collect());
    vec![
        thing(&[("name", "web"), ("labels.tier", "front"), ("labels.io.example/zone", "a")]),
        thing(&[("name", "db"), ("labels.tier", "back"), ("note", "two words, and more")]),
        thing(&[("name", "docker.io/library/web:1"), ("labels.tier", "")]),
        thing(&[("labels.quote \" and \\ back", "yes"), ("note", "don't")]),
    ]
}

/// Which of [`things`] match.
fn chosen(filters: &[&str]) -> Vec<usize> {
    let filters = Filters::parse_all(filters).unwrap();
    let matching = |(index, thing): (usize, Thing)| filters.matches(&thing).then_some(index);
    things().into_iter().enumerate().filter_map(matching).collect()
}

#[test]
fn filters_choose_as_containerd_does() {
    let table: &[(&[&str], &[usize])] = &[
        (&[], &[0, 1, 2, 3]),
        (&[""], &[0, 1, 2, 3]),
        (&["nothing", ""], &[0, 1, 2, 3]),
        (&["name"], &[0, 1, 2]),
        (&["labels.tier"], &[0, 1, 2]),
        (&["name==web"], &[0]),
        (&["name==web,labels.tier==back"], &[]),
        (&["name==web", "labels.tier==back"], &[0, 1]),
        (&["name==docker.io/library/web:1"], &[2]),
        (&["note==\"two words, and more\""], &[1]),
        // A quote that opens nothing is a character like others.
        (&["note==don't"], &[3]),
        (&["name=='web'"], &[]),
        // Present and empty is not absent, but both are unlike a value and like an empty one.
        (&["labels.tier==\"\""], &[2]),
        (&["labels.tier!=front"], &[1, 2, 3]),
        (&["labels.tier!=\"\""], &[0, 1]),
        (&["labels.tier~=^$"], &[2, 3]),
        (&["name~=web"], &[0, 2]),
        (&["name~=^web$"], &[0]),
        (&["name~=/library\\/w/"], &[2]),
        (&["name~=|library/w|,labels.tier"], &[2]),
        (&["name~=\"[a-z]{2},?\""], &[0, 1, 2]),
        // A key with dots and slashes: quoted whole or in part.
        (&["labels.\"io.example/zone\""], &[0]),
        (&["labels.io.\"example/zone\"==a"], &[0]),
        (&["labels.\"quote \\\" and \\\\ back\"==yes"], &[3]),
        (&["\"name\"==\"\\x77\\145\\u0062\""], &[0]),
        (&[" name == web", "labels. tier ==\tback"], &[0, 1]),
        (&["name==web, labels.tier"], &[0]),
    ];
    for (filters, expected) in table {
        assert_eq!(&chosen(filters), expected, "{filters:?}");
    }
}

#[test]
fn a_wrong_filter_is_answered_with_its_place_and_what_is_right() {
    let table: &[(&str, usize, Problem)] = &[
        ("name==web,", 10, Problem::Field),
        ("labels.", 7, Problem::Field),
        (",name", 0, Problem::Field),
        ("  ", 2, Problem::Field),
        ("labels.?\"x\"==1", 7, Problem::Field),
        ("'name'==web", 0, Problem::Field),
        ("labels.|x|==1", 7, Problem::QuoteNotHere('|')),
        ("labels.containerd.io/key==1", 20, Problem::QuoteNotHere('/')),
        ("topic==/tasks/exit", 7, Problem::QuoteNotHere('/')),
        ("name =web", 5, Problem::UnknownOperator("=".to_owned())),
        ("name===web", 4, Problem::UnknownOperator("===".to_owned())),
        ("name web", 5, Problem::Operator),
        ("name ,id", 5, Problem::Operator),
        ("name ", 5, Problem::Operator),
        ("name==", 6, Problem::Value),
        ("image~=,id", 7, Problem::Value),
        ("name==.web", 6, Problem::Value),
        ("name== =web", 7, Problem::Value),
        ("name==web ", 9, Problem::End),
        ("name==\"web\".id", 11, Problem::End),
        ("name==\"web", 6, Problem::Unclosed('"')),
        ("name==\"w\neb\"", 6, Problem::Unclosed('"')),
        ("name~=|web/", 6, Problem::Unclosed('|')),
        ("name~=/\\d/", 6, Problem::Escape),
        ("name==\"\\'\"", 6, Problem::Escape),
        ("name==\"\\400\"", 6, Problem::Escape),
        ("name==\"\\x4\"", 6, Problem::Escape),
        ("name==\"\\U00110000\"", 6, Problem::Escape),
        ("name==\"\\xff\"", 6, Problem::NotUtf8),
        ("na\0me", 2, Problem::Character),
        ("name==\0", 6, Problem::Character),
        ("name==\"\u{fffd}\"", 6, Problem::Character),
    ];
    for (text, position, problem) in table {
        let error = Filter::parse(text).unwrap_err();
        let FilterError::Syntax { place, problem: found } = &error else { panic!("{text:?}: {error}") };
        assert_eq!((place.position, found), (*position, problem), "{text:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn an_error_shows_the_neighbourhood_of_its_place_only() {
    let error = Filter::parse("labels.containerd.io/key==1").unwrap_err();
    let expected = "filter \"labels.containerd.io/key==1\" at byte 20: / quotes only the values of ~=, \
        expected double quotes around what contains it";
    assert_eq!(error.to_string(), expected);
    let long = format!("{}?{}", "ü".repeat(10_000), "ü".repeat(10_000));
    assert!(Filter::parse(&format!("name=={long} ")).unwrap_err().to_string().len() < 400);
}

#[test]
fn what_one_request_may_ask_for_is_bounded() {
    let many = vec![""; MAX_FILTERS];
    assert!(Filters::parse_all(&many).is_ok());
    let table = [
        (vec![String::new(); MAX_FILTERS + 1], FilterError::TooMany { count: MAX_FILTERS + 1 }),
        (vec!["a".repeat(MAX_BYTES / 2 + 1); 2], FilterError::TooLong { bytes: MAX_BYTES + 2 }),
        (vec![["a"; MAX_SELECTORS].join(","), "a".to_owned()], FilterError::TooManySelectors),
        (vec!["a~=b".to_owned(); MAX_PATTERNS + 1], FilterError::TooManyPatterns),
    ];
    for (filters, expected) in table {
        assert_eq!(Filters::parse_all(&filters).unwrap_err(), expected);
    }
    assert_eq!(
        Filter::parse(&"a".repeat(MAX_BYTES + 1)).unwrap_err(),
        FilterError::TooLong { bytes: MAX_BYTES + 1 }
    );
}
