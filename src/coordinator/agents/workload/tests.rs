use super::*;
use crate::coordinator::fleet::response_channel::{ResponsePart, ResponseReceiver, response_channel};
use crate::messages::wire::Tokens;

const MOST: usize = 1000;

fn active() -> (Workload, ResponseReceiver, JobId) {
    let mut workload = Workload::default();
    let (job, receiver) = begin(&mut workload);
    (workload, receiver, job)
}

fn begin(workload: &mut Workload) -> (JobId, ResponseReceiver) {
    let (job, (sender, receiver)) = (JobId::random(), response_channel(MOST));
    workload.begin(job, sender);
    (job, receiver)
}

fn chunk(job: JobId, data: &str, status: Option<u16>) -> JobChunk {
    let content_type = status.map(|_| "application/json".to_owned());
    JobChunk { status, content_type, ..JobChunk::new(job, STANDARD.encode(data)) }
}

fn binary(job: JobId, offset: u64, bytes: &'static str) -> BinaryChunk {
    BinaryChunk { job: job.uuid(), offset, bytes: Bytes::from_static(bytes.as_bytes()) }
}

fn without_resume() -> Extensions {
    [Extension::Binary, Extension::Endpoints].into_iter().collect()
}

fn unreadable(job: JobId) -> Result<(), ChunkError> {
    Err(ChunkError::GiveUp(job, ResponseEnd::Unreadable))
}

fn kept(job: JobId) -> KeptJob {
    KeptJob { job_id: job, offset: 100, ended: false }
}

