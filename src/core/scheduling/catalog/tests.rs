//! The catalog, compared with a naive implementation of the order of preference, and its edge cases.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::messages::endpoint::Endpoint;
use crate::messages::prices::Price;

const CHAT: Endpoints = Endpoints::CHAT;

fn model(id: &str) -> ModelReport {
    ModelReport { id: id.into(), context_window: None, endpoints: CHAT, price: None }
}

/// A local backend of a kind with models.
fn seen(kind: BackendKind, models: &[&str]) -> Seen {
    let models = models.iter().map(|id| model(id)).collect();
    let report = BackendReport { kind, models, slots: None, active_requests: None, cloud_models: 0 };
    Seen { report, policy: BackendPolicy { local: true, ..BackendPolicy::default() } }
}

fn remote(mut seen: Seen) -> Seen {
    seen.policy.local = false;
    seen
}

fn price(input_per_1m: u64, output_per_1m: u64) -> Price {
    Price { input_per_1m, output_per_1m }
}

fn terms() -> Terms {
    Terms { prices: PriceList { default: price(500_000, 750_000), by_model: BTreeMap::new() }, max_concurrent: 8 }
}

fn build<const N: usize>(backends: [(&str, Seen); N]) -> Catalog {
    Catalog::build(&backends.map(|(id, seen)| (id.into(), seen)).into(), &terms())
}

fn server(catalog: &Catalog, model: &str) -> Option<String> {
    servers(catalog, model).into_iter().next()
}

fn servers(catalog: &Catalog, model: &str) -> Vec<String> {
    let routes = catalog.model(&model.into()).map(|model| model.routes.as_slice()).unwrap_or_default();
    routes.iter().map(|route| route.backend.to_string()).collect()
}

fn offers(catalog: &Catalog) -> impl Iterator<Item = &ModelOffer> {
    catalog.models().map(|model| &model.offer)
}

fn offer(catalog: &Catalog, model: &str) -> ModelOffer {
    catalog.model(&model.into()).unwrap().offer.clone()
}

#[test]
fn without_a_backend_nothing_is_offered() {
    let catalog = build([]);
    assert_eq!((catalog.is_empty(), catalog.models().count()), (true, 0));
    assert_eq!(catalog, Catalog::default());
    assert_eq!(catalog.model(&"m".into()), None);
}

#[test]
fn an_offer_contains_what_its_backend_reports() {
    let mut one = seen(BackendKind::Vllm, &["m"]);
    one.report.models[0].context_window = Some(4096);
    one.report.slots = Some(3);
    one.report.models[0].endpoints = CHAT.with(Endpoint::Messages);
    let offer = ModelOffer {
        model_id: "m".into(),
        input_per_1m: 500_000,
        output_per_1m: 750_000,
        max_concurrent: 3,
        backend: "vllm".into(),
        context_window: Some(4096),
        endpoints: Some(CHAT.with(Endpoint::Messages)),
    };
    let catalog = build([("gpu", one)]);
    assert_eq!(offers(&catalog).collect::<Vec<_>>(), [&offer]);
    let route = Route {
        backend: "gpu".into(),
        kind: BackendKind::Vllm,
        local: true,
        limit: 3,
        slots: Some(3),
        endpoints: CHAT.with(Endpoint::Messages),
        context_window: Some(4096),
        price: price(500_000, 750_000),
    };
    assert_eq!(catalog.backends().into_iter().collect::<Vec<_>>(), [(&"gpu".into(), &route)]);
    assert_eq!(catalog.models().map(|model| model.routes.as_slice()).collect::<Vec<_>>(), [[route]]);
}

#[test]
fn local_comes_before_remote_then_the_kind_then_the_name() {
    // The best first; each is removed in turn.
    let mut order = vec![
        ("z1", seen(BackendKind::Vllm, &["m"])),
        ("z2", seen(BackendKind::Vllm, &["m"])),
        ("y", seen(BackendKind::LlamaCpp, &["m"])),
        ("x", seen(BackendKind::LmStudio, &["m"])),
        ("w", seen(BackendKind::Ollama, &["m"])),
        ("v", seen(BackendKind::OpenAi, &["m"])),
        ("u", remote(seen(BackendKind::Venice, &["m"]))),
        ("t", remote(seen(BackendKind::OpenRouter, &["m"]))),
        ("a", remote(seen(BackendKind::OpenAi, &["m"]))),
        ("b", remote(seen(BackendKind::Vllm, &["m"]))),
    ];
    while !order.is_empty() {
        let all = order.iter().map(|(id, seen)| ((*id).into(), seen.clone())).collect();
        let catalog = Catalog::build(&all, &terms());
        assert_eq!(
            (servers(&catalog, "m"), catalog.models().count()),
            (order.iter().map(|(id, _)| (*id).to_owned()).collect(), 1)
        );
        order.remove(0);
    }
}

