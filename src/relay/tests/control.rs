//! Control frames: the newest of their kind, and a peer that takes no answers.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use super::connection::{Connection, failed};
use crate::core::session::close::LinkEnd;
use crate::messages::ids::JobId;
use crate::messages::wire::{Capabilities, Extensions, FromAgent, Heartbeat, Limits, Metadata};
use crate::relay::outbox::Outbox;
use crate::transport::websocket::codec::{Frame, Role, encode};
use crate::transport::websocket::pump::{self, Inbox, PumpEnd};

fn capabilities(version: &str) -> FromAgent {
    FromAgent::Capabilities(Capabilities {
        models: Vec::new(),
        limits: Limits { max_concurrent_total: 1, max_tokens_per_minute: None, max_message_bytes: None },
        metadata: Metadata { agent_version: version.to_owned() },
    })
}

fn heartbeat(queue_depth: u64) -> FromAgent {
    FromAgent::Heartbeat(Heartbeat { queue_depth, ..Heartbeat::default() })
}

#[actix_rt::test]
async fn of_capabilities_and_heartbeats_that_wait_only_the_newest_are_written() {
    let connection = Connection::new(1 << 20, Extensions::NONE);
    for round in 0..1000 {
        connection.outbox.control(&capabilities(&round.to_string())).unwrap();
        connection.outbox.control(&heartbeat(round)).unwrap();
    }
    let frames = connection.pumped().await;
    let text = |frame: &FromAgent| Frame::Text(serde_json::to_vec(frame).unwrap().into());
    assert_eq!(frames[..2], [text(&capabilities("999")), text(&heartbeat(999))]);
    assert_eq!(frames.len(), 3, "and the close");
}

/// Answers every text, at once or by way of the outbox.
struct Answering {
    outbox: Option<Outbox>,
    taken: usize,
}

impl Inbox for Answering {
    async fn text(&mut self, _: Bytes) -> Option<FromAgent> {
        self.taken += 1;
        let answer = failed(JobId::random());
        let Some(outbox) = &self.outbox else { return Some(answer) };
        outbox.control(&answer).unwrap();
        None
    }

    fn binary(&mut self, _: usize) {}
}

#[actix_rt::test]
async fn a_peer_that_takes_no_answers_is_not_read() {
    tokio::time::pause();
    for by_outbox in [false, true] {
        let Connection { outbox, line, reader, mut far, .. } = Connection::new(4096, Extensions::NONE);
        let mut inbox = Answering { outbox: by_outbox.then(|| outbox.clone()), taken: 0 };
        let mut frames = BytesMut::new();
        (0..10_000).for_each(|_| encode(&mut frames, Role::Server, &Frame::Text(Bytes::from_static(b"{}"))));
        let (end, sent) = futures_util::join!(pump::run(reader, &line, &outbox, &mut inbox), far.write_all(&frames));
        assert_eq!((end, sent.is_err()), (PumpEnd::Link(LinkEnd::WriteStalled), true));
        // Besides those that wait, a write holds some.
        assert!((1024..1400).contains(&inbox.taken), "{} of 10,000 were taken", inbox.taken);
    }
}
