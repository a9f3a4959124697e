//! The wire as others see it: a client generated from Kubernetes' own proto (crate k8s-cri, CRI 0.32) drives orlop.
//!
//! Our types are on neither side of what it checks: a wrong field number of ours would show here.

use std::collections::HashMap;

use e2e::client::channel;
use e2e::node::{BUSYBOX, Node};
use e2e::wait;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::Channel;

fn pod_config(node: &Node) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: "wire".to_owned(),
            uid: "wire-uid".to_owned(),
            namespace: "wire-namespace".to_owned(),
            attempt: 3,
        }),
        log_directory: node.folder().join("logs").to_string_lossy().into_owned(),
        labels: HashMap::from([("label".to_owned(), "of the pod".to_owned())]),
        annotations: HashMap::from([("annotation".to_owned(), "of the pod".to_owned())]),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: node.cgroup_parent(),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn namespaces() -> cri::NamespaceOption {
    cri::NamespaceOption {
        network: cri::NamespaceMode::Node.into(),
        pid: cri::NamespaceMode::Container.into(),
        ..Default::default()
    }
}

fn container_config() -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: "wire-container".to_owned(), attempt: 2 }),
        image: Some(cri::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
        command: ["sh", "-c"].map(str::to_owned).into(),
        args: vec!["echo $GREETING; exit 3".to_owned()],
        envs: vec![cri::KeyValue { key: "GREETING".to_owned(), value: "hello".to_owned() }],
        labels: HashMap::from([("label".to_owned(), "of the container".to_owned())]),
        log_path: "wire.log".to_owned(),
        linux: Some(cri::LinuxContainerConfig {
            security_context: Some(cri::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                run_as_user: Some(cri::Int64Value { value: 1000 }),
                ..Default::default()
            }),
            resources: Some(cri::LinuxContainerResources { cpu_shares: 128, ..Default::default() }),
        }),
        ..Default::default()
    }
}

#[test]
fn a_client_of_another_make_runs_a_container() {
    let node = Node::start();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime");
    runtime.block_on(async {
        let channel = channel(&node.socket()).await.expect("connect");
        images(channel.clone()).await;
        life(&node, RuntimeServiceClient::new(channel)).await;
    });
}

async fn images(channel: Channel) {
    let mut client = ImageServiceClient::new(channel);
    let image = Some(cri::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() });
    let request = cri::ImageStatusRequest { image, verbose: true };
    let answer = client.image_status(request).await.expect("image status").into_inner();
    let image = answer.image.expect("the image is there");
    assert_eq!(image.repo_tags, [BUSYBOX]);
    assert!(image.id.starts_with("sha256:") && image.size > 0);
    let listed =
        client.list_images(cri::ListImagesRequest { filter: None }).await.expect("list").into_inner();
    assert_eq!(listed.images, [image]);
}

type Client = RuntimeServiceClient<Channel>;

async fn life(node: &Node, mut client: Client) {
    let version = client.version(cri::VersionRequest::default()).await.expect("version").into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("orlop", "v1"));
    let config = pod_config(node);
    let pod = pod(node, &mut client, &config).await;
    container(node, &mut client, &pod, config).await;
    client.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: pod }).await.expect("remove");
    let listed = client.list_containers(cri::ListContainersRequest { filter: None }).await.expect("list");
    assert_eq!(listed.into_inner().containers, []);
}

async fn pod(node: &Node, client: &mut Client, config: &cri::PodSandboxConfig) -> String {
    let request = cri::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let pod = client.run_pod_sandbox(request).await.expect("run").into_inner().pod_sandbox_id;
    node.cri().remember(&pod);
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: true };
    let answer = client.pod_sandbox_status(request).await.expect("pod status").into_inner();
    let status = answer.status.expect("a status");
    assert_eq!((&status.metadata, &status.labels), (&config.metadata, &config.labels));
    assert_eq!(status.annotations, config.annotations);
    assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
    pod
}

async fn container(node: &Node, client: &mut Client, pod: &str, pod_config: cri::PodSandboxConfig) {
    let wanted = container_config();
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(wanted.clone()),
        sandbox_config: Some(pod_config),
    };
    let id = client.create_container(request).await.expect("create").into_inner().container_id;
    node.cri().remember(&id);
    let request = cri::StartContainerRequest { container_id: id.clone() };
    client.start_container(request).await.expect("start");
    let request = cri::ContainerStatusRequest { container_id: id.clone(), verbose: false };
    let deadline = std::time::Instant::now() + wait::PATIENCE;
    let status = loop {
        let answer = client.container_status(request.clone()).await.expect("status").into_inner();
        let status = answer.status.expect("a status");
        if status.state() == cri::ContainerState::ContainerExited {
            break status;
        }
        assert!(std::time::Instant::now() < deadline, "the container does not end: {status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert_eq!((&status.metadata, &status.labels), (&wanted.metadata, &wanted.labels));
    assert_eq!(status.user.and_then(|user| user.linux).map(|user| user.uid), Some(1000));
    assert!(e2e::fixture::read(std::path::Path::new(&status.log_path)).ends_with("stdout F hello\n"));
}
