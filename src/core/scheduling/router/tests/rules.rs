//! Single rules of the router.

use super::super::*;
use super::server::{Known, Mood, Server};
use super::submission::{Fate, Request};
use super::world::{BUDGET, World, ms};
use crate::core::scheduling::backend_states::BreakerView;
use crate::core::scheduling::catalog::BackendPolicy;
use crate::messages::backend::BackendKind;
use crate::messages::discovery::{BackendReport, ModelReport};
use crate::messages::endpoint::{Endpoint, Endpoints};
use crate::messages::wire::{Extension, Extensions};

/// A server of the one model, with so many slots, which it does not report.
fn server(slots: u32) -> Server {
    let model = ModelReport { id: "m0".into(), context_window: None, endpoints: Endpoints::CHAT, price: None };
    Server {
        report: BackendReport {
            kind: BackendKind::OpenAi,
            models: vec![model],
            slots: None,
            active_requests: None,
            cloud_models: 0,
        },
        policy: BackendPolicy { local: true, max_concurrent: Some(slots), ..BackendPolicy::default() },
        slots,
        up: true,
        mood: Mood::Answers,
        foreign: 0,
        held: Vec::new(),
        left: None,
        known: Known::Exactly,
        reported: None,
    }
}

fn world<const N: usize>(moods: [Mood; N], budget: Option<u64>) -> World {
    World::new(moods.map(|mood| Server { mood, ..server(4) }).into(), budget)
}

fn id(n: u128) -> JobId {
    JobId::from(uuid::Uuid::from_u128(n))
}

impl World {
    /// Sends a job.
    fn job(&mut self, n: u128, request: &str) {
        self.submit(id(n), "m0", Endpoint::ChatCompletions, Request::new(request), ms(600_000));
    }

    /// Sends a job and runs until it has ended.
    fn whole_job(&mut self, n: u128) -> Fate {
        self.job(n, "{}");
        self.run_all();
        self.submissions.last().unwrap().fate
    }

    fn usable(&self, backend: &str) -> u32 {
        self.router.backends.usable(&backend.into(), self.now)
    }

    fn turns(&mut self, backend: &str, mood: Mood) {
        self.servers.get_mut(&BackendId::from(backend)).unwrap().mood = mood;
    }

    fn counted(&mut self) -> u128 {
        self.router.budget.as_mut().unwrap().counted(self.now)
    }
}

#[test]
fn a_job_whose_worker_is_lost_ends_at_its_deadline() {
    let mut world = world([Mood::Stalls], None);
    world.submit(id(1), "m0", Endpoint::ChatCompletions, Request::new("{}"), ms(5000));
    world.running.clear();
    world.wait(ms(4999));
    assert!(world.ending.is_empty());
    world.wait(ms(1));
    assert_eq!(world.ending.len(), 1);
    world.run_all();
    assert_eq!(world.router.ledger.in_flight(), 0);
}

#[test]
fn no_job_is_given_to_a_pool_that_is_lost() {
    let mut world = world([Mood::Crashes, Mood::Answers], None);
    world.job(1, "{}");
    world.lose_pool(&"b1".into());
    // It would have been retried there.
    world.run_all();
    assert_eq!((world.router.ledger.in_flight(), world.submissions[0].fate), (0, Fate::Ended));
    world.restore_pools();
    assert_eq!(world.whole_job(2), Fate::Ended);
}

#[test]
fn jobs_that_crash_every_backend_open_no_breaker() {
    let mut world = world([Mood::Crashes; 3], None);
    for n in 0..10 {
        world.whole_job(n);
    }
    assert_eq!(["b0", "b1", "b2"].map(|backend| world.usable(backend)), [4; 3]);
    world.job(11, "{}");
    let mut tried = Vec::new();
    while let Some(ticket) = world.running.keys().next().copied() {
        tried.extend(world.router.ledger.get(ticket).and_then(|entry| entry.backend.clone()));
        world.answer(ticket);
        world.write(ticket);
    }
    assert_eq!(tried.len(), 2, "what breaks two backends is not given to a third");
}

#[test]
fn a_backend_that_crashes_under_jobs_that_another_one_serves_has_its_breaker_opened() {
    for mood in [Mood::Crashes, Mood::Answers503] {
        let mut world = world([mood, Mood::Answers], None);
        for n in 0..3 {
            assert_eq!(world.usable("b0"), 4);
            assert_eq!(world.whole_job(n), Fate::Ended);
        }
        assert_eq!((world.usable("b0"), world.usable("b1")), (0, 4));
    }
}

