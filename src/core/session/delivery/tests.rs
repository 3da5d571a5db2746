use proptest::prelude::*;

use super::*;

#[test]
fn in_the_base_protocol_what_is_written_is_forgotten() {
    let mut delivery = Delivery::new(false);
    delivery.produce(10);
    assert_eq!((delivery.unwritten(), delivery.wrote(4), delivery.acknowledged()), (10, 4, 4));
    assert_eq!(delivery.acknowledge(3), 0);
    delivery.end();
    assert!(!delivery.terminal_is_due(), "bytes go first");
    assert_eq!(delivery.wrote(6), 6);
    assert!(delivery.terminal_is_due());
    delivery.wrote_terminal();
    assert!(!delivery.terminal_is_due() && !delivery.may_be_forgotten());
}

#[test]
fn with_resume_bytes_are_kept_until_they_are_acknowledged() {
    let mut delivery = Delivery::new(true);
    delivery.produce(10);
    assert_eq!(delivery.wrote(8), 0);
    assert_eq!(delivery.acknowledge(5), 5);
    for nonsense in [0, 4, 5, 9, 10, u64::MAX] {
        assert_eq!(delivery.acknowledge(nonsense), 0, "{nonsense}");
    }
    assert_eq!(delivery.acknowledge(8), 3);
}

#[test]
fn a_connection_goes_on_where_the_coordinator_wants_if_that_is_kept() {
    let mut delivery = Delivery::new(true);
    delivery.produce(10);
    delivery.wrote(10);
    delivery.acknowledge(4);
    delivery.end();
    delivery.wrote_terminal();
    assert!(delivery.may_be_forgotten());
    for wanted in [0, 3, 11, u64::MAX] {
        assert_eq!(delivery.resume(wanted), Err(NotKept), "{wanted}");
    }
    assert_eq!(delivery.resume(10), Ok(()));
    assert!(delivery.terminal_is_due(), "the terminal frame is sent again");
    assert_eq!(delivery.resume(4), Ok(()));
    assert!(!delivery.terminal_is_due() && delivery.unwritten() == 6 && delivery.may_be_forgotten());
}

#[test]
fn a_response_that_is_given_up_has_only_its_terminal_frame_left() {
    let mut delivery = Delivery::new(true);
    delivery.produce(10);
    delivery.wrote(2);
    delivery.give_up();
    assert!(delivery.unwritten() == 0 && !delivery.terminal_is_due(), "it goes on until it is ended");
    delivery.end();
    assert!(delivery.terminal_is_due() && !delivery.may_be_forgotten());
    delivery.wrote_terminal();
    delivery.give_up();
    assert!(delivery.terminal_is_due(), "another connection gets it");
    delivery.cancel();
    assert!(!delivery.terminal_is_due());
}

#[test]
fn chunks_that_came_before_are_skipped_and_a_gap_is_an_error() {
    let mut receipt = Receipt::default();
    assert_eq!(receipt.receive(0, 10), Ok(0));
    assert_eq!(receipt.receive(4, 10), Ok(6));
    assert_eq!(receipt.receive(0, 5), Ok(5));
    assert_eq!(receipt.receive(14, 0), Ok(0));
    assert_eq!(receipt.receive(15, 1), Err(Gap));
    assert_eq!(receipt.receive(u64::MAX, u64::MAX), Err(Gap));
    assert_eq!(receipt.received(), 14);
    receipt.take(9);
    assert_eq!((receipt.acknowledge(), receipt.acknowledge(), receipt.unacknowledged()), (Some(9), None, 5));
    assert_eq!((receipt.acknowledge_again(), receipt.acknowledge()), (Some(9), None));
    assert_eq!(Receipt::default().acknowledge_again(), None);
}

/// What can happen to a response between both ends.
#[derive(Clone, Copy, Debug)]
enum Step {
    Produce(u64),
    Write(u64),
    Take(u64),
    Acknowledge,
    Cut,
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_u64..20).prop_map(Step::Produce),
        (0_u64..20).prop_map(Step::Write),
        (0_u64..20).prop_map(Step::Take),
        Just(Step::Acknowledge),
        Just(Step::Cut),
        Just(Step::End),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever is cut, the client gets every byte once and in order, and the end behind them.
    #[test]
    fn every_byte_arrives_once_whatever_is_cut(steps in steps()) {
        let (mut delivery, mut receipt) = (Delivery::new(true), Receipt::default());
        // The bytes that the client got: their offsets are their values.
        let (mut got, mut taken) = (0, 0);
        let mut write = |delivery: &mut Delivery, receipt: &mut Receipt, most: u64| {
            let (offset, bytes) = (delivery.written(), delivery.unwritten().min(most));
            delivery.wrote(bytes);
            let before = receipt.receive(offset, bytes).unwrap();
            assert_eq!(offset + before, if bytes > before { got } else { offset + before });
            got += bytes - before;
        };
        for step in steps {
            match step {
                Step::Produce(bytes) if delivery.terminal == Terminal::None => delivery.produce(bytes),
                Step::Produce(_) => {}
                Step::Write(bytes) => write(&mut delivery, &mut receipt, bytes),
                Step::Take(bytes) => {
                    let bytes = bytes.min(receipt.received() - taken);
                    receipt.take(bytes);
                    taken += bytes;
                }
                Step::Acknowledge => {
                    if let Some(offset) = receipt.acknowledge() {
                        prop_assert!(delivery.acknowledge(offset) > 0);
                    }
                }
                // Bytes on their way are lost: the agent has written more than was received.
                Step::Cut => {
                    delivery.wrote(delivery.unwritten() / 2);
                    delivery.resume(receipt.received()).unwrap();
                }
                Step::End => delivery.end(),
            }
        }
        delivery.end();
        write(&mut delivery, &mut receipt, u64::MAX);
        prop_assert!(delivery.terminal_is_due());
        delivery.wrote_terminal();
        prop_assert!(delivery.may_be_forgotten());
        prop_assert_eq!(receipt.received(), delivery.produced());
    }
}
