//! An attachment: a container's output from now on, and a share in its input, until either side leaves.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use runtime_shim::protocol::io::StreamAttach;
use runtime_shim::stream::Stdin;
use runtime_shim::stream::frame::{MAX_PAYLOAD, ShimFrame};
use runtime_shim::ttrpc::server::Status;

use super::Peer;
use crate::container::{Container, Phase};
use crate::failure;
use crate::io::audience::{Wants, Watcher};
use crate::tasks::Tasks;

/// How long a client may take to accept what is left when the container has ended: its backlog grows no more then.
const LAST_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(tasks: &Tasks, wish: &StreamAttach, peer: &Peer) -> Result<(), Status> {
    let container = tasks.get(&wish.container)?;
    if !matches!(container.phase(), Phase::Running { .. }) {
        return Err(failure::precondition(format!("container {} is not running", wish.container)));
    }
    let watcher = container.audience.join(Wants { stdout: wish.stdout, stderr: wish.stderr });
    let takes_input = wish.stdin && container.stdin != Stdin::None;
    let end = || container.input_ended();
    let on_end: &dyn Fn() = &end;
    tokio::select! {
        // Cancel-safe: what is lost with it has no reader any more.
        () = show(&container, &watcher, peer) => {}
        // Cancel-safe: the input of a client that does not take part any more is dropped.
        () = peer.feed(&container.input, takes_input.then_some(on_end)) => {}
        // Cancel-safe: a look at the backlog.
        () = watcher.lagged() => {}
        // Cancel-safe: a watch and a timer.
        () = overdue(&container) => {}
    }
    if takes_input {
        end();
    }
    Ok(())
}

/// Shows the output and at last the exit.
async fn show(container: &Rc<Container>, watcher: &Watcher, peer: &Peer) {
    if show_all(container, watcher, peer).await.is_err() {
        // The client is gone. What it has sent before is still on its way to the container; its end ends the session.
        std::future::pending().await
    }
}

async fn show_all(container: &Rc<Container>, watcher: &Watcher, peer: &Peer) -> io::Result<()> {
    peer.send(&ShimFrame::Opened).await?;
    let exit = loop {
        tokio::select! {
            biased;
            // Cancel-safe: a look at the backlog.
            () = watcher.ready() => show_some(watcher, peer).await?,
            // Cancel-safe: a watch. All output was shown to the watchers before.
            exit = container.exit() => break exit,
        }
    };
    peer.send(&ShimFrame::Exit(i32::from(exit.code))).await
}

/// Resolves when the client has had its time since the container's end.
async fn overdue(container: &Container) {
    container.exit().await;
    tokio::time::sleep(LAST_LIMIT).await;
}

/// Sends one chunk of the backlog.
async fn show_some(watcher: &Watcher, peer: &Peer) -> io::Result<()> {
    let Some(chunk) = watcher.take() else { return Ok(()) };
    for piece in chunk.bytes.chunks(MAX_PAYLOAD) {
        peer.send_output(chunk.stream, piece).await?;
    }
    Ok(())
}
