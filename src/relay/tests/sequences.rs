//! Whatever happens to jobs, in any order.

use proptest::prelude::*;

use super::connection::{Connection, chunk, end, hold, terminal};
use crate::messages::ids::JobId;
use crate::messages::wire::Extensions;
use crate::relay::job_stream::JobHandle;

/// What may happen to a job.
#[derive(Clone, Debug)]
enum Step {
    Hold(usize, Vec<u8>),
    Send(usize, Vec<u8>),
    End(usize),
    Cancel(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![
        3 => (any::<u8>(), 0..300_usize).prop_map(|(first, len)| (0..len).map(|at| first.wrapping_add(at as u8)).collect()),
        1 => (1..4_usize).prop_map(|n| vec![7; n * 10_000]),
    ];
    let step = prop_oneof![
        3 => (0..4_usize, bytes.clone()).prop_map(|(job, bytes)| Step::Hold(job, bytes)),
        6 => (0..4_usize, bytes).prop_map(|(job, bytes)| Step::Send(job, bytes)),
        1 => (0..4_usize).prop_map(Step::End),
        1 => (0..4_usize).prop_map(Step::Cancel),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// STREAM-1 to STREAM-3, however bytes, ends and cancels come, on an idle line and on one that is full.
    #[test]
    fn whatever_happens_each_byte_is_sent_once_in_order_and_one_terminal_frame_behind_them(
        steps in steps(), capacity in prop_oneof![Just(500_usize), Just(8000), Just(1 << 22)], binary in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async move {
            let connection = Connection::new(capacity, if binary { Extensions::without_resume() } else { Extensions::NONE });
            let opened = (0..4).map(|_| connection.outbox.open(JobId::random()));
            let (handles, streams): (Vec<_>, Vec<_>) = opened.unzip();
            let mut handles: Vec<Option<JobHandle>> = handles.into_iter().map(Some).collect();
            let mut produced = vec![Vec::new(); 4];
            let mut ended = [false; 4];
            for step in steps {
                match step {
                    Step::Hold(job, bytes) | Step::Send(job, bytes) if ended[job] || handles[job].is_none() => {
                        assert_eq!(hold(&streams[job], &bytes), bytes.len(), "bytes that are dropped have room");
                    }
                    Step::Hold(job, bytes) => {
                        let held = hold(&streams[job], &bytes);
                        produced[job].extend_from_slice(&bytes[..held]);
                    }
                    Step::Send(job, bytes) => {
                        let held = hold(&streams[job], &bytes);
                        produced[job].extend_from_slice(&bytes[..held]);
                        streams[job].flush();
                    }
                    Step::End(job) => {
                        assert_eq!(end(&streams[job]), !ended[job] && handles[job].is_some());
                        ended[job] |= handles[job].is_some();
                    }
                    Step::Cancel(job) => drop(handles[job].take()),
                }
            }
            // What is open ends now; what was cancelled sends nothing more.
            let cancelled: Vec<bool> = handles.iter().map(Option::is_none).collect();
            for job in 0..4 {
                if !cancelled[job] && !ended[job] {
                    assert!(end(&streams[job]));
                }
            }
            let frames = connection.pumped().await;
            for job in 0..4 {
                let id = streams[job].job();
                let of_job = frames.iter().filter_map(chunk).filter(|(of, _)| *of == id);
                let bytes: Vec<u8> = of_job.flat_map(|(_, bytes)| bytes).collect();
                let terminals: Vec<u64> =
                    frames.iter().filter_map(terminal).filter(|(of, _)| *of == id).map(|(_, count)| count).collect();
                if cancelled[job] {
                    assert!(produced[job].starts_with(&bytes) && terminals.len() <= 1);
                } else {
                    assert!(bytes == produced[job], "{} bytes of {}", bytes.len(), produced[job].len());
                    assert_eq!(terminals, [bytes.len() as u64]);
                    let last = frames.iter().rposition(|frame| chunk(frame).is_some_and(|(of, _)| of == id));
                    let end = frames.iter().position(|frame| terminal(frame).is_some_and(|(of, _)| of == id));
                    assert!(last < end, "a byte behind the terminal frame");
                }
            }
        });
    }
}
