//! The rules of routing together, in virtual time: servers that come and go, slow down, fill up, fail and flap, and a
//! router that is nothing but the rules. What it offers can be served, no backend gets more than it has room for, every
//! job ends once, and what was lost comes back.

mod world;

use std::collections::HashMap;

use outpost::core::scheduling::catalog::{BackendPolicy, Model};
use outpost::core::scheduling::selection::{Demand, Standing, choose};
use outpost::messages::backend::BackendKind;
use outpost::messages::discovery::{BackendReport, ModelReport};
use outpost::messages::endpoint::{Endpoint, Endpoints};
use outpost::messages::ids::BackendId;
use outpost::messages::prices::Price;
use proptest::prelude::*;
use proptest::sample::Index;
use world::{AGENT, Known, MODELS, Mood, Server, Step, World};

/// An offer is taken at its word by an agent without jobs: every endpoint has a route, and so many jobs of all the context
/// have a slot at the same time, for whatever is served everywhere.
fn can_be_served(
    model: &Model,
    max_concurrent: u32,
    context: Option<u64>,
    endpoints: Endpoints,
    usable: impl Fn(&BackendId) -> u32,
) {
    assert!((1..=AGENT).contains(&max_concurrent) && !endpoints.is_empty());
    let context = context.unwrap_or(0);
    for endpoint in endpoints.iter() {
        let everywhere = model.routes.iter().all(|route| route.serves(endpoint).is_some());
        let mut jobs: HashMap<BackendId, u32> = HashMap::new();
        for _ in 0..if everywhere { max_concurrent } else { 1 } {
            let demand = Demand { endpoint, context, sticky: None, tried: &[] };
            let choice = choose(&model.routes, &demand, |id| {
                let jobs = jobs.get(id).copied().unwrap_or(0);
                let limit = model.routes.iter().find(|route| route.backend == *id)?.limit.min(usable(id));
                Some(Standing { admits: limit > 0, free: limit - jobs.min(limit), load: jobs, jobs })
            });
            let route = choice.unwrap_or_else(|why| panic!("an offer of {max_concurrent} at {endpoint}: {why}")).route;
            *jobs.entry(route.backend.clone()).or_default() += 1;
        }
    }
}

fn server() -> impl Strategy<Value = Server> {
    let kind = prop::sample::select(vec![BackendKind::Vllm, BackendKind::LlamaCpp, BackendKind::OpenAi]);
    let endpoints = prop::collection::vec(prop::sample::select(Endpoint::ALL.to_vec()), 0..3);
    let context = prop::option::of(prop::sample::select(vec![1000u64, 2000]));
    let model = (prop::sample::select(MODELS.to_vec()), endpoints, context, prop::option::of(5u64..15));
    let model = model.prop_map(|(id, endpoints, context_window, price)| ModelReport {
        id: id.into(),
        context_window,
        endpoints: endpoints.into_iter().collect::<Endpoints>().union(Endpoints::CHAT),
        price: price.map(|price| Price { input_per_1m: price, output_per_1m: price }),
    });
    let models = prop::collection::vec(model, 1..4);
    (kind, models, 1u32..5, any::<[bool; 2]>(), prop::option::weighted(0.3, 1u32..6)).prop_map(
        |(kind, models, slots, [local, tells], max_concurrent)| Server {
            report: BackendReport { kind, models, slots: tells.then_some(slots), busy: None, cloud_models: 0 },
            // Of a server that says nothing the operator has to know the slots.
            policy: BackendPolicy { local, max_concurrent: max_concurrent.or(Some(slots)), ..BackendPolicy::default() },
            slots,
            up: true,
            mood: Mood::Answers,
            foreign: 0,
            held: Vec::new(),
            left: None,
            known: Known::Exactly,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    let mood = prop::sample::select(vec![Mood::Answers, Mood::Stalls, Mood::Answers5xx, Mood::Answers4xx]);
    prop_oneof![
        4 => prop_oneof![0u64..300, 0u64..5000].prop_map(Step::Wait),
        2 => (index(), any::<bool>()).prop_map(|(which, up)| Step::Up(which, up)),
        2 => (index(), mood).prop_map(|(which, mood)| Step::Turns(which, mood)),
        1 => (index(), 0u32..5).prop_map(|(which, foreign)| Step::Foreign(which, foreign)),
        4 => index().prop_map(Step::Look),
        10 => (index(), index(), 0u64..2500)
            .prop_map(|(model, endpoint, context)| Step::Submit { model, endpoint, context }),
        8 => index().prop_map(Step::Goes),
        3 => (index(), 0u64..7000).prop_map(|(job, holds)| Step::Cancel { job, holds }),
        1 => Just(Step::ConnectionLost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_servers_do_offers_can_be_served_slots_suffice_and_every_job_ends_once(
        servers in prop::collection::vec(server(), 1..5), steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(servers);
        let ids: Vec<BackendId> = world.servers.keys().cloned().collect();
        ids.iter().for_each(|id| world.look(id));
        for step in steps {
            world.take(step);
            world.check();
        }

        // All is well again: what still runs ends, and every offer is kept.
        for server in world.servers.values_mut() {
            (server.up, server.mood, server.foreign) = (true, Mood::Answers, 0);
        }
        world.jobs().into_iter().for_each(|ticket| world.goes(ticket));
        world.wait(40_000);
        ids.iter().for_each(|id| world.look(id));
        let offers: Vec<_> = world.catalog.offers().map(|offer| (offer.model_id.clone(), offer.endpoints.unwrap())).collect();
        for (model, endpoints) in offers {
            for endpoint in endpoints.iter() {
                let ticket = world.submit(&model, endpoint, 0);
                prop_assert!(ticket.is_ok(), "{:?} of {} at {}", ticket, model, endpoint);
                world.goes(ticket.unwrap());
            }
        }
        prop_assert_eq!(world.ledger.in_flight(), 0);
        prop_assert!(world.ends.iter().all(|ends| *ends == 1));
    }
}