#[test]
fn a_model_is_offered_by_the_next_backend_that_may_serve_it() {
    let mut first = seen(BackendKind::Vllm, &["a", "b"]);
    first.policy.only = Some(["b".into(), "c".into()].into());
    let catalog = build([("first", first), ("second", seen(BackendKind::Ollama, &["a", "b"]))]);
    assert_eq!(server(&catalog, "a").as_deref(), Some("second"));
    assert_eq!(server(&catalog, "b").as_deref(), Some("first"));
    assert_eq!(server(&catalog, "c"), None, "allowed is not the same as served");
}

#[test]
fn the_limit_is_the_operators_else_the_servers_else_the_agents_within_one_and_the_agents() {
    for (own, slots, limit) in [
        (None, None, 8),
        (None, Some(4), 4),
        (None, Some(100), 8),
        (None, Some(0), 1),
        (Some(2), Some(4), 2),
        (Some(6), Some(4), 6),
        (Some(9), None, 8),
        (Some(0), None, 1),
    ] {
        let mut one = seen(BackendKind::Vllm, &["m"]);
        (one.policy.max_concurrent, one.report.slots) = (own, slots);
        let catalog = build([("gpu", one)]);
        let model = catalog.model(&"m".into()).unwrap();
        assert_eq!((model.routes[0].limit, model.offer.max_concurrent), (limit, limit), "{own:?} {slots:?}");
    }
}

#[test]
fn a_model_of_price_zero_is_not_offered_and_one_of_half_a_price_is() {
    let mut terms = terms();
    terms.prices.by_model = [("free".into(), price(0, 0)), ("half".into(), price(0, 7))].into();
    let mut one = seen(BackendKind::Vllm, &["free", "half"]);
    one.policy.markup = 1.0;
    let catalog = Catalog::build(&[("gpu".into(), one)].into(), &terms);
    let offers: Vec<_> = offers(&catalog).map(|o| (o.model_id.to_string(), o.input_per_1m, o.output_per_1m)).collect();
    assert_eq!(offers, [("half".to_owned(), 0, 14)]);
}

#[test]
fn an_id_that_no_job_could_name_is_not_offered() {
    let (longest, longer) = ("a".repeat(512), "ü".repeat(257));
    let catalog = build([("gpu", seen(BackendKind::Vllm, &["", &longest, &longer, "a\nb", "a\0", "\u{85}", "ü b:1"]))]);
    let ids: Vec<&str> = catalog.models().map(|model| model.offer.model_id.as_str()).collect();
    assert_eq!(ids, [longest.as_str(), "ü b:1"]);
}

#[test]
fn if_a_model_is_listed_twice_the_first_entry_counts() {
    let mut one = seen(BackendKind::Vllm, &["m", "a", "m"]);
    one.report.models[0].context_window = Some(1);
    one.report.models[2].context_window = Some(2);
    let catalog = build([("gpu", one)]);
    assert_eq!(catalog.models().count(), 2);
    assert_eq!((offer(&catalog, "m").context_window, servers(&catalog, "m").len()), (Some(1), 1));
}

#[test]
fn beyond_the_most_models_the_least_preferred_backend_loses_whatever_the_listed_order() {
    let ids: Vec<String> = (0..5000).map(|n| format!("m{n:04}")).collect();
    let mut many: Vec<&str> = ids.iter().map(String::as_str).collect();
    let few = || ("best", seen(BackendKind::Vllm, &["z1", "z2"]));
    let catalog = build([few(), ("many", seen(BackendKind::Ollama, &many))]);
    many.reverse();
    assert_eq!(catalog, build([few(), ("many", seen(BackendKind::Ollama, &many))]));
    assert_eq!(catalog.models().count(), 4096);
    assert_eq!(server(&catalog, "z2").as_deref(), Some("best"));
    assert_eq!(server(&catalog, "m4093").as_deref(), Some("many"));
    assert_eq!(server(&catalog, "m4094"), None);
    let last =
        build([few(), ("many", seen(BackendKind::Ollama, &many)), ("rest", seen(BackendKind::OpenAi, &["n", "z1"]))]);
    assert_eq!((server(&last, "n"), servers(&last, "z1").len()), (None, 2), "an offered model still gets its routes");
}

/// A backend with one model, its slots and its context.
fn with(kind: BackendKind, slots: u32, context: Option<u64>) -> Seen {
    let mut seen = seen(kind, &["m"]);
    seen.report.slots = Some(slots);
    seen.report.models[0].context_window = context;
    seen
}

