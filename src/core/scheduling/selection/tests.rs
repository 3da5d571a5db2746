//! Choices by rule, and compared with a naive implementation of the order.

use proptest::prelude::*;

use super::*;
use crate::messages::backend::BackendKind;
use crate::messages::endpoint::Endpoints;
use crate::messages::prices::Price;

const IDLE: Standing = Standing { admits: true, free: 4, load: 0, jobs: 0 };
const FULL: Standing = Standing { admits: true, free: 0, load: 1000, jobs: 4 };
const BROKEN: Standing = Standing { admits: false, free: 4, load: 0, jobs: 0 };

fn route(name: &str, kind: BackendKind) -> Route {
    Route {
        backend: name.into(),
        kind,
        local: true,
        limit: 4,
        slots: None,
        endpoints: Endpoints::CHAT,
        context_window: Some(4096),
        price: Price { input_per_1m: 1, output_per_1m: 1 },
    }
}

fn demand() -> Demand<'static> {
    Demand { endpoint: Endpoint::ChatCompletions, context: 100, sticky: None, tried: &[] }
}

/// The chosen backend, if the backends of the routes have these states, in the order of routes.
fn chosen(routes: &[Route], demand: &Demand<'_>, standings: &[Option<Standing>]) -> Result<String, Unrouted> {
    let standing = |id: &BackendId| standings[routes.iter().position(|route| route.backend == *id).unwrap()];
    choose(routes, demand, standing).map(|choice| choice.route.backend.to_string())
}

fn equals() -> Vec<Route> {
    ["a", "b", "c"].map(|name| route(name, BackendKind::Vllm)).into()
}

#[test]
fn the_least_loaded_of_equals_then_the_one_with_fewest_jobs_then_the_first_by_name() {
    let at = |load, jobs| Some(Standing { load, jobs, ..IDLE });
    for (standings, name) in [
        ([at(500, 1), at(250, 2), at(251, 0)], "b"),
        ([at(500, 2), at(500, 2), at(500, 1)], "c"),
        ([at(500, 2), at(500, 1), at(500, 1)], "b"),
        ([at(0, 0), at(0, 0), at(0, 0)], "a"),
    ] {
        assert_eq!(chosen(&equals(), &demand(), &standings).as_deref(), Ok(name));
    }
}

#[test]
fn a_lower_rank_gets_a_job_only_when_the_higher_has_no_room() {
    let routes = [route("a", BackendKind::Vllm), route("b", BackendKind::Ollama)];
    let nearly = Standing { free: 1, load: 999, jobs: 999, ..IDLE };
    assert_eq!(chosen(&routes, &demand(), &[Some(nearly), Some(IDLE)]).as_deref(), Ok("a"));
    for full in [Some(FULL), Some(BROKEN), None] {
        assert_eq!(chosen(&routes, &demand(), &[full, Some(IDLE)]).as_deref(), Ok("b"));
    }
    let sticky = "b".into();
    let demand = Demand { sticky: Some(&sticky), ..demand() };
    assert_eq!(chosen(&routes, &demand, &[Some(nearly), Some(IDLE)]).as_deref(), Ok("a"), "warm, and not an equal");
}

#[test]
fn a_conversation_stays_on_its_backend_unless_that_is_full_or_much_more_loaded() {
    let sticky = "c".into();
    let demand = Demand { sticky: Some(&sticky), ..demand() };
    let at = |load| Some(Standing { load, ..IDLE });
    let go = |c| chosen(&equals(), &demand, &[at(250), at(300), c]).unwrap();
    assert_eq!(go(at(750)), "c");
    assert_eq!(go(at(751)), "a");
    assert_eq!(go(Some(FULL)), "a");
    assert_eq!(go(Some(BROKEN)), "a");
    let gone = "z".into();
    assert_eq!(
        chosen(&equals(), &Demand { sticky: Some(&gone), ..demand }, &[at(2), at(1), at(3)]).as_deref(),
        Ok("b")
    );
}

#[test]
fn a_native_path_comes_before_an_equal_that_translates_but_not_before_a_better_rank() {
    let messages = Demand { endpoint: Endpoint::Messages, ..demand() };
    let native = |name, kind| Route { endpoints: Endpoints::NONE.with(Endpoint::Messages), ..route(name, kind) };
    let busy = Some(Standing { load: 900, free: 1, ..IDLE });
    let equal = [route("a", BackendKind::Vllm), native("b", BackendKind::Vllm)];
    assert_eq!(chosen(&equal, &messages, &[Some(IDLE), busy]).as_deref(), Ok("b"));
    assert_eq!(chosen(&equal, &messages, &[Some(IDLE), Some(FULL)]).as_deref(), Ok("a"));
    let worse = [route("a", BackendKind::Vllm), native("b", BackendKind::Ollama)];
    let choice = choose(&worse, &messages, |_| Some(IDLE)).unwrap();
    assert_eq!((choice.route, choice.service), (&worse[0], Service::Translated));
}

