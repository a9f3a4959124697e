//! Namespaces made for real, in folders of their own.

use std::net::{TcpListener, TcpStream};

use super::*;

fn pin(kind: Kind, path: &Path) -> Pin {
    Pin { kind, path: path.into(), record: None }
}

fn sysctl(path: &str, value: &str) -> Sysctl {
    Sysctl { name: path.into(), path: path.into(), value: value.into() }
}

#[test]
fn needs_root_pins_are_new_namespaces_and_go_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("ns").join(name);
    let spec = PinSpec {
        pins: vec![pin(Kind::Ipc, &path("ipc")), pin(Kind::Uts, &path("uts"))],
        hostname: Some("pod-name".into()),
        sysctls: vec![],
    };
    let before = rustix::system::uname();
    make_and_pin(&spec).unwrap();
    assert!(is_pinned(&path("ipc")) && is_pinned(&path("uts")));
    let inode = |path: &Path| rustix::fs::stat(path).unwrap().st_ino;
    assert_ne!(inode(&path("uts")), inode(Path::new("/proc/self/ns/uts")));
    assert_eq!(rustix::system::uname().nodename(), before.nodename());
    for name in ["ipc", "uts", "ipc"] {
        unpin(&path(name)).unwrap();
        assert!(!path(name).exists());
    }
}

#[test]
fn needs_root_a_failure_leaves_no_pin() {
    let folder = tempfile::tempdir().unwrap();
    let (uts, ipc) = (folder.path().join("uts"), folder.path().join("uts/below-a-file"));
    let spec = PinSpec { pins: vec![pin(Kind::Uts, &uts), pin(Kind::Ipc, &ipc)], ..PinSpec::default() };
    assert!(make_and_pin(&spec).is_err());
    assert!(!uts.exists());
}

struct Network {
    folder: tempfile::TempDir,
}

impl Network {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn pin(&self) -> PathBuf {
        self.folder.path().join("netns/cni-1")
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("ns/net")
    }

    fn spec(&self, sysctls: Vec<Sysctl>) -> PinSpec {
        let pin = Pin { kind: Kind::Net, path: self.pin(), record: Some(self.record()) };
        PinSpec { pins: vec![pin], hostname: None, sysctls }
    }
}

#[test]
fn needs_root_a_network_namespace_has_loopback_and_sysctls_and_can_be_run_in() {
    let network = Network::new();
    let parameter = "net/ipv4/ip_unprivileged_port_start";
    let here = fs::read_to_string(Path::new("/proc/sys").join(parameter)).unwrap();
    make_and_pin(&network.spec(vec![sysctl(parameter, "77")])).unwrap();
    let pin = network.pin();
    let there = run_in(&pin, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(), listener)
    });
    let (value, listener) = there.unwrap();
    assert_eq!(value, "77\n");
    assert_eq!(fs::read_to_string(Path::new("/proc/sys").join(parameter)).unwrap(), here);
    // The socket stays in its network: from here nobody listens there.
    assert!(TcpStream::connect(listener.local_addr().unwrap()).is_err());
    run_in(&pin, || TcpStream::connect(listener.local_addr().unwrap())).unwrap().unwrap();

    assert_eq!(fs::read_link(network.record()).unwrap(), pin);
    for _ in 0..2 {
        unpin_recorded(&network.record()).unwrap();
        assert!(!pin.exists() && network.record().symlink_metadata().is_err());
    }
    assert!(run_in(&pin, || ()).is_err());
    assert!(run_in(Path::new("/proc/self/ns/uts"), || ()).is_err());
}

#[test]
fn needs_root_a_refused_sysctl_is_named_and_nothing_is_left() {
    let network = Network::new();
    for (path, value) in
        [("net/ipv4/no_such_parameter", "1"), ("net/ipv4/ip_forward", "much"), ("net/ipv4", "1")]
    {
        let error = make_and_pin(&network.spec(vec![sysctl(path, value)])).unwrap_err();
        assert!(matches!(&error, NamespaceError::Sysctl { name, .. } if name == path), "{error}");
        assert!(!network.pin().exists() && network.record().symlink_metadata().is_err());
    }
}

#[test]
fn needs_root_a_pin_of_somebody_else_is_refused_and_stays() {
    let (theirs, ours) = (Network::new(), Network::new());
    make_and_pin(&theirs.spec(vec![])).unwrap();
    let mut spec = ours.spec(vec![]);
    spec.pins[0].path = theirs.pin();
    let error = make_and_pin(&spec).unwrap_err();
    assert!(
        matches!(&error, NamespaceError::Step { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    );
    assert!(is_pinned(&theirs.pin()));
    assert!(ours.record().symlink_metadata().is_err());
    unpin_recorded(&theirs.record()).unwrap();
}

#[test]
fn needs_root_a_pin_that_others_took_away_is_given_back_all_the_same() {
    let network = Network::new();
    make_and_pin(&network.spec(vec![])).unwrap();
    mount::unmount_detached(&network.pin()).unwrap();
    unpin_recorded(&network.record()).unwrap();
    assert!(!network.pin().exists());

    make_and_pin(&network.spec(vec![])).unwrap();
    unpin(&network.pin()).unwrap();
    unpin_recorded(&network.record()).unwrap();

    make_and_pin(&network.spec(vec![])).unwrap();
    unpin(&network.pin()).unwrap();
    io::Write::write_all(&mut File::create(network.pin()).unwrap(), b"theirs").unwrap();
    unpin_recorded(&network.record()).unwrap();
    assert!(network.pin().exists());
}

#[test]
fn needs_root_the_pid_namespace_of_a_process_is_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ns/pid");
    pin_pid_namespace(rustix::process::getpid(), &path).unwrap();
    let inode = |path: &Path| rustix::fs::stat(path).unwrap().st_ino;
    assert_eq!(inode(&path), inode(Path::new("/proc/self/ns/pid")));
    unpin(&path).unwrap();
    assert!(pin_pid_namespace(Pid::from_raw(i32::MAX).unwrap(), &path).is_err());
    assert!(!path.exists());
}
