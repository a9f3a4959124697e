//! The shim's process: one thread, one runtime, the accept loop, the end.

use std::fs;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use runtime_shim::ttrpc::server;
use runtime_sys::{memory, reaper as sys};
use rustix::process::Signal;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{LocalSet, spawn_local};

use crate::log;
use crate::reaper::Reaper;
use crate::services::Services;
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
        let listener = UnixListener::from_std(serving.listener)?;
        let reaping = spawn_local(reaper.run(sigchld));
        let over = services.over.clone();
        let accepting = spawn_local(accept(listener, services));
        tokio::select! {
            // Cancel-safe: whichever comes first ends the process.
            () = over.notified() => {}
            reaped = reaping => return reaped.map_err(io::Error::other)?,
        }
        accepting.abort();
        // Nobody connects any more to a shim that ends.
        let removed = fs::remove_file(&serving.socket);
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
        removed
    });
    // Threads that hang in a system call must not hold the process.
    runtime.shutdown_background();
    result
}

async fn accept(listener: UnixListener, services: Rc<Services>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) if !may_call(&socket) => {
                log::note("refused a caller that is not root");
                drop(socket);
            }
            Ok((socket, _)) => {
                let services = services.clone();
                spawn_local(async move {
                    if let Err(error) = server::serve(socket, services).await {
                        log::note(&format!("connection ended: {error}"));
                    }
                    memory::trim();
                });
            }
            Err(error) => {
                log::note(&format!("accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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
