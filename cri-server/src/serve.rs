//! The daemon's socket and what answers on it; logging, which starts before anything else.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime_api::{GrpcService, IntrospectionApi};
use runtime_core::plugin::{Plugins, kinds};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::config::{Config, LogFormat};

/// Only root and root's group may talk to the daemon.
const SOCKET_MODE: u32 = 0o660;
const TAKE_OVER: &str = "take over";
const TAKE_OVER_DEADLINE: Duration = Duration::from_secs(5);
const TAKE_OVER_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot {step} socket {path}")]
    Socket {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no plugin serves anything: every gRPC plugin is disabled or failed")]
    Nothing,
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Binds the socket anew. One that another daemon listens on is left alone; what a killed daemon's last child holds
/// for some milliseconds more is waited for.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, ServeError> {
    let deadline = tokio::time::Instant::now() + TAKE_OVER_DEADLINE;
    loop {
        match bind_now(path) {
            Err(ServeError::Socket { step: TAKE_OVER, .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(TAKE_OVER_PAUSE).await;
            }
            other => return other,
        }
    }
}

fn bind_now(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |step| move |source| ServeError::Socket { step, path: path.to_owned(), source };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(failed(TAKE_OVER)(io::ErrorKind::AddrInUse.into()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
        Ok(()) | Err(_) => {}
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    }
    let listener = UnixListener::bind(path).map_err(failed("bind"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))
        .map_err(failed("restrict"))?;
    Ok(listener)
}

/// Answers until `stop` resolves.
pub(crate) async fn serve(
    listener: UnixListener,
    plugins: &Plugins,
    uuid: &str,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let services = plugins.find_all::<Arc<dyn GrpcService>>(kinds::GRPC);
    if services.is_empty() {
        return Err(ServeError::Nothing);
    }
    let introspection: Arc<dyn GrpcService> =
        Arc::new(IntrospectionApi { plugins: plugins.statuses.as_slice().into(), uuid: uuid.to_owned() });
    let services = services.into_iter().chain([introspection]);
    let routes = services.fold(Routes::default(), |routes, service| service.add_to(routes));
    Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop)
        .await
        .map_err(ServeError::Transport)
}

pub(crate) fn start_logging(config: &Config) {
    let level = config.log_level.as_tracing();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(format!("{level},h2=warn,hyper=warn,tower=warn")))
        .with_writer(io::stderr);
    // A program that embeds the daemon may have its own subscriber.
    let _ = match config.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