#[test]
fn no_offer_counts_on_a_backend_whose_breaker_the_same_job_opens() {
    let mut world = world([Mood::Answers503, Mood::Answers], None);
    (0..2).for_each(|n| assert_eq!(world.whole_job(n), Fate::Ended));
    world.turns("b0", Mood::Answers429);
    world.turns("b1", Mood::TakesNoConnection);
    for n in 2..5 {
        world.whole_job(n);
    }
    world.wait(ms(8000));
    world.turns("b0", Mood::Answers503);
    world.turns("b1", Mood::Answers);
    assert_eq!((world.usable("b0"), world.usable("b1")), (4, 1));
    // Its trial at b1 closes that breaker, and is what opens the one of b0. Each offer is checked as it is made.
    let offers = world.announced.len();
    assert_eq!(world.whole_job(5), Fate::Ended);
    assert_eq!((world.usable("b0"), world.usable("b1")), (0, 4));
    assert_eq!(world.announced.len(), offers + 1);
}

#[test]
fn the_breaker_of_an_overloaded_or_only_backend_stays_closed() {
    for mood in [Mood::Crashes, Mood::Answers503, Mood::Answers429, Mood::Answers400, Mood::LacksModel, Mood::BreaksOff]
    {
        let mut world = world([mood], None);
        for n in 0..10 {
            world.whole_job(n);
        }
        assert_eq!(world.usable("b0"), 4, "{mood:?}");
    }
}

#[test]
fn a_model_that_one_backend_lacks_is_served_by_the_other() {
    let mut world = world([Mood::LacksModel, Mood::Answers], None);
    world.job(1, "{}");
    let ticket = *world.running.keys().next().unwrap();
    world.answer(ticket);
    let retried = world.router.ledger.get(ticket).and_then(|entry| entry.backend.clone());
    assert_eq!(retried, Some("b1".into()));
}

#[test]
fn jobs_longer_than_a_trial_close_the_breaker() {
    let mut world = world([Mood::TakesNoConnection], None);
    for n in 0..3 {
        world.whole_job(n);
    }
    assert_eq!(world.usable("b0"), 0);
    world.turns("b0", Mood::Stalls);
    world.wait(ms(4000));
    // Each job takes longer than the wait for the next trial.
    for n in 3..7 {
        world.job(n, "{}");
        world.wait(ms(35_000));
    }
    assert_eq!((world.running.len(), world.usable("b0")), (4, 1));
    world.turns("b0", Mood::Answers);
    let first = *world.running.keys().next().unwrap();
    world.answer(first);
    world.write(first);
    let view = world.router.backends.view(world.now).next().unwrap().1;
    assert_eq!((view.breaker, view.usable), (BreakerView::Closed, 4));
}

