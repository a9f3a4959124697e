//! The task that owns one pod: it runs the set-up, then answers Stop and Remove and watches the shim.
//!
//! Requests come over a channel and are taken one after the other; a Stop that arrives during set-up waits for
//! the running step to end. Answers go to everyone who asked.

use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{SandboxFacts, SandboxState, SetupError, TeardownError, setup, teardown};
use crate::container::ContainerHandle;
use crate::facts::{Fact, Stage};
use crate::pod::{NoShim, Pod, ShimSlot};
use crate::registry::Registry;
use crate::services::Services;
use crate::view::SandboxView;

/// Requests that may wait for one pod; kubelet sends one verb at a time, a storm waits for its turn.
const REQUEST_CAPACITY: usize = 64;
/// Between two tries of a teardown that failed.
const TEARDOWN_RETRY: Duration = Duration::from_secs(10);
/// How long the containers of a stopping pod may take to die of SIGKILL.
const CONTAINER_END_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) type Reply<E> = oneshot::Sender<Result<(), Arc<E>>>;

#[derive(Debug)]
pub(crate) enum Request {
    Stop(Reply<TeardownError>),
    Remove(Reply<TeardownError>),
}

/// How the set-up went, for everyone who waits for it.
#[derive(Clone, Debug)]
pub(crate) enum SetupOutcome {
    Running,
    Ready,
    Failed(Arc<SetupError>),
    /// Recovered as something else than ready.
    NotReady,
}

/// The way to a pod's driver.
#[derive(Clone, Debug)]
pub(crate) struct SandboxHandle {
    pub(crate) pod: Arc<Pod>,
    pub(crate) view: watch::Receiver<SandboxView>,
    pub(crate) setup: watch::Receiver<SetupOutcome>,
    requests: mpsc::Sender<Request>,
    /// Cancelled by whoever wants the pod down: a set-up that waits for plugins ends at once.
    unwanted: CancellationToken,
}

