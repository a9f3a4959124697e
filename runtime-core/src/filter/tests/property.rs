//! Any text parses or is refused, what is printed parses to the same, and matching is what a plain reading says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;

/// Text of what filters are made of, so that half of it nearly parses.
fn filter_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "name", "labels", ".", ",", "==", "!=", "~=", "=", "\"", "/", "|", "\\", "\\x41", "\\u00e9",
            "\n", " ", "[a-z]", "(", ")", "{2}", "*", "\0",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn operator() -> impl Strategy<Value = Operator> {
    let value = || prop_oneof![any::<String>(), "[a-z]{0,2}"];
    let expression = prop_oneof![
        "[a-z.*+]{0,3}",
        Just("\\d|\"x\"".to_owned()),
        Just("/a, b/".to_owned()),
        any::<String>(),
    ];
    prop_oneof![
        Just(Operator::Present),
        value().prop_map(Operator::Equal),
        value().prop_map(Operator::NotEqual),
        expression
            .prop_filter_map("an expression", |text| Pattern::new(text).ok())
            .prop_map(Operator::Matches),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let field = prop_oneof!["[a-c]", any::<String>()];
    let selector = (prop::collection::vec(field, 1..3), operator())
        .prop_map(|(path, operator)| Selector { path, operator });
    prop::collection::vec(selector, 0..4).prop_map(|selectors| Filter { selectors })
}

struct Fields(BTreeMap<String, String>);

impl Adaptor for Fields {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        self.0.get(&path.join(".")).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// The rules once more, word for word.
fn naive(filters: &[Filter], fields: &BTreeMap<String, String>) -> bool {
    let holds = |selector: &Selector| {
        let value = fields.get(&selector.path.join("."));
        let text = value.cloned().unwrap_or_default();
        match &selector.operator {
            Operator::Present => value.is_some(),
            Operator::Equal(wanted) => value == Some(wanted),
            Operator::NotEqual(unwanted) => text != *unwanted,
            Operator::Matches(pattern) => pattern.is_match(&text),
        }
    };
    let mut any = filters.is_empty();
    for filter in filters {
        any |= filter.selectors.iter().all(holds);
    }
    any
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused(text in prop_oneof![any::<String>(), filter_text()]) {
        match Filter::parse(&text) {
            Ok(filter) => prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn a_printed_filter_parses_to_itself(filter in filter()) {
        prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
    }

    #[test]
    fn matching_is_what_a_plain_reading_says(
        filters in prop::collection::vec(filter(), 0..4),
        fields in prop::collection::btree_map("[a-c](\\.[a-c])?", "[a-z]{0,2}", 0..6),
    ) {
        let texts: Vec<String> = filters.iter().map(ToString::to_string).collect();
        let parsed = Filters::parse_all(&texts).unwrap();
        prop_assert_eq!(parsed.matches(&Fields(fields.clone())), naive(&filters, &fields));
    }
}