#[test]
fn a_job_without_a_token_limit_leaves_budget_to_other_jobs() {
    let mut world = world([Mood::Stalls], Some(BUDGET));
    world.job(1, r#"{"max_tokens":1000000000000}"#);
    assert_eq!(world.counted(), u128::from(BUDGET / 8));
    world.job(2, r#"{"max_tokens":1000000000000}"#);
    assert_eq!(world.router.ledger.in_flight(), 2);
}

#[test]
fn a_job_that_ends_early_before_its_answer_begins_used_at_most_its_prompt() {
    let request = format!(r#"{{"prompt":"{}","max_tokens":1000000000000}}"#, "x".repeat(398));
    for lost in [false, true] {
        let mut world = world([Mood::Stalls], Some(BUDGET));
        world.job(1, &request);
        if lost {
            world.disconnect()
        } else {
            world.cancel(id(1), ms(0))
        }
        assert_eq!(world.counted(), 100);
    }
}

#[test]
fn a_long_prompt_that_is_taken_away_before_it_has_begun_leaves_the_budget_to_others() {
    let request = format!(r#"{{"prompt":"{}","max_tokens":1}}"#, "x".repeat(4 * BUDGET as usize - 100));
    let mut world = world([Mood::Stalls], Some(BUDGET));
    world.job(1, &request);
    world.cancel(id(1), ms(0));
    assert_eq!(world.counted(), u128::from(BUDGET / 8));
}

#[test]
fn a_job_that_is_taken_away_later_used_its_prompt_and_what_was_streamed() {
    let request = format!(r#"{{"prompt":"{}","max_tokens":1000000000000}}"#, "x".repeat(398));
    let mut world = world([Mood::Answers], Some(BUDGET));
    world.job(1, &request);
    let ticket = *world.running.keys().next().unwrap();
    world.answer(ticket);
    world.cancel(id(1), ms(0));
    assert_eq!(world.counted(), 110, "640 bytes were streamed");
}

#[test]
fn a_job_in_the_wait_queue_is_in_flight_and_its_cancel_ends_it() {
    let mut slots = server(1);
    (slots.report.slots, slots.mood) = (Some(1), Mood::Stalls);
    let mut world = World::new(vec![slots], None);
    world.job(1, "{}");
    world.cancel(id(1), ms(3000));
    world.job(2, "{}");
    assert_eq!((world.router.ledger.in_flight(), world.running.len()), (1, 0));
    assert_eq!(world.router.heartbeat(world.now).queue_depth, 1);
    let view = serde_json::to_value(world.router.view(world.now)).unwrap();
    assert_eq!((&view["waiting"], &view["jobs"][0]["phase"]), (&1.into(), &"waiting".into()));
    world.cancel(id(2), ms(0));
    assert_eq!(world.submissions[1].fate, Fate::Ended);
}

#[test]
fn a_paused_agent_offers_nothing_and_finishes_what_it_has() {
    let mut world = world([Mood::Stalls], None);
    let offered = |world: &World| {
        let view = serde_json::to_value(world.router.view(world.now)).unwrap();
        (view["paused"].as_bool().unwrap(), view["connections"][0]["announced"].as_array().unwrap().len())
    };
    assert_eq!(offered(&world), (false, 1));
    world.job(1, "{}");
    world.wait(ms(5000));
    world.pause(true);
    assert_eq!(offered(&world), (true, 0));
    assert_eq!((world.submissions[0].fate, world.running.len()), (Fate::Open, 1));
    world.job(2, "{}");
    assert_eq!(world.submissions[1].fate, Fate::Refused);
    // A coordinator that connects now is offered nothing either.
    world.disconnect();
    world.connect();
    assert_eq!(offered(&world), (true, 0));
    world.wait(ms(5000));
    world.pause(false);
    assert_eq!(offered(&world), (false, 1));
}

#[test]
fn a_drain_is_announced_with_the_jobs_that_run_where_that_was_agreed_on() {
    let drain: Extensions = [Extension::Drain].into_iter().collect();
    for (agreed, announced) in [(drain, Some(1)), (Extensions::NONE, None)] {
        let mut world = world([Mood::Stalls], None);
        world.disconnect();
        world.connect_with(agreed);
        world.job(1, "{}");
        world.stop(false);
        assert_eq!(world.drain_announced, announced, "{agreed}");
        // It is asserted that it is not announced again.
        world.stop(false);
        world.stop(true);
        world.job(2, "{}");
        assert_eq!(world.submissions[1].fate, Fate::Refused);
    }
}

#[test]
fn an_agent_that_drains_announces_it_on_each_new_connection_after_its_capabilities() {
    let mut world = world([Mood::Answers], None);
    world.stop(false);
    assert_eq!(world.drain_announced, Some(0));
    world.disconnect();
    world.connect();
    assert_eq!((world.drain_announced, world.announced.len()), (Some(0), 1));
}

#[test]
fn capabilities_that_wait_for_probes_are_sent_before_a_drain_is_announced() {
    let limits = Limits { max_concurrent_total: 1, max_tokens_per_minute: None, max_message_bytes: None };
    #[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
    let now = Instant::now();
    let settings = RouterSettings { limits, settle_at: now + ms(250) };
    for agreed in [Extensions::all(), Extensions::NONE] {
        let mut router: Router<super::submission::Prompt> = Router::new(settings, RandomState::new());
        router.connection_up(now, Generation::numbered(1), agreed, None);
        router.stop_accepting(now);
        let effects: Vec<_> =
            std::iter::from_fn(|| router.next_effect()).filter(|effect| !matches!(effect, Effect::WakeAt(_))).collect();
        let is_right = match &effects[..] {
            [Effect::Announce { .. }, Effect::AnnounceDrain { in_flight: 0, .. }, Effect::StillRunning(0)] => {
                !agreed.is_empty()
            }
            [Effect::StillRunning(0)] => agreed.is_empty(),
            _ => false,
        };
        assert!(is_right, "{agreed}");
    }
}
