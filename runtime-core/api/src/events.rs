//! `containerd.services.events.v1`: publish, forward, and a stream for each listener.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use runtime_core::events::{Envelope, Exchange, Topic};
use runtime_core::ids::Namespace;
use runtime_core::tasks::TaskGroup;
use runtime_proto::services::events::v1 as wire;
use runtime_proto::services::events::v1::events_server::{Events, EventsServer};
use runtime_proto::types;
use tonic::{Request, Response, Status};

use crate::convert::{any, time, timestamp, typed};
use crate::status::{invalid, missing, status};
use crate::{grpc_service, scope};

#[derive(Clone)]
pub struct EventsApi {
    pub exchange: Exchange,
    pub tasks: TaskGroup,
}

grpc_service!(EventsApi, EventsServer);

#[tonic::async_trait]
impl Events for EventsApi {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<types::Envelope, Status>> + Send>>;

    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<()>, Status> {
        let namespace = scope::namespace(&request)?;
        let wire::PublishRequest { topic, event } = request.into_inner();
        let event = typed(event.ok_or_else(|| missing("the event"))?);
        self.exchange.publish(&namespace, &topic, event).map_err(status)?;
        Ok(Response::new(()))
    }

    async fn forward(&self, request: Request<wire::ForwardRequest>) -> Result<Response<()>, Status> {
        let envelope = request.into_inner().envelope.ok_or_else(|| missing("the envelope"))?;
        self.exchange.forward(received(envelope)?).map_err(status)?;
        Ok(Response::new(()))
    }

    /// Of every namespace, as containerd's: clients filter by the namespace they want.
    async fn subscribe(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let subscription = self.exchange.subscribe(&request.into_inner().filters).map_err(status)?;
        let draining = self.tasks.draining();
        let events = stream::unfold(Some(subscription), move |subscription| {
            let draining = draining.clone();
            async move {
                let mut subscription = subscription?;
                tokio::select! {
                    biased;
                    // Cancel-safe: nothing is taken before it is returned.
                    received = subscription.recv() => Some(match received {
                        Ok(envelope) => (Ok(message(&envelope)), Some(subscription)),
                        Err(error) => (Err(status(error)), None),
                    }),
                    // Cancel-safe: the daemon stops, and a stream without an end would hold it up.
                    () = draining.cancelled() => None,
                }
            }
        });
        Ok(Response::new(Box::pin(events)))
    }
}

fn received(envelope: types::Envelope) -> Result<Envelope, Status> {
    Ok(Envelope {
        timestamp: envelope.timestamp.as_ref().map(timestamp).unwrap_or_default(),
        namespace: Namespace::parse(envelope.namespace).map_err(invalid)?,
        topic: Topic::parse(&envelope.topic).map_err(invalid)?,
        event: typed(envelope.event.ok_or_else(|| missing("the event"))?),
    })
}

fn message(envelope: &Arc<Envelope>) -> types::Envelope {
    types::Envelope {
        timestamp: Some(time(envelope.timestamp)),
        namespace: envelope.namespace.to_string(),
        topic: envelope.topic.to_string(),
        event: Some(any(&envelope.event)),
    }
}
