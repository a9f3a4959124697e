//! The images that critest pulls by fixed names, for the groups that run: substitutes with what the specs need.
//!
//! No two share an id, or the tags of one would show up at the other.

use serde_json::{Value, json};

use super::{BuiltLayer, Image, base, own_layer, parents, read};
use crate::layer::Layer;
use crate::registry::Registry;

const NGINX: &str = "/usr/sbin/nginx";
/// Where a spec of the group Streaming expects a server on the node's network.
const HOST_PORT: u16 = 12_003;
const POD_PORT: u16 = 80;

/// Pushes them all.
pub fn push(registry: &Registry) {
    let shell = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
    let server = json!({"Env": ["PATH=/bin:/usr/sbin"], "Cmd": ["nginx", "-g", "daemon off;"]});
    let httpd = json!({"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "echo httpd; exec httpd -f -p 80 -h /www"]});
    let www = Layer::new().folder("www", 0o755).file("www/index.html", 0o644, "httpd\n");
    let images: [(&str, &str, Vec<BuiltLayer>, Value); 4] = [
        ("e2e-test-images/busybox", "1.29-2", vec![], shell),
        ("e2e-test-images/httpd", "2.4.39-4", vec![BuiltLayer::new(&www)], httpd),
        ("e2e-test-images/nginx", "1.14-2", nginx(POD_PORT), server.clone()),
        ("k8s-staging-cri-tools/hostnet-nginx-amd64", "latest", nginx(HOST_PORT), server),
    ];
    for (repository, tag, layers, config) in images {
        let own = own_layer(&repository.replace('/', "-"));
        let layers = [base().clone()].into_iter().chain(layers).chain([own]).collect();
        registry.push(repository, tag, &Image::new(layers, &config));
    }
}

/// Debian's nginx with its libraries, and a site that says that it is there.
fn nginx(port: u16) -> Vec<BuiltLayer> {
    let mut program = Layer::new().folder("usr/sbin", 0o755).file("usr/sbin/nginx", 0o755, read(NGINX));
    for library in super::libraries(NGINX) {
        let path = library.trim_start_matches('/').to_owned();
        program = parents(&path).into_iter().fold(program, |layer, folder| layer.folder(&folder, 0o755));
        program = program.file(&path, 0o755, read(&library));
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.map(|name| format!("{name}_temp_path /tmp/{name};\n")).concat();
    // All of it as root: the workers need no capability to become somebody else.
    let config = format!(
        "user root;\npid /run/nginx.pid;\nerror_log /dev/stderr;\nworker_processes 1;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n{temporary}access_log off;\nserver {{ listen {port}; location / {{ return 200 \"nginx\\n\"; }} }}\n}}\n"
    );
    let site = Layer::new()
        .folder("etc/nginx", 0o755)
        .file("etc/nginx/nginx.conf", 0o644, config)
        .folder("var/log", 0o755)
        .folder("var/log/nginx", 0o755)
        .folder("var/lib", 0o755)
        .folder("var/lib/nginx", 0o755);
    vec![BuiltLayer::new(&program), BuiltLayer::new(&site)]
}
