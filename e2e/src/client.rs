//! A CRI client as the tests want it: one blocking call, one connection, one answer.
//!
//! A connection a call costs under a millisecond on a unix socket and needs no care when the daemon was killed
//! in between; who measures calls keeps one. The client remembers every id that the daemon gave out: the leak check
//! looks for them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cri_proto::v1 as cri;
use cri_proto::v1::image_service_client::ImageServiceClient;
use cri_proto::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

/// Longer than any call of a test takes; a call that hangs becomes a failed test.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// ExecSync may answer 16 MiB on each of two streams.
const MESSAGE_LIMIT: usize = 40 << 20;

/// The daemon behind one socket. Clones share the list of ids.
#[derive(Clone)]
pub struct Cri {
    socket: PathBuf,
    limit: Duration,
    seen: Arc<Mutex<BTreeSet<String>>>,
    kept: Option<Arc<Connection>>,
}

struct Connection {
    runtime: Runtime,
    channel: Channel,
}

macro_rules! calls {
    ($client:ident: $($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        impl Cri {$(
            $(#[$doc])*
            #[doc = concat!("The RPC `", stringify!($name), "`.")]
            pub fn $name(&self, request: cri::$request) -> Result<cri::$response, Status> {
                self.block_on(async |channel| {
                    let mut client = $client::new(channel)
                        .max_decoding_message_size(MESSAGE_LIMIT)
                        .max_encoding_message_size(MESSAGE_LIMIT);
                    let mut request = Request::new(request);
                    request.set_timeout(self.limit);
                    Ok(client.$name(request).await?.into_inner())
                })
            }
        )*}
    };
}

calls! { RuntimeServiceClient:
    version(VersionRequest) -> VersionResponse;
    status(StatusRequest) -> StatusResponse;
    runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
    run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    create_container(CreateContainerRequest) -> CreateContainerResponse;
    start_container(StartContainerRequest) -> StartContainerResponse;
    stop_container(StopContainerRequest) -> StopContainerResponse;
    remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    list_containers(ListContainersRequest) -> ListContainersResponse;
    update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    exec(ExecRequest) -> ExecResponse;
    container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
}

calls! { ImageServiceClient:
    list_images(ListImagesRequest) -> ListImagesResponse;
    image_status(ImageStatusRequest) -> ImageStatusResponse;
    pull_image(PullImageRequest) -> PullImageResponse;
    remove_image(RemoveImageRequest) -> RemoveImageResponse;
    image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

impl Cri {
    /// A client of the daemon that listens, or will listen, on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_path_buf(), limit: CALL_LIMIT, seen: Arc::default(), kept: None }
    }

    /// The same client with another time limit for each call.
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// The same client over one connection that it keeps, as a kubelet does.
    pub fn connected(&self) -> Result<Self, Status> {
        let runtime = runtime();
        let channel = runtime.block_on(channel(&self.socket))?;
        Ok(Self { kept: Some(Arc::new(Connection { runtime, channel })), ..self.clone() })
    }

    /// Remembers an id that another client got.
    pub fn remember(&self, id: &str) {
        self.seen.lock().expect("no test thread panics while it holds the ids").insert(id.to_owned());
    }

    /// All ids of pods and containers seen so far.
    pub fn seen(&self) -> BTreeSet<String> {
        self.seen.lock().expect("no test thread panics while it holds the ids").clone()
    }

    /// Sends a request and hangs up after `patience`, as a client that was killed does; `None` then.
    pub fn leave_after<R: Leavable>(
        &self,
        patience: Duration,
        request: R,
    ) -> Option<Result<R::Answer, Status>> {
        runtime().block_on(async {
            let answered = async { request.send(channel(&self.socket).await?).await };
            tokio::time::timeout(patience, answered).await.ok()
        })
    }

    fn block_on<T>(&self, call: impl AsyncFnOnce(Channel) -> Result<T, Status>) -> Result<T, Status> {
        let answered = async {
            match &self.kept {
                Some(kept) => call(kept.channel.clone()).await,
                None => call(channel(&self.socket).await?).await,
            }
        };
        let limited = async {
            tokio::time::timeout(self.limit + Duration::from_secs(5), answered)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the test's client gave up")))
        };
        match &self.kept {
            Some(kept) => kept.runtime.block_on(limited),
            None => runtime().block_on(limited),
        }
    }

    /// Runs a pod and gives its id.
    pub fn run_pod(&self, config: &cri::PodSandboxConfig) -> Result<String, Status> {
        self.run_pod_with(config, "")
    }

    /// Runs a pod with a named handler.
    pub fn run_pod_with(&self, config: &cri::PodSandboxConfig, handler: &str) -> Result<String, Status> {
        let request =
            cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        let id = self.run_pod_sandbox(request)?.pod_sandbox_id;
        self.remember(&id);
        Ok(id)
    }

    /// Creates a container in a pod and gives its id.
    pub fn create(
        &self,
        pod: &str,
        pod_config: &cri::PodSandboxConfig,
        config: &cri::ContainerConfig,
    ) -> Result<String, Status> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(pod_config.clone()),
        };
        let id = self.create_container(request)?.container_id;
        self.remember(&id);
        Ok(id)
    }

    /// Starts a container.
    pub fn start(&self, container: &str) -> Result<(), Status> {
        self.start_container(cri::StartContainerRequest { container_id: container.to_owned() }).map(drop)
    }

    /// Stops a container with a grace period in seconds.
    pub fn stop(&self, container: &str, timeout: i64) -> Result<(), Status> {
        let request = cri::StopContainerRequest { container_id: container.to_owned(), timeout };
        self.stop_container(request).map(drop)
    }

    /// Removes a container.
    pub fn remove(&self, container: &str) -> Result<(), Status> {
        self.remove_container(cri::RemoveContainerRequest { container_id: container.to_owned() }).map(drop)
    }

    /// Stops a pod.
    pub fn stop_pod(&self, pod: &str) -> Result<(), Status> {
        self.stop_pod_sandbox(cri::StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() }).map(drop)
    }

    /// Removes a pod.
    pub fn remove_pod(&self, pod: &str) -> Result<(), Status> {
        self.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() }).map(drop)
    }

    /// The status of a container.
    pub fn container(&self, id: &str) -> Result<cri::ContainerStatus, Status> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.container_status(request)?.status.ok_or_else(|| Status::internal("no status in the answer"))
    }

    /// A key of the JSON object that a verbose container status carries.
    pub fn container_info(&self, id: &str) -> Result<serde_json::Value, Status> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let info = self.container_status(request)?.info;
        let text = info.get("info").ok_or_else(|| Status::internal("no info in the answer"))?;
        serde_json::from_str(text).map_err(|error| Status::internal(format!("info is no JSON: {error}")))
    }

    /// The status of a pod.
    pub fn pod(&self, id: &str) -> Result<cri::PodSandboxStatus, Status> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        self.pod_sandbox_status(request)?.status.ok_or_else(|| Status::internal("no status in the answer"))
    }

    /// The JSON object that a verbose pod status carries.
    pub fn pod_info(&self, id: &str) -> Result<serde_json::Value, Status> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let info = self.pod_sandbox_status(request)?.info;
        let text = info.get("info").ok_or_else(|| Status::internal("no info in the answer"))?;
        serde_json::from_str(text).map_err(|error| Status::internal(format!("info is no JSON: {error}")))
    }

    /// Changes the limits of a container.
    pub fn update(&self, container: &str, linux: cri::LinuxContainerResources) -> Result<(), Status> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: container.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        self.update_container_resources(request).map(drop)
    }

    /// All pods.
    pub fn pods(&self) -> Result<Vec<cri::PodSandbox>, Status> {
        Ok(self.list_pod_sandbox(cri::ListPodSandboxRequest { filter: None })?.items)
    }

    /// All containers.
    pub fn containers(&self) -> Result<Vec<cri::Container>, Status> {
        Ok(self.list_containers(cri::ListContainersRequest { filter: None })?.containers)
    }

    /// All images.
    pub fn images(&self) -> Result<Vec<cri::Image>, Status> {
        Ok(self.list_images(cri::ListImagesRequest { filter: None })?.images)
    }

    /// The image that a reference names, if it is there.
    pub fn image(&self, reference: &str) -> Result<Option<cri::Image>, Status> {
        let request = cri::ImageStatusRequest { image: Some(image_spec(reference)), verbose: false };
        Ok(self.image_status(request)?.image)
    }

    /// Pulls an image and gives what the daemon calls it.
    pub fn pull(&self, reference: &str) -> Result<String, Status> {
        let request =
            cri::PullImageRequest { image: Some(image_spec(reference)), auth: None, sandbox_config: None };
        Ok(self.pull_image(request)?.image_ref)
    }

    /// Removes the image that a reference names.
    pub fn remove_image_named(&self, reference: &str) -> Result<(), Status> {
        self.remove_image(cri::RemoveImageRequest { image: Some(image_spec(reference)) }).map(drop)
    }

    /// Runs a command in a container; `timeout` in seconds, 0 for none.
    pub fn exec_in(&self, id: &str, cmd: &[&str], timeout: i64) -> Result<cri::ExecSyncResponse, Status> {
        let cmd = cmd.iter().map(|&word| word.to_owned()).collect();
        self.exec_sync(cri::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout })
    }

    /// Runs a shell line in a container, expects that it succeeds, and gives its output.
    pub fn sh(&self, id: &str, line: &str) -> String {
        let answer = self
            .exec_in(id, &["sh", "-c", line], 20)
            .unwrap_or_else(|status| panic!("exec {line}: {status}"));
        let stderr = crate::process::text(&answer.stderr);
        assert_eq!(answer.exit_code, 0, "exec {line} failed: {stderr}");
        crate::process::text(&answer.stdout)
    }
}

