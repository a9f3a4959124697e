//! Which addresses mean the same registry: by scheme, host and port, with the defaults of the scheme filled in.

use reqwest::Url;

/// Docker Hub's registry is not at the name of its images.
pub(super) const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Names of Docker Hub in the wild; what is for one is for all.
const DOCKER_HUB_NAMES: [&str; 3] = [DOCKER_HUB.0, "index.docker.io", DOCKER_HUB.1];

/// Whether what belongs to `owner` may be told to `base`. An owner is a host as in references, or a URL such as
/// `https://index.docker.io/v1/`.
///
/// A host without a scheme means https. Plain HTTP is the same registry only on a port that the owner names
/// itself, or on this machine: anyone could answer on the other one.
pub(super) fn same_registry(owner: &str, base: &Url) -> bool {
    let is_base = |url: &Url| origin(url) == origin(base);
    if owner.contains("://") {
        return Url::parse(owner).is_ok_and(|url| is_base(&url));
    }
    let authority = owner.split('/').next().unwrap_or(owner);
    let Ok(secure) = Url::parse(&format!("https://{authority}")) else {
        return false;
    };
    // The parser leaves out the default port of a scheme.
    let may_be_plain = secure.port().is_some() || is_loopback(authority);
    is_base(&secure)
        || (may_be_plain && Url::parse(&format!("http://{authority}")).is_ok_and(|url| is_base(&url)))
}

fn origin(url: &Url) -> Option<(&str, &str, u16)> {
    let host = url.host_str()?;
    let host = if DOCKER_HUB_NAMES.contains(&host) { DOCKER_HUB.0 } else { host };
    Some((url.scheme(), host, url.port_or_known_default()?))
}

pub(super) fn is_loopback(registry: &str) -> bool {
    let bare = registry.starts_with('[') && registry.ends_with(']');
    let name = if bare { registry } else { registry.rsplit_once(':').map_or(registry, |(name, _)| name) };
    name == "localhost"
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_told_apart_by_scheme_and_port() {
        let cases = [
            ("reg.example", "https://reg.example/v2", true),
            ("reg.example", "https://reg.example:443/v2", true),
            ("reg.example:443", "https://reg.example/v2", true),
            ("https://reg.example:443/v1/", "https://reg.example/v2", true),
            ("reg.example", "http://reg.example/v2", false),
            ("reg.example", "http://reg.example:443/v2", false),
            ("reg.example:443", "http://reg.example/v2", false),
            ("reg.example:443", "http://reg.example:443/v2", false),
            ("https://reg.example", "http://reg.example/v2", false),
            ("http://reg.example", "http://reg.example/v2", true),
            ("http://reg.example", "https://reg.example/v2", false),
            ("reg.example", "https://reg.example:5000/v2", false),
            ("reg.example:5000", "https://reg.example:5000/v2", true),
            ("reg.example:5000", "http://reg.example:5000/v2", true),
            ("reg.example:5000", "https://reg.example/v2", false),
            ("127.0.0.1", "http://127.0.0.1/v2", true),
            ("localhost:5000", "http://localhost:5000/v2", true),
            ("[::1]", "http://[::1]/v2", true),
            ("docker.io", "https://registry-1.docker.io/v2", true),
            ("https://index.docker.io/v1/", "https://registry-1.docker.io/v2", true),
            ("docker.io", "http://registry-1.docker.io/v2", false),
            ("reg.example", "https://reg.example.evil/v2", false),
            ("", "https://reg.example/v2", false),
        ];
        for (owner, base, same) in cases {
            assert_eq!(same_registry(owner, &Url::parse(base).unwrap()), same, "{owner} {base}");
        }
    }
}