impl SandboxHandle {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.view.borrow().state, SandboxState::Ready { .. })
    }

    /// The answer; `None` when the driver has ended.
    pub(crate) async fn ask(
        &self,
        request: impl FnOnce(Reply<TeardownError>) -> Request,
    ) -> Option<Result<(), Arc<TeardownError>>> {
        let (reply, answer) = oneshot::channel();
        self.unwanted.cancel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// How a driver begins.
pub(crate) enum Begin {
    SetUp,
    Recovered { facts: SandboxFacts },
}

pub(crate) struct SandboxDriver {
    services: Arc<Services>,
    registry: Arc<Registry>,
    pod: Arc<Pod>,
    facts: SandboxFacts,
    view: watch::Sender<SandboxView>,
    setup: watch::Sender<SetupOutcome>,
    requests: mpsc::Receiver<Request>,
    unwanted: CancellationToken,
    /// When a teardown that failed is tried again.
    retry_at: Instant,
}

/// Who waits for the pod's end.
#[derive(Default)]
struct Asked {
    stops: Vec<Reply<TeardownError>>,
    removes: Vec<Reply<TeardownError>>,
}

impl Asked {
    fn take(&mut self, request: Request) {
        match request {
            Request::Stop(reply) => self.stops.push(reply),
            Request::Remove(reply) => self.removes.push(reply),
        }
    }

    fn take_all(&mut self, requests: &mut mpsc::Receiver<Request>) {
        while let Ok(request) = requests.try_recv() {
            self.take(request);
        }
    }

    fn answer(replies: &mut Vec<Reply<TeardownError>>, result: &Result<(), Arc<TeardownError>>) {
        for reply in replies.drain(..) {
            // Nobody listens any more when the client's detached handler is gone, too.
            let _ = reply.send(result.clone());
        }
    }
}

/// Whether the driver has more to do.
enum Life {
    GoesOn,
    Over,
}

impl SandboxDriver {
    /// Starts the driver of `pod`, which is known from then on.
    pub(crate) fn spawn(
        services: &Arc<Services>,
        registry: &Arc<Registry>,
        pod: Arc<Pod>,
        begin: Begin,
    ) -> SandboxHandle {
        let (sender, requests) = mpsc::channel(REQUEST_CAPACITY);
        let (facts, outcome) = match &begin {
            Begin::SetUp => (SandboxFacts::default(), SetupOutcome::Running),
            Begin::Recovered { facts } => (facts.clone(), outcome(&facts.state)),
        };
        let driver = Self {
            services: services.clone(),
            registry: registry.clone(),
            view: watch::Sender::new(view(services, &pod, &facts)),
            setup: watch::Sender::new(outcome),
            pod: pod.clone(),
            facts,
            requests,
            unwanted: CancellationToken::new(),
            retry_at: Instant::now() + TEARDOWN_RETRY,
        };
        let handle = SandboxHandle {
            pod,
            view: driver.view.subscribe(),
            setup: driver.setup.subscribe(),
            requests: sender,
            unwanted: driver.unwanted.clone(),
        };
        registry.insert_sandbox(handle.clone());
        services.tasks.spawn_endless("sandbox driver", driver.run(begin));
        handle
    }

    async fn run(mut self, begin: Begin) {
        let life = match begin {
            Begin::SetUp => self.set_up().await,
            Begin::Recovered { .. } => {
                self.end_stray_plugins().await;
                self.resume().await
            }
        };
        if matches!(life, Life::Over) {
            return;
        }
        loop {
            let pod = self.pod.clone();
            let life = tokio::select! {
                // Cancel-safe: a request is taken whole or stays in the channel.
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => Life::Over,
                },
                // Cancel-safe: a timer.
                () = tokio::time::sleep_until(self.retry_at), if self.must_go_on() => {
                    self.retry_at = Instant::now() + TEARDOWN_RETRY;
                    self.resume().await
                }
                // Cancel-safe: watches a process, takes nothing.
                () = pod.shim_ended(), if matches!(self.facts.state, SandboxState::Ready { .. }) => {
                    self.shim_died();
                    Life::GoesOn
                }
            };
            if matches!(life, Life::Over) {
                return;
            }
        }
    }

    async fn set_up(&mut self) -> Life {
        let mut reached = Stage::Reserved;
        let result = setup::climb(&self.services, &self.pod, &mut reached, &self.unwanted).await;
        self.facts.reached = reached;
        let failure = match result {
            Ok(timings) => {
                let ready = Fact::Ready { at: self.services.clock.now(), timings };
                match self.note(ready) {
                    Ok(()) => None,
                    Err(source) => Some(SetupError::Journal { pod: self.pod.id.to_string(), source }),
                }
            }
            Err(error) => Some(error),
        };
        let Some(error) = failure else {
            self.setup.send_replace(SetupOutcome::Ready);
            return Life::GoesOn;
        };
        if self.pod.shim_now().is_none() {
            self.pod.set_shim(ShimSlot::Gone);
        }
        // Dropping a plugin kills it and waits for nothing; its DEL must not run beside it.
        self.end_stray_plugins().await;
        let life = self.discard().await;
        self.setup.send_replace(SetupOutcome::Failed(Arc::new(error)));
        life
    }

    /// A plugin that the daemon before this one started, or a set-up that was cut short, may still be at work on the
    /// pod. It must not undo what comes.
    async fn end_stray_plugins(&self) {
        let unfinished = self.must_go_on() || matches!(self.facts.state, SandboxState::SettingUp { .. });
        if !unfinished || self.pod.network.is_none() {
            return;
        }
        match self.services.networks.invoker.end_leftovers(self.pod.id.as_str()).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::warn!(sandbox = %self.pod.id, count, "ended CNI plugins that were left at work")
            }
            Err(error) => {
                tracing::error!(sandbox = %self.pod.id, %error, "CNI plugins that were left at work stay")
            }
        }
    }

    /// A teardown failed: it is tried again without anybody asking.
    fn must_go_on(&self) -> bool {
        self.facts.removing || matches!(self.facts.state, SandboxState::TearingDown { .. })
    }

    /// Goes on where a teardown failed, or where the daemon before this one was killed.
    async fn resume(&mut self) -> Life {
        match &self.facts.state {
            // Nobody was told of this pod: its set-up never ended.
            SandboxState::SettingUp { .. } => self.discard().await,
            _ if self.facts.removing => self.discard().await,
            SandboxState::TearingDown { .. } => {
                if let Err(error) = self.tear_down().await {
                    self.teardown_failed(&error);
                }
                Life::GoesOn
            }
            SandboxState::Ready { .. }
            | SandboxState::Died { .. }
            | SandboxState::Stopped
            | SandboxState::Unknown { .. } => Life::GoesOn,
        }
    }

    /// One try serves everyone who asked before it ended: tries of a plugin that hangs do not queue up.
    async fn answer(&mut self, request: Request) -> Life {
        let mut asked = Asked::default();
        asked.take(request);
        loop {
            asked.take_all(&mut self.requests);
            let removing = !asked.removes.is_empty();
            let result = if removing { self.take_away().await } else { self.tear_down().await };
            asked.take_all(&mut self.requests);
            let result = result.map_err(|error| {
                self.teardown_failed(&error);
                Arc::new(error)
            });
            // What keeps a stopped pod from being removed is no business of those who wanted it stopped.
            let stopped = self.facts.state == SandboxState::Stopped;
            Asked::answer(&mut asked.stops, if stopped { &Ok(()) } else { &result });
            // Whoever wants it removed is not served by a stop, but by a failure as well as anybody.
            if removing || result.is_err() || asked.removes.is_empty() {
                Asked::answer(&mut asked.removes, &result);
                return if removing && result.is_ok() { Life::Over } else { Life::GoesOn };
            }
        }
    }

    /// Removes a pod that nobody may see. A failure leaves it listed as not ready, to be removed again.
    async fn discard(&mut self) -> Life {
        match self.take_away().await {
            Ok(()) => Life::Over,
            Err(error) => {
                self.teardown_failed(&error);
                Life::GoesOn
            }
        }
    }

    fn teardown_failed(&mut self, error: &TeardownError) {
        let message = runtime_core::error::chain(error);
        tracing::warn!(sandbox = %self.pod.id, error = message, "teardown failed and will be tried again");
        self.retry_at = Instant::now() + TEARDOWN_RETRY;
        // A stopped pod stays one, without ports and addresses, whatever keeps it from being removed.
        if self.facts.state != SandboxState::Stopped {
            self.facts.state = SandboxState::TearingDown { last_error: Some(message) };
            self.publish();
        }
    }

    /// Stops everything of the pod that runs; a pod that is stopped already is left alone.
    async fn tear_down(&mut self) -> Result<(), TeardownError> {
        if self.facts.state == SandboxState::Stopped {
            return Ok(());
        }
        self.note_anyway(Fact::Stopping);
        if self.facts.reached >= Stage::ShimUp {
            self.end_hung_shim().await;
        }
        self.end_containers().await?;
        if self.facts.reached >= Stage::NetworkUp {
            teardown::leave_network(&self.services, &self.pod).await?;
            self.note_anyway(Fact::NetworkDown);
        }
        teardown::stop(&self.services, &self.pod, self.facts.reached).await?;
        self.note_anyway(Fact::Stopped { at: self.services.clock.now() });
        Ok(())
    }

    /// A shim that is still being attached is waited for: it knows how to end what it started. One that lives and does
    /// not answer ends nothing and would hold up every stop: it is killed, and what it held is cleaned up behind it.
    async fn end_hung_shim(&self) {
        let answers = match self.pod.shim().await {
            Ok(shim) => shim.ping().await,
            Err(NoShim::Gone { .. }) => return,
            Err(NoShim::NotAttached { .. }) => false,
        };
        if answers {
            return;
        }
        tracing::error!(sandbox = %self.pod.id, "the pod's shim does not answer, what there is of it is killed");
        match self.services.shims.kill(self.pod.id.as_str()).await {
            Ok(()) => self.pod.set_shim(ShimSlot::Gone),
            Err(error) => {
                tracing::error!(sandbox = %self.pod.id, error = %runtime_core::error::chain(&error), "the shim stays")
            }
        }
    }

    /// Kills all containers at once and waits until each has ended and its task is deleted.
    async fn end_containers(&self) -> Result<(), TeardownError> {
        let mut ending = Vec::new();
        for handle in self.registry.containers_of(&self.pod.id) {
            ending.push(self.services.tasks.spawn("end container", end(handle)));
        }
        let mut left = Vec::new();
        for task in ending {
            if let Ok(Some(id)) = task.await {
                left.push(id);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        Err(TeardownError::Containers { pod: self.pod.id.to_string(), containers: left.join(", ") })
    }

    /// Stops the pod, then removes its containers, its files and its record.
    async fn take_away(&mut self) -> Result<(), TeardownError> {
        self.note_anyway(Fact::Removing);
        self.tear_down().await?;
        for handle in self.registry.containers_of(&self.pod.id) {
            let id = handle.id.to_string();
            if handle.remove().await.is_err() {
                return Err(TeardownError::Containers { pod: self.pod.id.to_string(), containers: id });
            }
        }
        teardown::remove(&self.services, &self.pod).await?;
        self.services.forget_sandbox(&self.pod.id).await?;
        teardown::close_journal(&self.services, &self.pod)?;
        self.registry.remove_sandbox(&self.pod);
        Ok(())
    }

    fn shim_died(&mut self) {
        tracing::error!(sandbox = %self.pod.id, "the pod's shim died, the pod has failed");
        self.pod.set_shim(ShimSlot::Gone);
        self.note_anyway(Fact::ShimDied { at: self.services.clock.now() });
    }

    /// Teardown does not wait for a place to write to: a full disk is often why somebody stops pods.
    fn note_anyway(&mut self, fact: Fact) {
        if let Err(error) = self.pod.record(&fact) {
            tracing::error!(sandbox = %self.pod.id, error = %runtime_core::error::chain(&error), "fact not recorded");
        }
        self.learn(&fact);
    }

    /// Records a fact and shows what follows from it.
    fn note(&mut self, fact: Fact) -> Result<(), crate::journal::JournalError> {
        self.pod.record(&fact)?;
        self.learn(&fact);
        Ok(())
    }

    fn learn(&mut self, fact: &Fact) {
        self.facts = std::mem::take(&mut self.facts).after(fact);
        self.publish();
    }

    fn publish(&self) {
        self.view.send_replace(view(&self.services, &self.pod, &self.facts));
    }
}

fn view(services: &Services, pod: &Pod, facts: &SandboxFacts) -> SandboxView {
    let network = pod.network.as_ref().filter(|_| facts.reached >= Stage::NetworkUp);
    let network = network.and_then(|it| services.networks.view(&it.intent, it.results.get()?));
    SandboxView {
        network: network.map(Arc::new),
        id: pod.id.clone(),
        spec: pod.spec.clone(),
        created_at: pod.created_at,
        state: facts.state.clone(),
        shim_pid: pod.shim_now().map(|shim| shim.process().pid),
        timings: facts.timings.clone(),
    }
}

/// What a pod that was found says to those who want it run: a set-up that was cut off does not go on.
fn outcome(state: &SandboxState) -> SetupOutcome {
    match state {
        SandboxState::Ready { .. } => SetupOutcome::Ready,
        SandboxState::SettingUp { .. }
        | SandboxState::Died { .. }
        | SandboxState::TearingDown { .. }
        | SandboxState::Stopped
        | SandboxState::Unknown { .. } => SetupOutcome::NotReady,
    }
}

/// Ends one container; its id when it would not die.
async fn end(handle: ContainerHandle) -> Option<String> {
    let id = handle.id.to_string();
    match tokio::time::timeout(CONTAINER_END_DEADLINE, handle.end()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => None,
        Ok(Err(_)) | Err(_) => Some(id),
    }
}
