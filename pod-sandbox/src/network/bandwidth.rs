//! The rates that a pod's annotations ask for, in bits a second, as Kubernetes writes quantities.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Kubernetes' bounds: 1 kbit/s and 1 Pbit/s.
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;
/// What containerd asks for: a burst without a bound of its own.
const BURST: u32 = u32::MAX;
const SUFFIXES: [(&str, u64); 10] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation} {value:?} is not a rate between 1k and 1P bits a second")]
pub struct BandwidthError {
    annotation: &'static str,
    value: String,
}

pub(super) fn of(annotations: &BTreeMap<String, String>) -> Result<Option<Value>, BandwidthError> {
    let mut rates = Map::new();
    for (annotation, rate, burst) in
        [(INGRESS, "ingressRate", "ingressBurst"), (EGRESS, "egressRate", "egressBurst")]
    {
        let Some(text) = annotations.get(annotation) else { continue };
        let bits = parse(text).filter(|bits| (LEAST..=MOST).contains(bits));
        let value = || text.chars().take(40).collect();
        let bits = bits.ok_or_else(|| BandwidthError { annotation, value: value() })?;
        rates.insert(rate.to_owned(), json!(bits));
        rates.insert(burst.to_owned(), json!(BURST));
    }
    Ok((!rates.is_empty()).then_some(Value::Object(rates)))
}

/// Digits, perhaps with a fraction, and a suffix; what is smaller than a bit is rounded up.
fn parse(text: &str) -> Option<u64> {
    let suffix = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (number, factor) = match suffix {
        Some((suffix, factor)) => (text.strip_suffix(suffix)?, *factor),
        None => (text, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let parts = if fraction.is_empty() { parts } else { parts.checked_add(fraction.parse().ok()?)? };
    let bits = (u128::from(parts) * u128::from(factor)).div_ceil(u128::from(scale));
    u64::try_from(bits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let table = [
            ("10M", Some(10_000_000)),
            ("1.5Gi", Some(1_610_612_736)),
            ("1000", Some(1_000)),
            ("0.5k", Some(500)),
            ("", None),
            ("M", None),
            ("-1M", None),
            ("1e3", None),
            ("99999999999999999999", None),
        ];
        for (text, bits) in table {
            assert_eq!(parse(text), bits, "{text:?}");
        }
    }

    #[test]
    fn rates_out_of_bounds_are_refused_by_name() {
        for bad in ["999", "2P", "fast"] {
            let error = of(&BTreeMap::from([(EGRESS.to_owned(), bad.to_owned())])).expect_err("refused");
            assert!(error.to_string().contains(EGRESS) && error.to_string().contains(bad));
        }
        let good = of(&BTreeMap::from([(INGRESS.to_owned(), "1M".to_owned())])).expect("read");
        assert_eq!(good, Some(json!({"ingressRate": 1_000_000, "ingressBurst": BURST})));
    }
}