/// The bytes of a response that has been received, and no end.
async fn text(receiver: &mut ResponseReceiver, workload: Workload) -> String {
    drop(workload);
    let mut text = String::new();
    while let ResponsePart::Chunk(chunk) = receiver.next().await {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    text
}

#[actix_rt::test]
async fn a_head_is_read_from_the_first_chunk_if_it_was_agreed_on() {
    let head = ResponseHead::new(404, "application/json");
    for (agreed, heads) in [(without_resume(), vec![ResponsePart::Head(head)]), (Extensions::NONE, vec![])] {
        let (mut workload, mut receiver, job) = active();
        workload.take(&chunk(job, "a", Some(404)), agreed).unwrap();
        workload.take(&chunk(job, "b", Some(500)), agreed).unwrap();
        workload.end(job).unwrap().finish(ResponseEnd::Done(Tokens::default()));
        let mut seen = heads;
        seen.extend(["a", "b"].map(|text| ResponsePart::Chunk(text.into())));
        seen.push(ResponsePart::End(ResponseEnd::Done(Tokens::default())));
        for want in seen {
            assert_eq!(receiver.next().await, want);
        }
    }
}

#[test]
fn offsets_count_the_bytes_of_json_and_binary_chunks() {
    let (mut workload, _receiver, job) = active();
    let agreed = without_resume();
    workload.take(&chunk(job, "abc", Some(200)), agreed).unwrap();
    let wrong = Err(ChunkError::Violation("chunk at a wrong offset"));
    assert_eq!(workload.take_binary(&binary(job, 0, "xy"), agreed), wrong);
    assert_eq!(workload.take_binary(&binary(job, 3, "xy"), agreed), Ok(()));
    assert_eq!(workload.take_binary(&binary(job, 5, "xy"), agreed), Ok(()));
}

#[actix_rt::test]
async fn with_resume_only_the_new_bytes_of_a_chunk_are_passed_on() {
    let (mut workload, mut receiver, job) = active();
    let at = |offset, data, status| JobChunk { offset: Some(offset), ..chunk(job, data, status) };
    workload.take(&at(0, "", Some(200)), Extensions::all()).unwrap();
    assert_eq!(receiver.next().await, ResponsePart::Head(ResponseHead::new(200, "application/json")));
    for (offset, data) in [(0, "ab"), (0, "ab"), (1, "bcd"), (4, "ef")] {
        workload.take(&at(offset, data, Some(500)), Extensions::all()).unwrap();
    }
    for (offset, data) in [(2, "cd"), (3, "defg"), (7, "h")] {
        workload.take_binary(&binary(job, offset, data), Extensions::all()).unwrap();
    }
    assert_eq!(text(&mut receiver, workload).await, "abcdefgh");
}

#[test]
fn with_resume_a_gap_or_a_later_chunk_without_an_offset_ends_the_job() {
    let (mut workload, _receiver, job) = active();
    let first = chunk(job, "abc", None);
    assert_eq!(workload.take(&first, Extensions::all()), Ok(()));
    assert_eq!(workload.take(&first, Extensions::all()), unreadable(job));
    let gap = JobChunk { offset: Some(4), ..first };
    assert_eq!(workload.take(&gap, Extensions::all()), unreadable(job));
    assert_eq!(workload.take_binary(&binary(job, u64::MAX, "x"), Extensions::all()), unreadable(job));
}

#[test]
fn an_unreadable_chunk_or_a_full_relay_ends_the_job_and_a_chunk_of_an_unknown_job_is_ignored() {
    let (mut workload, _receiver, job) = active();
    let garbled = JobChunk::new(job, "not base64".into());
    assert_eq!(workload.take(&garbled, Extensions::NONE), unreadable(job));
    let long = chunk(job, &"x".repeat(900), None);
    assert_eq!(workload.take(&long, Extensions::NONE), Ok(()));
    let full = Err(ChunkError::GiveUp(job, ResponseEnd::SlowClient));
    assert_eq!(workload.take(&long, Extensions::NONE), full);
    assert!(workload.forget(job) && !workload.forget(job) && workload.len() == 0);
    assert_eq!(workload.take(&garbled, Extensions::NONE), Ok(()));
}

#[actix_rt::test]
async fn what_the_client_took_over_is_acknowledged_once_and_again_on_a_new_connection() {
    let (mut workload, mut receiver, job) = active();
    let (other, _receiver) = begin(&mut workload);
    for (job, offset, data) in [(job, 0, "abc"), (job, 3, "de"), (other, 0, "x")] {
        workload.take_binary(&binary(job, offset, data), Extensions::all()).unwrap();
    }
    receiver.next().await;
    assert_eq!((workload.acknowledge(job), workload.acknowledge_all()), (None, vec![]));
    receiver.next().await;
    assert_eq!((workload.acknowledge(job), workload.acknowledge(job)), (Some(3), None));
    assert_eq!((workload.acknowledge_again(), workload.has_unacknowledged()), (vec![(job, 3)], true));
    let _ = futures_util::poll!(std::pin::pin!(receiver.next()));
    assert_eq!(workload.acknowledge_all(), [(job, 5)]);
    workload.forget(other);
    assert!(!workload.has_unacknowledged());
}

#[actix_rt::test]
async fn an_agent_that_returns_goes_on_with_the_jobs_that_both_ends_have() {
    let (mut workload, mut kept_on, job) = active();
    workload.take_binary(&binary(job, 0, "abc"), Extensions::all()).unwrap();
    let (never_received, mut not_sent) = begin(&mut workload);
    let (cut, mut lost) = begin(&mut workload);
    workload.take_binary(&binary(cut, 0, "x"), Extensions::all()).unwrap();
    let (abandoned, receiver) = begin(&mut workload);
    drop(receiver);
    workload.wait_for_agent();
    let (wanted, missing) = workload.resume(&[kept(JobId::random()), kept(abandoned), kept(job), kept(job)]);
    assert_eq!(wanted, [WantedJob { job_id: job, offset: 3 }]);
    let ids: HashSet<JobId> = missing.iter().map(|missing| missing.job).collect();
    assert_eq!(ids, HashSet::from([never_received, cut]));
    missing.into_iter().for_each(MissingJob::finish);
    assert_eq!(not_sent.next().await, ResponsePart::End(ResponseEnd::NotSent));
    assert_eq!(lost.next().await, ResponsePart::Chunk("x".into()));
    assert_eq!(lost.next().await, ResponsePart::End(ResponseEnd::AgentLost));
    assert_eq!(text(&mut kept_on, workload).await, "abc");
}
