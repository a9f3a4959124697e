//! The kernel's links, addresses and routes: a socket of one namespace, and blocking requests on it.
//!
//! Each request runs to its end on a runtime of this thread; the connection is driven while a request waits and at no
//! other time, so there is no task.

mod addresses;
mod links;
mod routes;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::proto::Connection;
use rtnetlink::{Error, Handle};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

pub(crate) use self::links::{Kind, Link, Port, Veth};

use crate::netns::{Netns, NetnsError};

/// The kernel refused a request.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    #[error("cannot {step} {what}")]
    Request {
        step: &'static str,
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl LinkError {
    /// Whether the kernel said that it is there already.
    pub(crate) fn is_exists(&self) -> bool {
        matches!(self, Self::Request { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// The runtime that the sockets of all namespaces wait on.
pub(crate) struct Waiter {
    runtime: Runtime,
}

impl Waiter {
    pub(crate) fn new() -> Result<Self, LinkError> {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build().map_err(LinkError::Open)?;
        Ok(Self { runtime })
    }

    /// Lets time pass between two looks at what the kernel does on its own.
    pub(crate) fn pause(&self, time: Duration) {
        // Made inside: a timer belongs to the runtime that it is made in.
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }
}

type Driver = Pin<Box<Connection<RouteNetlinkMessage>>>;

/// A socket in one namespace.
pub(crate) struct Netlink<'a> {
    waiter: &'a Waiter,
    handle: Handle,
    driver: Driver,
}

impl<'a> Netlink<'a> {
    /// A socket in the namespace of this thread.
    pub(crate) fn open(waiter: &'a Waiter) -> Result<Self, LinkError> {
        let (handle, driver) = socket(waiter.runtime.handle())?;
        Ok(Self { waiter, handle, driver })
    }

    /// A socket in another namespace, after `prepare` was done there.
    pub(crate) fn open_in<T: Send>(
        waiter: &'a Waiter,
        netns: &Netns,
        prepare: impl FnOnce() -> T + Send,
    ) -> Result<(Self, T), LinkError> {
        let runtime = waiter.runtime.handle().clone();
        let (opened, prepared) = netns.run(move || (socket(&runtime), prepare()))?;
        let (handle, driver) = opened?;
        Ok((Self { waiter, handle, driver }, prepared))
    }

    /// Makes a request; `step` and `what` say in an error what it was for.
    fn request<T>(
        &mut self,
        step: &'static str,
        what: impl Into<String>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, LinkError> {
        let driver = &mut self.driver;
        let outcome = self.waiter.runtime.block_on(async {
            let mut work = pin!(work);
            poll_fn(|context| {
                if let Poll::Ready(outcome) = work.as_mut().poll(context) {
                    return Poll::Ready(Some(outcome));
                }
                match driver.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(None),
                    // The driver may have got the answer just now.
                    Poll::Pending => work.as_mut().poll(context).map(Some),
                }
            })
            .await
        });
        let source = match outcome {
            Some(Ok(value)) => return Ok(value),
            Some(Err(Error::NetlinkError(message))) => message.to_io(),
            Some(Err(error)) => io::Error::other(error.to_string()),
            None => io::ErrorKind::ConnectionAborted.into(),
        };
        Err(LinkError::Request { step, what: what.into(), source })
    }
}

fn socket(runtime: &tokio::runtime::Handle) -> Result<(Handle, Driver), LinkError> {
    let _guard = runtime.enter();
    let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Open)?;
    Ok((handle, Box::pin(connection)))
}

/// All messages of an answer.
async fn all<T>(stream: impl Stream<Item = Result<T, Error>>) -> Result<Vec<T>, Error> {
    stream.try_collect().await
}

/// Turns "there is none" into an answer.
fn found<T>(answer: Result<T, LinkError>) -> Result<Option<T>, LinkError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(LinkError::Request { source, .. }) if is_missing(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &io::Error) -> bool {
    let missing = [rustix::io::Errno::NODEV, rustix::io::Errno::NOENT, rustix::io::Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|number| missing.iter().any(|one| one.raw_os_error() == number))
}
