//! Calls over a socket pair: what callers see when things go wrong on the other side.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use runtime_shim::protocol::Code;
use runtime_shim::ttrpc::connection::{CallError, Connection, Method};
use runtime_shim::ttrpc::frame::MAX_PAYLOAD;
use runtime_shim::ttrpc::server::{CallFuture, Handler, Outgoing, Reply, Status, serve};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

#[derive(Default)]
struct Sample {
    release: Notify,
    finished: Notify,
    cancelled: Notify,
}

impl Handler for Sample {
    fn call(
        self: Rc<Self>,
        _service: &str,
        method: &str,
        payload: Vec<u8>,
        outgoing: Outgoing,
    ) -> CallFuture {
        let method = method.to_owned();
        Box::pin(async move {
            match method.as_str() {
                "Echo" => Ok(Reply::Message(payload)),
                "Hold" => {
                    self.release.notified().await;
                    self.finished.notify_one();
                    Ok(Reply::Message(payload))
                }
                "Huge" => Ok(Reply::Message(vec![0; MAX_PAYLOAD + 1])),
                "Count" => {
                    for number in 0..payload[0] {
                        outgoing
                            .send(&[number])
                            .await
                            .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
                    }
                    Ok(Reply::StreamEnd)
                }
                "Endless" => {
                    outgoing
                        .send(b"begun")
                        .await
                        .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
                    outgoing.cancelled().await;
                    self.cancelled.notify_one();
                    pending().await
                }
                _ => Err(Status::new(Code::Unimplemented, format!("no {method}"))),
            }
        })
    }
}

fn method(name: &'static str) -> Method {
    Method { service: "test.Sample", name }
}

async fn with_connection<F: Future<Output = ()>>(test: impl FnOnce(Connection, Rc<Sample>) -> F) {
    let (here, there) = UnixStream::pair().expect("descriptors are left");
    let sample = Rc::new(Sample::default());
    LocalSet::new()
        .run_until(async {
            spawn_local(serve(there, sample.clone()));
            test(Connection::over(here), sample).await;
        })
        .await;
}

#[tokio::test]
async fn many_calls_share_a_connection_and_slow_ones_do_not_hold_others() {
    with_connection(|connection, sample| async move {
        let slow = connection.clone();
        let held = spawn_local(async move { slow.unary(method("Hold"), b"late".to_vec(), None).await });
        let calls: Vec<_> = (0..200_u8)
            .map(|number| {
                let connection = connection.clone();
                spawn_local(async move { connection.unary(method("Echo"), vec![number; 5000], None).await })
            })
            .collect();
        for (number, call) in (0..200_u8).zip(calls) {
            assert_eq!(call.await.unwrap().unwrap(), vec![number; 5000]);
        }
        assert!(!held.is_finished());
        sample.release.notify_one();
        assert_eq!(held.await.unwrap().unwrap(), b"late");
    })
    .await;
}

#[tokio::test]
async fn unknown_methods_and_oversized_messages_are_errors_and_the_connection_lives() {
    with_connection(|connection, _| async move {
        let error = connection.unary(method("Nope"), Vec::new(), None).await.unwrap_err();
        assert!(matches!(error, CallError::Status { code: Code::Unimplemented, .. }), "{error:?}");
        let error = connection.unary(method("Huge"), Vec::new(), None).await.unwrap_err();
        assert!(matches!(error, CallError::Status { code: Code::ResourceExhausted, .. }), "{error:?}");
        let error = connection.unary(method("Echo"), vec![0; MAX_PAYLOAD], None).await.unwrap_err();
        assert!(matches!(error, CallError::TooLarge { .. }), "{error:?}");
        assert_eq!(connection.unary(method("Echo"), b"x".to_vec(), None).await.unwrap(), b"x");
    })
    .await;
}

#[tokio::test]
async fn a_late_call_fails_and_its_handler_goes_on() {
    with_connection(|connection, sample| async move {
        let limit = Some(Duration::from_millis(20));
        let error = connection.unary(method("Hold"), Vec::new(), limit).await.unwrap_err();
        let late = matches!(
            error,
            CallError::DeadlineExceeded { .. } | CallError::Status { code: Code::DeadlineExceeded, .. }
        );
        assert!(late, "{error:?}");
        sample.release.notify_one();
        sample.finished.notified().await;
    })
    .await;
}

#[tokio::test]
async fn a_handler_outlives_its_caller() {
    with_connection(|connection, sample| async move {
        let limit = Duration::from_millis(20);
        let call = tokio::time::timeout(limit, connection.unary(method("Hold"), Vec::new(), None));
        assert!(call.await.is_err());
        drop(connection);
        sample.release.notify_one();
        sample.finished.notified().await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_fails_every_call_at_once() {
    let (here, there) = UnixStream::pair().unwrap();
    let connection = Connection::over(here);
    LocalSet::new()
        .run_until(async {
            let calls: Vec<_> = (0..5)
                .map(|_| {
                    let connection = connection.clone();
                    spawn_local(async move { connection.unary(method("Hold"), Vec::new(), None).await })
                })
                .collect();
            there.readable().await.unwrap();
            drop(there);
            for call in calls {
                assert!(matches!(call.await.unwrap(), Err(CallError::Disconnected { method: "Hold" })));
            }
            connection.closed().await;
            let error = connection.unary(method("Echo"), Vec::new(), None).await.unwrap_err();
            assert!(matches!(error, CallError::Disconnected { .. }));
        })
        .await;
}

#[tokio::test]
async fn streams_come_in_order_and_end() {
    with_connection(|connection, _| async move {
        let mut stream = connection.stream(method("Count"), vec![250]).await.unwrap();
        for number in 0..250 {
            assert_eq!(stream.next().await.unwrap(), Some(vec![number]));
        }
        assert_eq!(stream.next().await.unwrap(), None);
        assert_eq!(stream.next().await.unwrap(), None);
        let mut stream = connection.stream(method("Nope"), Vec::new()).await.unwrap();
        assert!(stream.next().await.is_err());
        assert_eq!(stream.next().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn dropping_a_stream_or_its_connection_cancels_the_handler() {
    with_connection(|connection, sample| async move {
        let mut stream = connection.stream(method("Endless"), Vec::new()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), b"begun");
        drop(stream);
        sample.cancelled.notified().await;
        let mut stream = connection.stream(method("Endless"), Vec::new()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), b"begun");
        drop(connection);
        drop(stream);
        sample.cancelled.notified().await;
    })
    .await;
}