#[test]
fn an_offer_counts_the_slots_of_every_route_up_to_the_agents() {
    let two = || ("a", with(BackendKind::Vllm, 2, None));
    assert_eq!(offer(&build([two(), ("b", with(BackendKind::Ollama, 4, None))]), "m").max_concurrent, 6);
    assert_eq!(offer(&build([two(), ("b", with(BackendKind::Ollama, 7, None))]), "m").max_concurrent, 8);
}

#[test]
fn an_offer_has_the_context_of_the_first_route_and_counts_the_routes_that_have_it() {
    for (first, second, promised, max_concurrent) in [
        (Some(4096), Some(4096), Some(4096), 3),
        (Some(4096), Some(8192), Some(4096), 3),
        (Some(4096), Some(4095), Some(4096), 1),
        (Some(4096), None, Some(4096), 1),
        (None, Some(4096), None, 3),
        (None, None, None, 3),
    ] {
        let catalog = build([("a", with(BackendKind::Vllm, 1, first)), ("b", with(BackendKind::Ollama, 2, second))]);
        let offer = offer(&catalog, "m");
        assert_eq!((offer.context_window, offer.max_concurrent), (promised, max_concurrent), "{first:?} {second:?}");
        assert_eq!(servers(&catalog, "m"), ["a", "b"], "who has less still takes what fits");
    }
}

#[test]
fn a_backend_with_a_higher_price_than_the_first_is_not_a_route() {
    for (dearer, used) in [(price(500_000, 750_000), true), (price(500_001, 1), false), (price(1, 750_001), false)] {
        let mut other = remote(seen(BackendKind::OpenAi, &["m"]));
        other.report.models[0].price = Some(dearer);
        let catalog = build([("a", seen(BackendKind::Vllm, &["m"])), ("b", other)]);
        assert_eq!(servers(&catalog, "m").len() == 2, used, "{dearer:?}");
        assert_eq!(offer(&catalog, "m").input_per_1m, 500_000);
    }
}

#[test]
fn the_endpoints_on_offer_are_those_of_any_route_and_messages_by_translation() {
    let mut embeds = seen(BackendKind::Ollama, &["m", "nothing"]);
    embeds.report.models[0].endpoints = Endpoints::NONE.with(Endpoint::Embeddings);
    embeds.report.models[1].endpoints = Endpoints::NONE;
    let catalog = build([("a", seen(BackendKind::Vllm, &["m"])), ("b", embeds)]);
    let all = CHAT.with(Endpoint::Messages).with(Endpoint::Embeddings);
    assert_eq!(offers(&catalog).map(|offer| offer.endpoints).collect::<Vec<_>>(), [Some(all)]);
    assert_eq!(server(&catalog, "nothing"), None);
}

#[test]
fn an_endpoint_is_offered_only_if_a_route_with_the_offered_context_has_it() {
    let mut small = with(BackendKind::Ollama, 1, Some(4095));
    small.report.models[0].endpoints = CHAT.with(Endpoint::Completions);
    let catalog = build([("a", with(BackendKind::Vllm, 1, Some(4096))), ("b", small)]);
    assert_eq!(
        offers(&catalog).map(|offer| offer.endpoints).collect::<Vec<_>>(),
        [Some(CHAT.with(Endpoint::Messages))]
    );
}

#[test]
fn the_current_offer_leaves_out_backends_that_take_no_job_now() {
    let catalog = build([
        ("a", with(BackendKind::Vllm, 4, Some(8192))),
        ("b", with(BackendKind::Ollama, 2, Some(4096))),
        ("c", with(BackendKind::OpenAi, 3, Some(4096))),
    ]);
    let model = catalog.model(&"m".into()).unwrap();
    let now = |usable: [u32; 3]| {
        let of = |id: &BackendId| usable[["a", "b", "c"].iter().position(|name| *id == (*name).into()).unwrap()];
        let offer = model.offer_now(of);
        offer.map(|offer| (offer.backend, offer.context_window, offer.max_concurrent))
    };
    assert_eq!(model.offer_now(|_| u32::MAX), Some(model.offer.clone()));
    assert_eq!(now([1, 2, 3]), Some(("vllm".into(), Some(8192), 1)));
    assert_eq!(now([0, 9, 2]), Some(("ollama".into(), Some(4096), 4)));
    assert_eq!(now([0, 0, 1]), Some(("openai".into(), Some(4096), 1)));
    assert_eq!(now([0, 0, 0]), None);
}

