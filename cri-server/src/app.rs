//! The daemon from start to stop, in the order in which it happens: folders, plugins (which recover the pods),
//! socket, serving, stopping.

use std::sync::Arc;
use std::time::Duration;

use runtime_api::uuid_of;
use runtime_core::plugin::{self, NodePaths, PluginSettings, Plugins, Registration, StatusState};
use runtime_core::state::{self, StateError};
use runtime_core::tasks::TaskGroup;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::builtins;
use crate::config::{Config, Finding, Loaded, Problem, Schemas, Severity};
use crate::serve::{self, ServeError};

/// containerd's folder of the file with the daemon's uuid.
const INTROSPECTION: &str = "io.containerd.grpc.v1.introspection";
/// How long calls may take to end when the daemon stops.
const STOP_DEADLINE: Duration = Duration::from_secs(6);
/// How long its tasks may then take. Containers are none of them: they run on.
const TASKS_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("the configuration has mistakes:\n{0}")]
    Config(String),
    #[error("cannot prepare the daemon's folders")]
    State(#[from] StateError),
    #[error("cannot start the plugins")]
    Plugins(#[from] plugin::StartError),
    #[error("cannot serve")]
    Serve(#[from] ServeError),
    #[error("cannot keep the daemon's uuid")]
    Uuid(#[source] std::io::Error),
    #[error("cannot watch for signals")]
    Signals(#[source] std::io::Error),
}

/// A set of plugins to make a daemon of.
pub struct Builder {
    registrations: Vec<Registration>,
}

impl Builder {
    /// Adds a plugin beside the built-in ones.
    #[must_use]
    pub fn plugin(mut self, registration: Registration) -> Self {
        self.registrations.push(registration);
        self
    }

    /// What the plugins' tables in the configuration are checked against.
    pub fn schemas(&self) -> Schemas {
        let mut schemas = Schemas::builtin();
        for registration in &self.registrations {
            let uri = registration.uri();
            if !schemas.knows(&uri) {
                let check = registration.checker();
                schemas.add(&uri, move |table| {
                    let (effective, problems) = check(table);
                    (effective, problems.into_iter().map(Problem::from).collect())
                });
            }
        }
        schemas
    }

    pub fn build(self, loaded: Loaded) -> Daemon {
        Daemon { registrations: self.registrations, loaded }
    }
}

/// A daemon that is ready to run.
pub struct Daemon {
    registrations: Vec<Registration>,
    loaded: Loaded,
}

impl Daemon {
    /// The built-in plugins.
    pub fn builder() -> Builder {
        Builder { registrations: builtins::registrations() }
    }

    /// Runs until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<(), DaemonError> {
        let Loaded { config, findings, .. } = self.loaded;
        serve::start_logging(&config);
        report(&findings)?;
        let node = node(&config);
        state::prepare(&node)?;
        let tasks = TaskGroup::new();
        let plugins = plugin::start(&self.registrations, &settings(&config), &node, &tasks).await?;
        log_plugins(&plugins);
        let listener = serve::bind(&node.address).await?;
        tracing::info!(address = %node.address.display(), "serving");
        let stop = Arc::new(Notify::new());
        let uuid = uuid_of(&node.root.join(INTROSPECTION)).map_err(DaemonError::Uuid)?;
        let serving = serve::serve(listener, &plugins, &uuid, stop.clone().notified_owned());
        tokio::pin!(serving);
        tokio::select! {
            // Cancel-safe: pinned, and gone on with below.
            served = &mut serving => return Ok(served?),
            // Cancel-safe: signals are not consumed by anyone else.
            () = stop_signal()? => {}
        }
        tracing::info!("stopping; containers run on");
        stop.notify_one();
        tasks.drain();
        // Calls under way get some time to end. Only then may the drivers they wait for go, and with a call still
        // there they do not: it must not be told that what it waits for is gone.
        match tokio::time::timeout(STOP_DEADLINE, serving).await {
            Ok(served) => served?,
            Err(_) => {
                tracing::warn!("calls did not end in time; what they began goes on after the next start");
                return Ok(());
            }
        }
        if !tasks.stop(TASKS_DEADLINE).await {
            tracing::warn!("tasks did not end in time");
        }
        Ok(())
    }
}

/// Warnings are logged, mistakes end the start with all of them at once.
fn report(findings: &[Finding]) -> Result<(), DaemonError> {
    let mut mistakes = Vec::new();
    for finding in findings {
        match finding.severity {
            Severity::Mistake => mistakes.push(finding.to_string()),
            Severity::Unknown => tracing::warn!("{finding}"),
            Severity::NotUsed => {}
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(DaemonError::Config(mistakes.join("\n"))) }
}

fn node(config: &Config) -> NodePaths {
    NodePaths { root: config.root.clone(), state: config.state.clone(), address: config.address.clone() }
}

fn settings(config: &Config) -> PluginSettings {
    PluginSettings {
        tables: config.plugins.clone(),
        disabled: config.disabled_plugins.clone(),
        required: config.required_plugins.clone(),
    }
}

fn log_plugins(plugins: &Plugins) {
    let count =
        |wanted: fn(&StatusState) -> bool| plugins.statuses.iter().filter(|s| wanted(&s.state)).count();
    tracing::info!(
        started = count(|state| matches!(state, StatusState::Started)),
        failed = count(|state| matches!(state, StatusState::Failed(_))),
        disabled = count(|state| matches!(state, StatusState::Disabled)),
        "plugins"
    );
}

/// Resolves at SIGTERM or SIGINT; both are caught from now on.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    Ok(async move {
        tokio::select! {
            // Cancel-safe: signals are not consumed by anyone else.
            _ = terminate.recv() => {}
            // Cancel-safe: as above.
            _ = interrupt.recv() => {}
        }
    })
}
