//! Reading answers: whole but capped, as an error, as a part of a blob.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Response;
use reqwest::header::{CONTENT_RANGE, DATE, HeaderMap, HeaderName, RETRY_AFTER};

use super::attempt::AttemptError;

/// What of an error answer is shown.
const MAX_ERROR_TEXT: usize = 300;
const MAX_ERROR_BODY: u64 = 64 << 10;

/// The whole body, or an error as soon as it is longer than `limit`.
pub(super) async fn read_capped(
    response: Response,
    limit: u64,
    progress: Option<Duration>,
) -> Result<Vec<u8>, AttemptError> {
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(AttemptError::TooLarge { limit });
    }
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| AttemptError::of_body(error, progress))?;
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(AttemptError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error answer with what the registry says about it, on one line.
pub(super) async fn status_error(response: Response, progress: Option<Duration>) -> AttemptError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let body = read_capped(response, MAX_ERROR_BODY, progress).await.unwrap_or_default();
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|answer| {
        let first = answer.get("errors")?.get(0)?;
        let text = |key| first.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        Some(format!("{} {}", text("code"), text("message")))
    });
    let shown: String =
        said.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_ERROR_TEXT).collect();
    let detail = if shown.trim().is_empty() { String::new() } else { format!(": {}", shown.trim()) };
    AttemptError::Status { status, detail, retry_after }
}

/// `Retry-After` is seconds or a date (RFC 9110, 10.2.3). A date is compared with the host's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let wanted = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    let (then, now) = (date(wanted)?, date(text(DATE)?)?);
    Some(then.duration_since(now).unwrap_or_default())
}

/// Which part of a whole a body is (RFC 9110, 14.4).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u64,
    /// Whether nothing comes behind it, if the host says so.
    pub(super) is_the_rest: bool,
}

impl Part {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.trim().split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        let total: Option<u64> = total.parse().ok();
        Some(Self { start, is_the_rest: total.is_some_and(|total| end.checked_add(1) == Some(total)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "Wed, 21 Oct 2026 07:28:00 GMT";
        let cases = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ];
        for (text, seconds) in cases {
            let found = retry_after(&headers(&[(RETRY_AFTER, text), (DATE, now)]));
            assert_eq!(found, seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&headers(&[(RETRY_AFTER, now)])), None, "a date needs one to compare with");
    }

    #[test]
    fn parts_say_where_they_belong() {
        let cases = [
            ("bytes 5-9/10", Some((5, true))),
            ("bytes 5-8/10", Some((5, false))),
            ("bytes 5-9/*", Some((5, false))),
            ("bytes 5-18446744073709551615/0", Some((5, false))),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = Part::of(&headers(&[(CONTENT_RANGE, text)]));
            assert_eq!(found.map(|part| (part.start, part.is_the_rest)), expected, "{text}");
        }
    }
}
