//! What the headers of a call say: the namespace it is about, and the lease that keeps what it makes.

use runtime_core::error::ErrorKind;
use runtime_core::ids::{LeaseId, Namespace};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::status::{invalid, refuse};

const NAMESPACE: &str = "containerd-namespace";
const LEASE: &str = "containerd-lease";

/// The namespace of a call; every service but a few wants one.
pub(crate) fn namespace<T>(request: &Request<T>) -> Result<Namespace, Status> {
    let name = header(request.metadata(), NAMESPACE)?
        .filter(|name| !name.is_empty())
        .ok_or_else(|| refuse(ErrorKind::FailedPrecondition, "namespace is required"))?;
    Namespace::parse(name).map_err(invalid)
}

/// The lease of a call, if it has one.
pub(crate) fn lease<T>(request: &Request<T>) -> Result<Option<LeaseId>, Status> {
    let id = header(request.metadata(), LEASE)?.filter(|id| !id.is_empty());
    id.map(LeaseId::parse).transpose().map_err(invalid)
}

fn header<'a>(metadata: &'a MetadataMap, name: &str) -> Result<Option<&'a str>, Status> {
    let value = metadata.get(name).map(|value| value.to_str());
    value
        .transpose()
        .map_err(|_| refuse(ErrorKind::InvalidArgument, format!("header {name} is not ASCII text")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    fn request(name: &'static str, value: &'static str) -> Request<()> {
        let mut request = Request::new(());
        request.metadata_mut().insert(name, value.parse().expect("a header value"));
        request
    }

    #[test]
    fn a_namespace_is_required_and_checked() {
        assert_eq!(
            namespace(&request(NAMESPACE, "k8s.io")).map(String::from).ok().as_deref(),
            Some("k8s.io")
        );
        for (name, value, code) in [
            ("other", "x", Code::FailedPrecondition),
            (NAMESPACE, "", Code::FailedPrecondition),
            (NAMESPACE, "a/b", Code::InvalidArgument),
            (NAMESPACE, "../x", Code::InvalidArgument),
        ] {
            let error = namespace(&request(name, value)).expect_err("refused");
            assert_eq!(error.code(), code, "{name}: {value:?}: {error}");
        }
    }

    #[test]
    fn a_lease_may_be_there() {
        assert_eq!(lease(&request("x", "y")).expect("none"), None);
        assert_eq!(lease(&request(LEASE, "a-1")).expect("one").map(String::from).as_deref(), Some("a-1"));
        assert_eq!(
            lease(&request(LEASE, "/mnt")).expect("a path").map(String::from).as_deref(),
            Some("/mnt")
        );
        assert!(lease(&request(LEASE, "a\tb")).is_err());
    }
}