fn any_seen() -> impl Strategy<Value = Seen> {
    let id = prop_oneof![9 => "[a-f]", 1 => Just(String::new()), 1 => Just("a\r".to_owned())];
    let models = prop::collection::vec((id, prop::option::of(1u64..9)), 0..8);
    let only = prop::option::weighted(0.3, prop::collection::btree_set("[a-f]", 0..5));
    let kind = prop::sample::select(BackendKind::ALL.to_vec());
    let limits = (prop::option::of(0u32..20), prop::option::of(0u32..20));
    (kind, models, only, limits, any::<(bool, f64)>()).prop_map(|(kind, models, only, limits, rest)| {
        let models = models.into_iter().map(|(id, context_window)| ModelReport { context_window, ..model(&id) });
        let (local, markup) = rest;
        let only = only.map(|ids| ids.into_iter().map(ModelId::from).collect());
        Seen {
            report: BackendReport {
                kind,
                models: models.collect(),
                slots: limits.0,
                active_requests: None,
                cloud_models: 0,
            },
            policy: BackendPolicy { only, max_concurrent: limits.1, markup, local },
        }
    })
}

proptest! {
    #[test]
    fn every_offer_has_all_its_routes_in_order_and_every_servable_model_an_offer(
        backends in prop::collection::btree_map("[a-d]", any_seen(), 0..5),
        free in prop::collection::btree_set("[a-f]", 0..3),
        max_concurrent in 0u32..10,
    ) {
        let backends: BTreeMap<BackendId, Seen> = backends.into_iter().map(|(id, seen)| (id.into(), seen)).collect();
        let mut terms = Terms { max_concurrent, ..terms() };
        terms.prices.by_model = free.iter().map(|id| (id.as_str().into(), price(0, 0))).collect();
        let catalog = Catalog::build(&backends, &terms);

        let serves = |seen: &Seen, id: &ModelId| {
            seen.report.models.iter().any(|model| model.id == *id)
                && seen.policy.only.as_ref().is_none_or(|only| only.contains(id))
        };
        let mut offered = BTreeSet::new();
        for Model { routes, offer, .. } in catalog.models() {
            prop_assert!(offered.insert(offer.model_id.clone()), "{} twice", offer.model_id);
            let rank = |id: &BackendId| {
                let (local, kind) = (backends[id].policy.local, backends[id].report.kind);
                let named = |kinds: &[BackendKind]| kinds.iter().position(|other| *other == kind).unwrap_or(9);
                let place = if local {
                    use BackendKind::{LlamaCpp, LmStudio, Ollama, Vllm};
                    named(&[Vllm, LlamaCpp, LmStudio, Ollama])
                } else {
                    named(&[BackendKind::Venice, BackendKind::OpenRouter])
                };
                (!local, place, id.clone())
            };
            prop_assert!(routes.is_sorted_by(|a, b| rank(&a.backend) < rank(&b.backend)));
            prop_assert_eq!(&offer.backend, backends[&routes[0].backend].report.kind.as_str());
            prop_assert_eq!(offer.endpoints, Some(CHAT.with(Endpoint::Messages)));
            prop_assert!(offer.input_per_1m >= 500_000 && offer.output_per_1m >= 750_000);
            for route in routes {
                prop_assert!(serves(&backends[&route.backend], &offer.model_id));
                prop_assert!(route.limit >= 1 && route.limit <= max_concurrent.max(1));
                prop_assert!(route.price.input_per_1m <= offer.input_per_1m);
            }
            let counted = routes.iter().filter(|route| {
                offer.context_window.is_none_or(|asked| route.context_window.is_some_and(|window| window >= asked))
            });
            let sum: u32 = counted.map(|route| route.limit).sum();
            prop_assert_eq!(offer.max_concurrent, sum.min(max_concurrent.max(1)));
            // A backend that serves the model and is not a route has a higher price than the offer.
            for (id, other) in backends.iter().filter(|(_, other)| serves(other, &offer.model_id)) {
                prop_assert!(rank(&routes[0].backend) <= rank(id));
                let is_route = routes.iter().any(|route| route.backend == *id);
                let asks = Catalog::build(&[(id.clone(), other.clone())].into(), &terms);
                let asks = asks.models().find(|model| model.offer.model_id == offer.model_id).unwrap().offer.clone();
                prop_assert_eq!(
                    is_route,
                    asks.input_per_1m <= offer.input_per_1m && asks.output_per_1m <= offer.output_per_1m
                );
            }
        }
        prop_assert_eq!(offered.len(), catalog.models().count());
        for id in ["a", "b", "c", "d", "e", "f"] {
            let servable = !free.contains(id) && backends.values().any(|seen| serves(seen, &id.into()));
            prop_assert_eq!(offered.contains(&id.into()), servable, "{}", id);
        }
        prop_assert!(offered.iter().all(|id| id.as_str().len() == 1));
    }
}
