//! A pod's ports, and the addresses that it is told to have.

use std::net::IpAddr;

use cri_proto::v1;
use pod_sandbox::SandboxView;
use pod_sandbox::spec::{PortMapping, Protocol};

use super::{ConvertError, invalid};

/// Ports of the node that lead into the pod. One without a port of the node is for documentation only, as a
/// `containerPort` in a pod is.
pub(super) fn port_mappings(wished: Vec<v1::PortMapping>) -> Result<Vec<PortMapping>, ConvertError> {
    let mut mappings = Vec::new();
    for wish in wished {
        let protocol = protocol(wish.protocol)?;
        let container_port = port("container_port", wish.container_port)?;
        let host_port = port("host_port", wish.host_port)?;
        let host_ip = host_ip(&wish.host_ip)?;
        if host_port == 0 {
            continue;
        }
        if container_port == 0 {
            return Err(invalid("container_port", container_port, "cannot have a host port"));
        }
        mappings.push(PortMapping { protocol, container_port, host_port, host_ip });
    }
    Ok(mappings)
}

fn protocol(protocol: i32) -> Result<Protocol, ConvertError> {
    match v1::Protocol::try_from(protocol) {
        Ok(v1::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(v1::Protocol::Udp) => Ok(Protocol::Udp),
        Ok(v1::Protocol::Sctp) => Ok(Protocol::Sctp),
        Err(_) => Err(invalid("protocol of a port", protocol, "is unknown")),
    }
}

pub(super) fn protocol_message(protocol: Protocol) -> v1::Protocol {
    match protocol {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
        Protocol::Sctp => v1::Protocol::Sctp,
    }
}

fn port(what: &'static str, port: i32) -> Result<u16, ConvertError> {
    u16::try_from(port).map_err(|_| invalid(what, port, "is not a port"))
}

fn host_ip(text: &str) -> Result<Option<IpAddr>, ConvertError> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = text.parse().map_err(|_| invalid("host_ip", text, "is not an IP address"))?;
    // The unspecified address is what nothing means.
    Ok(Some(ip).filter(|ip| !ip.is_unspecified()))
}

pub(super) fn status(view: &SandboxView) -> v1::PodSandboxNetworkStatus {
    let mut ips = view.network.iter().flat_map(|network| &network.ips).map(IpAddr::to_string);
    v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(container_port: i32, host_port: i32, host_ip: &str) -> v1::PortMapping {
        v1::PortMapping { protocol: 0, container_port, host_port, host_ip: host_ip.to_owned() }
    }

    #[test]
    fn a_port_without_one_of_the_node_maps_nothing() {
        let wished = vec![mapping(80, 0, ""), mapping(80, 8080, "0.0.0.0"), mapping(81, 8081, "127.0.0.1")];
        let mappings = port_mappings(wished).expect("all are sound");
        let found: Vec<_> = mappings.iter().map(|it| (it.container_port, it.host_port, it.host_ip)).collect();
        assert_eq!(found, [(80, 8080, None), (81, 8081, Some([127, 0, 0, 1].into()))]);
    }

    #[test]
    fn what_is_no_port_or_address_is_refused() {
        for bad in [mapping(70_000, 80, ""), mapping(80, -1, ""), mapping(80, 80, "host"), mapping(0, 80, "")]
        {
            assert!(port_mappings(vec![bad.clone()]).is_err(), "{bad:?}");
        }
        let strange = v1::PortMapping { protocol: 9, ..mapping(80, 80, "") };
        assert!(port_mappings(vec![strange]).is_err());
    }
}
