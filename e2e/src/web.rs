//! A web server in a pod that says the pod's name, and asking it from the node and from other pods.

use std::net::{Ipv4Addr, SocketAddr};

use crate::node::Node;
use crate::pod::{Pod, net_container};
use crate::{http, process, wait};

/// Where the server listens in its pod.
pub const PORT: u16 = 80;

/// Starts a server in a pod, waits until it answers, and gives its container.
pub fn serve(pod: &Pod) -> String {
    let name = name(pod);
    let line =
        format!("mkdir /tmp/www; echo {name} > /tmp/www/index.html; exec httpd -f -p {PORT} -h /tmp/www");
    let id = pod.start(&net_container("web", &["sh", "-c", &line]));
    wait_served(pod, SocketAddr::from((pod.address(), PORT)));
    id
}

fn name(pod: &Pod) -> &str {
    pod.config.metadata.as_ref().map_or("", |metadata| metadata.name.as_str())
}

/// What a server answers to the node; nothing when it does not.
pub fn get(server: SocketAddr) -> Option<String> {
    let answer = http::request(server, "GET", "/", None).ok().filter(|answer| answer.status == 200)?;
    Some(process::text(&answer.body).trim_end().to_owned())
}

/// Waits until an address leads to the server of a pod.
pub fn wait_served(pod: &Pod, server: SocketAddr) {
    let what = format!("{server} answers as {}", name(pod));
    wait::until(&what, || get(server).as_deref() == Some(name(pod)));
}

/// What a server answers to a container. By hand: Debian's busybox has a `wget` that crashes.
pub fn get_from(node: &Node, container: &str, address: Ipv4Addr, port: u16) -> String {
    let line = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port} | tail -n 1");
    node.cri().sh(container, &line).trim_end().to_owned()
}
