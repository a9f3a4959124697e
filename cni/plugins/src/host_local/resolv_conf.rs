//! The `resolvConf` file: name servers that a result passes on.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::AddressError;
use crate::result::Dns;

/// More than any resolver reads, in bytes.
const LARGEST: u64 = 64 << 10;

pub(super) fn read(path: &Path) -> Result<Dns, AddressError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    read.map_err(|source| AddressError::File { step: "read", path: path.into(), source })?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        match key.as_str() {
            "nameserver" => dns.nameservers.push(value),
            "domain" => dns.domain = value,
            "search" => dns.search.extend([value].into_iter().chain(words)),
            "options" => dns.options.extend([value].into_iter().chain(words)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_count() {
        let dns = parse(
            "# no\n; no\nnameserver 10.0.0.1\n nameserver  fd00::1 x\nsearch a b\ndomain c\noptions ndots:5 x\nnameserver\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.1", "fd00::1"]);
        assert_eq!(
            (dns.search, dns.options),
            (vec!["a".into(), "b".into()], vec!["ndots:5".into(), "x".into()])
        );
        assert_eq!(dns.domain, "c");
    }
}