#[test]
fn a_route_with_too_little_context_is_skipped_while_another_has_enough_even_a_full_one() {
    let window = |name, context_window| Route { context_window, ..route(name, BackendKind::Vllm) };
    let routes = [window("a", Some(2048)), window("b", Some(8192)), window("c", Some(4096))];
    let go = |context, b| chosen(&routes, &Demand { context, ..demand() }, &[Some(IDLE), Some(b), Some(IDLE)]);
    assert_eq!(go(2048, IDLE).as_deref(), Ok("a"));
    assert_eq!(go(2049, IDLE).as_deref(), Ok("b"));
    assert_eq!(go(4096, FULL).as_deref(), Ok("c"));
    assert_eq!(go(4097, FULL), Err(Unrouted::AllFull));
    assert_eq!(go(u64::MAX, IDLE).as_deref(), Ok("b"), "too long for all: the largest says so itself");
    let unknown = [window("a", Some(2048)), window("b", None)];
    let long = Demand { context: 9999, ..demand() };
    assert_eq!(chosen(&unknown, &long, &[Some(IDLE), Some(IDLE)]).as_deref(), Ok("b"));
}

#[test]
fn the_reported_reason_is_the_one_most_likely_to_pass() {
    let all = ["a".into(), "b".into(), "c".into()];
    for (tried, standings, why) in [
        (&all[..], [Some(IDLE); 3], Unrouted::AllTried),
        (&all[..2], [Some(IDLE), Some(IDLE), None], Unrouted::NoneReady),
        (&all[..1], [Some(IDLE), None, Some(BROKEN)], Unrouted::AllBroken),
        (&all[..0], [None, Some(FULL), Some(BROKEN)], Unrouted::AllFull),
        (&all[..1], [Some(FULL), Some(BROKEN), Some(BROKEN)], Unrouted::AllBroken),
    ] {
        assert_eq!(chosen(&equals(), &Demand { tried, ..demand() }, &standings), Err(why));
    }
    let embeddings = Demand { endpoint: Endpoint::Embeddings, ..demand() };
    assert_eq!(chosen(&equals(), &embeddings, &[Some(IDLE); 3]), Err(Unrouted::NoneServes));
    assert_eq!(chosen(&[], &demand(), &[]), Err(Unrouted::NoneServes));
}

fn any_route(name: String) -> impl Strategy<Value = (Route, Option<Standing>)> {
    let kind = prop::sample::select(vec![BackendKind::Vllm, BackendKind::Ollama]);
    let endpoints = prop::collection::vec(prop::sample::select(Endpoint::ALL.to_vec()), 1..4);
    let standing = (any::<bool>(), 0u32..3, 0u32..1200, 0u32..5).prop_map(|(admits, free, load, jobs)| Standing {
        admits,
        free,
        load,
        jobs,
    });
    (kind, any::<bool>(), endpoints, prop::option::of(1u64..5), prop::option::weighted(0.9, standing)).prop_map(
        move |(kind, local, endpoints, context_window, standing)| {
            let endpoints = endpoints.into_iter().collect();
            (Route { local, endpoints, context_window, ..route(&name, kind) }, standing)
        },
    )
}

proptest! {
    #[test]
    fn a_choice_can_take_the_job_and_no_better_rank_could(
        backends in (0usize..6).prop_flat_map(|n| (0..n).map(|i| any_route(format!("b{i}"))).collect::<Vec<_>>()),
        endpoint in prop::sample::select(Endpoint::ALL.to_vec()),
        context in 0u64..6,
        sticky in 0usize..6,
        tried in prop::collection::vec(0usize..6, 0..3),
    ) {
        let (routes, standings): (Vec<Route>, Vec<Option<Standing>>) = backends.into_iter().unzip();
        let sticky = BackendId::from(format!("b{sticky}"));
        let tried: Vec<BackendId> = tried.into_iter().map(|n| format!("b{n}").into()).collect();
        let demand = Demand { endpoint, context, sticky: Some(&sticky), tried: &tried };
        let of = |id: &BackendId| standings[routes.iter().position(|route| route.backend == *id).unwrap()];

        let serving: Vec<&Route> = routes.iter().filter(|route| route.serves(endpoint).is_some()).collect();
        let fits = |route: &&&Route| route.context_window.is_none_or(|window| window >= context);
        let usable = |route: &&&Route| {
            !tried.contains(&route.backend) && of(&route.backend).is_some_and(|now| now.admits && now.free > 0)
        };
        let some_fit = serving.iter().any(|route| fits(&route));
        let good: Vec<&&Route> = serving.iter().filter(|route| !some_fit || fits(route)).filter(usable).collect();

        let choice = choose(&routes, &demand, of);
        prop_assert_eq!(choice, choose(&routes, &demand, of));
        match choice {
            Ok(Choice { route, service }) => {
                prop_assert!(good.iter().any(|other| **other == route), "{:?}", route);
                prop_assert_eq!(route.serves(endpoint), Some(service));
                prop_assert!(good.iter().all(|other| route.rank() <= other.rank() || !some_fit));
            }
            Err(why) => {
                prop_assert_eq!(why == Unrouted::NoneServes, serving.is_empty());
                prop_assert!(good.is_empty() || !some_fit);
            }
        }
    }
}
