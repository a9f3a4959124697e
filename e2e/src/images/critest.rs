//! The images that critest pulls by fixed names, substitutes with what the specs need.
//!
//! No two share an id, or the tags of one would show up at the other. Only one is not among them: critest names it
//! by the digest of a manifest that is not ours.

use serde_json::{Value, json};

use super::{BuiltLayer, Image, base, own_layer, parents, read};
use crate::layer::Layer;
use crate::registry::Registry;

const NGINX: &str = "/usr/sbin/nginx";
/// Where a spec of the group Streaming expects a server on the node's network.
const HOST_PORT: u16 = 12_003;
const POD_PORT: u16 = 80;

/// One image: where it lies, and what it is made of besides busybox and a file of its own.
struct Substitute {
    repository: &'static str,
    tags: &'static [&'static str],
    layers: Vec<BuiltLayer>,
    config: Value,
}

/// Pushes them all.
pub fn push(registry: &Registry) {
    for Substitute { repository, tags, layers, config } in started().into_iter().chain(looked_at()) {
        let own = own_layer(&format!("{}-{}", repository.replace('/', "-"), tags[0]));
        let layers = [base().clone()].into_iter().chain(layers).chain([own]).collect();
        let image = Image::new(layers, &config);
        for tag in tags {
            registry.push(repository, tag, &image);
        }
    }
}

/// Those that containers are made of. One repository serves both hosts that critest pulls pause from.
fn started() -> Vec<Substitute> {
    let image = |repository, tags, layers, config| Substitute { repository, tags, layers, config };
    let server = json!({"Env": ["PATH=/bin:/usr/sbin"], "Cmd": ["nginx", "-g", "daemon off;"]});
    let httpd = json!({"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "echo httpd; exec httpd -f -p 80 -h /www"]});
    let pause = json!({"Env": ["PATH=/bin"],
        "Entrypoint": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]});
    let www = Layer::new().folder("www", 0o755).file("www/index.html", 0o644, "httpd\n");
    vec![
        image("e2e-test-images/busybox", &["1.29-2"], vec![], shell()),
        image("e2e-test-images/httpd", &["2.4.39-4"], vec![BuiltLayer::new(&www)], httpd),
        image("e2e-test-images/nginx", &["1.14-2"], nginx(POD_PORT), server.clone()),
        image("k8s-staging-cri-tools/hostnet-nginx-amd64", &["latest"], nginx(HOST_PORT), server),
        image("k8s-staging-cri-tools/test-image-tag", &["test"], vec![], shell()),
        image("pause", &["3.9"], vec![], pause),
    ]
}

/// Those that are pulled, listed and removed only.
fn looked_at() -> Vec<Substitute> {
    let image = |repository, tags, config| Substitute { repository, tags, layers: vec![], config };
    let of_user =
        |repository, user: &str| image(repository, &["latest"], json!({"User": user, "Cmd": ["sh"]}));
    vec![
        image("k8s-staging-cri-tools/test-image-1", &["latest"], shell()),
        image("k8s-staging-cri-tools/test-image-2", &["latest"], shell()),
        image("k8s-staging-cri-tools/test-image-3", &["latest"], shell()),
        image("k8s-staging-cri-tools/test-image-tags", &["1", "2", "3"], shell()),
        image("k8s-staging-cri-tools/test-image-tag", &["all"], shell()),
        image("k8s-staging-cri-tools/test-image-latest", &["latest"], shell()),
        of_user("k8s-staging-cri-tools/test-image-user-uid", "1002"),
        of_user("k8s-staging-cri-tools/test-image-user-username", "www-data"),
        of_user("k8s-staging-cri-tools/test-image-user-uid-group", "1003:1004"),
        of_user("k8s-staging-cri-tools/test-image-user-username-group", "www-data:1004"),
    ]
}

fn shell() -> Value {
    json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]})
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
