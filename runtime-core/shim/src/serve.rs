//! The shim's process: one thread, one runtime, the accept loops, the end.

use std::fs;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use runtime_shim::layout;
use runtime_shim::ttrpc::server;
use runtime_sys::{memory, reaper as sys};
use rustix::process::Signal;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{LocalSet, spawn_local};

use crate::log;
use crate::reaper::Reaper;
use crate::services::Services;
use crate::sessions::Sessions;
use crate::start::Serving;

/// Stack of the short-lived threads for calls that may hang.
const THREAD_STACK: usize = 256 * 1024;
/// How long such a thread waits for more.
const THREAD_IDLE: Duration = Duration::from_millis(20);
/// Pause after a failed accept (no descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Turns of the runtime that an answer needs to get to the socket, with room to spare.
const LAST_TURNS: usize = 64;

/// Serves until the shim is told to end.
pub(crate) fn serve(serving: Serving) -> io::Result<()> {
    memory::prefer_small();
    sys::become_subreaper()?;
    let sigchld = sys::sigchld_descriptor()?;
    // Whoever stops services by SIGTERM means the daemon; a pod ends by a call.
    sys::disregard(Signal::TERM.as_raw())?;
    raise_oom_score();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(61)
        .thread_stack_size(THREAD_STACK)
        .thread_keep_alive(THREAD_IDLE)
        .build()?;
    let local = LocalSet::new();
    let result = local.block_on(&runtime, async {
        let reaper = Rc::new(Reaper::default());
        let services = Rc::new(Services::new(reaper.clone(), serving.namespace));
        let calls = UnixListener::from_std(serving.listener)?;
        let streams = UnixListener::from_std(serving.streams)?;
        let reaping = spawn_local(reaper.run(sigchld));
        let over = services.over.clone();
        let sessions = Sessions::new(services.tasks.clone());
        let accepting = [
            spawn_local(accept(calls, move |socket| serve_alone(serve_calls(socket, services.clone())))),
            spawn_local(accept(streams, move |socket| serve_alone(sessions.clone().serve(socket)))),
        ];
        tokio::select! {
            // Cancel-safe: whichever comes first ends the process.
            () = over.notified() => {}
            reaped = reaping => return reaped.map_err(io::Error::other)?,
        }
        for task in accepting {
            task.abort();
        }
        // Nobody connects any more to a shim that ends.
        let removed = fs::remove_file(layout::stream_socket(&serving.socket));
        let removed = fs::remove_file(&serving.socket).and(removed);
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
        removed
    });
    // Threads that hang in a system call must not hold the process.
    runtime.shutdown_background();
    result
}

async fn accept(listener: UnixListener, serve: impl Fn(UnixStream)) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) if !may_call(&socket) => {
                log::note("refused a caller that is not root");
                drop(socket);
            }
            Ok((socket, _)) => serve(socket),
            Err(error) => {
                log::note(&format!("accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Each connection is on its own; nobody waits for its end.
fn serve_alone(connection: impl Future<Output = ()> + 'static) {
    drop(spawn_local(connection));
}

async fn serve_calls(socket: UnixStream, services: Rc<Services>) {
    if let Err(error) = server::serve(socket, services).await {
        log::note(&format!("connection ended: {error}"));
    }
    memory::trim();
}

/// Root, or whom the shim runs as. The socket's mode says the same; a descriptor that was passed on does not.
fn may_call(socket: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    socket.peer_cred().is_ok_and(|caller| caller.uid() == 0 || caller.uid() == own)
}

/// Should memory run short, a shim goes before the daemon that started it, and after everything else.
fn raise_oom_score() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let own = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(own) = own else { return };
    let raised = fs::OpenOptions::new().write(true).open(FILE).and_then(|mut file| {
        use std::io::Write;
        file.write_all((own + 1).min(1000).to_string().as_bytes())
    });
    if let Err(error) = raised {
        log::note(&format!("set oom_score_adj: {error}"));
    }
}