/// A request that a client may leave unanswered.
pub trait Leavable {
    type Answer;

    /// Sends it and waits for the answer.
    fn send(self, channel: Channel) -> impl Future<Output = Result<Self::Answer, Status>>;
}

macro_rules! leavable {
    ($($request:ident -> $answer:ident by $call:ident;)*) => {
        $(impl Leavable for cri::$request {
            type Answer = cri::$answer;

            async fn send(self, channel: Channel) -> Result<Self::Answer, Status> {
                Ok(RuntimeServiceClient::new(channel).$call(self).await?.into_inner())
            }
        })*
    };
}

leavable! {
    RunPodSandboxRequest -> RunPodSandboxResponse by run_pod_sandbox;
    StopPodSandboxRequest -> StopPodSandboxResponse by stop_pod_sandbox;
    RemovePodSandboxRequest -> RemovePodSandboxResponse by remove_pod_sandbox;
    CreateContainerRequest -> CreateContainerResponse by create_container;
    StartContainerRequest -> StartContainerResponse by start_container;
    StopContainerRequest -> StopContainerResponse by stop_container;
    RemoveContainerRequest -> RemoveContainerResponse by remove_container;
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime")
}

/// A connection to a daemon's socket.
pub async fn channel(socket: &Path) -> Result<Channel, Status> {
    let socket = socket.to_path_buf();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| Status::unavailable(format!("{error:?}")))
}

/// A reference as the CRI wants it.
pub fn image_spec(reference: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: reference.to_owned(), ..Default::default() }
}
