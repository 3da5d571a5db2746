//! The catalog against a naive reading of the order of preference, and its edges by name.

use proptest::prelude::*;

use super::*;
use crate::messages::endpoint::Endpoint;

const CHAT: Endpoints = Endpoints::CHAT;

fn model(id: &str) -> ModelReport {
    ModelReport { id: id.into(), context_window: None, endpoints: CHAT, price: None }
}

/// A local backend of a kind with models.
fn seen(kind: BackendKind, models: &[&str]) -> Seen {
    let models = models.iter().map(|id| model(id)).collect();
    let report = BackendReport { kind, models, slots: None, busy: None };
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
    catalog.route(&model.into()).map(|route| route.backend.to_string())
}

#[test]
fn nothing_seen_offers_nothing() {
    let catalog = build([]);
    assert_eq!((catalog.is_empty(), catalog.len(), catalog.offers()), (true, 0, vec![]));
    assert_eq!(catalog, Catalog::default());
    assert_eq!(catalog.route(&"m".into()), None);
}

#[test]
fn an_offer_says_what_its_backend_reports() {
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
    assert_eq!(catalog.offers(), std::slice::from_ref(&offer));
    let route = Route { backend: "gpu".into(), limit: 3, endpoints: CHAT.with(Endpoint::Messages), offer };
    assert_eq!(catalog.routes().collect::<Vec<_>>(), [(&"m".into(), &route)]);
}

#[test]
fn local_comes_before_remote_then_the_kind_then_the_name() {
    // The best first; each of them is taken away in turn.
    let mut order = vec![
        ("z1", seen(BackendKind::Vllm, &["m"])),
        ("z2", seen(BackendKind::Vllm, &["m"])),
        ("y", seen(BackendKind::LlamaCpp, &["m"])),
        ("x", seen(BackendKind::LmStudio, &["m"])),
        ("w", seen(BackendKind::Ollama, &["m"])),
        ("v", seen(BackendKind::OpenAi, &["m"])),
        ("b", remote(seen(BackendKind::Vllm, &["m"]))),
        ("a", remote(seen(BackendKind::OpenAi, &["m"]))),
    ];
    while !order.is_empty() {
        let all = order.iter().map(|(id, seen)| ((*id).into(), seen.clone())).collect();
        let catalog = Catalog::build(&all, &terms());
        assert_eq!((server(&catalog, "m").as_deref(), catalog.len()), (Some(order[0].0), 1));
        order.remove(0);
    }
}

#[test]
fn a_backend_that_may_not_serve_a_model_leaves_it_to_the_next() {
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
        let route = catalog.route(&"m".into()).unwrap();
        assert_eq!((route.limit, route.offer.max_concurrent), (limit, limit), "{own:?} {slots:?}");
    }
}

#[test]
fn a_model_of_price_zero_is_not_offered_and_one_of_half_a_price_is() {
    let mut terms = terms();
    terms.prices.by_model = [("free".into(), price(0, 0)), ("half".into(), price(0, 7))].into();
    let mut one = seen(BackendKind::Vllm, &["free", "half"]);
    one.policy.markup = 1.0;
    let catalog = Catalog::build(&[("gpu".into(), one)].into(), &terms);
    let offers: Vec<_> =
        catalog.offers().into_iter().map(|o| (o.model_id.to_string(), o.input_per_1m, o.output_per_1m)).collect();
    assert_eq!(offers, [("half".to_owned(), 0, 14)]);
}

#[test]
fn a_markup_is_exact_in_decimals_rounds_up_and_saturates() {
    for (base, markup, marked) in [
        (500_000, 0.0, 500_000),
        (500_000, 0.1, 550_000),
        (500_000, 0.2, 600_000),
        (500_000, 0.3, 650_000),
        (750_000, 1.1, 1_575_000),
        (1, 0.001, 2),
        (10, 0.11, 12),
        (0, 5.0, 0),
        (500_000, -0.5, 500_000),
        (500_000, -0.0, 500_000),
        (500_000, f64::NAN, 500_000),
        (500_000, f64::NEG_INFINITY, 500_000),
        (u64::MAX, 0.0, u64::MAX),
        (u64::MAX, 0.1, u64::MAX),
        (u64::MAX, f64::INFINITY, u64::MAX),
        (u64::MAX / 2, 3.0, u64::MAX),
    ] {
        assert_eq!(marked_up(base, markup), marked, "{base} + {markup}");
    }
}

#[test]
fn an_id_that_no_job_could_name_is_not_offered() {
    let (longest, longer) = ("a".repeat(512), "ü".repeat(257));
    let catalog = build([("gpu", seen(BackendKind::Vllm, &["", &longest, &longer, "a\nb", "a\0", "\u{85}", "ü b:1"]))]);
    assert_eq!(catalog.routes().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [longest.as_str(), "ü b:1"]);
}

#[test]
fn of_a_model_listed_twice_the_first_mention_holds() {
    let mut one = seen(BackendKind::Vllm, &["m", "a", "m"]);
    one.report.models[0].context_window = Some(1);
    one.report.models[2].context_window = Some(2);
    let catalog = build([("gpu", one)]);
    assert_eq!(catalog.len(), 2);
    assert_eq!(catalog.route(&"m".into()).and_then(|route| route.offer.context_window), Some(1));
}

#[test]
fn past_the_most_models_the_least_preferred_backend_loses_and_the_order_listed_is_nothing() {
    let ids: Vec<String> = (0..5000).map(|n| format!("m{n:04}")).collect();
    let mut many: Vec<&str> = ids.iter().map(String::as_str).collect();
    let few = || ("best", seen(BackendKind::Vllm, &["z1", "z2"]));
    let catalog = build([few(), ("many", seen(BackendKind::Ollama, &many))]);
    many.reverse();
    assert_eq!(catalog, build([few(), ("many", seen(BackendKind::Ollama, &many))]));
    assert_eq!((catalog.len(), catalog.offers().len()), (4096, 4096));
    assert_eq!(server(&catalog, "z2").as_deref(), Some("best"));
    assert_eq!(server(&catalog, "m4093").as_deref(), Some("many"));
    assert_eq!(server(&catalog, "m4094"), None);
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
            report: BackendReport { kind, models: models.collect(), slots: limits.0, busy: None },
            policy: BackendPolicy { only, max_concurrent: limits.1, markup, local },
        }
    })
}

proptest! {
    #[test]
    fn every_offer_has_the_best_route_and_every_servable_model_an_offer(
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
        for offer in catalog.offers() {
            let route = catalog.route(&offer.model_id).unwrap();
            prop_assert_eq!(&route.offer, &offer);
            prop_assert!(offered.insert(offer.model_id.clone()), "{} twice", offer.model_id);
            let best = &backends[&route.backend];
            prop_assert!(serves(best, &offer.model_id));
            prop_assert_eq!(&offer.backend, best.report.kind.as_str());
            prop_assert!(route.limit >= 1 && route.limit <= max_concurrent.max(1));
            prop_assert!(offer.input_per_1m >= 500_000 && offer.output_per_1m >= 750_000);
            for (id, other) in backends.iter().filter(|(_, other)| serves(other, &offer.model_id)) {
                let rank = |id: &BackendId, seen: &Seen| (!seen.policy.local, seen.report.kind, id.clone());
                prop_assert!(rank(&route.backend, best) <= rank(id, other));
            }
        }
        prop_assert_eq!(offered.len(), catalog.len());
        for id in ["a", "b", "c", "d", "e", "f"] {
            let servable = !free.contains(id) && backends.values().any(|seen| serves(seen, &id.into()));
            prop_assert_eq!(offered.contains(&id.into()), servable, "{}", id);
        }
        prop_assert!(offered.iter().all(|id| id.as_str().len() == 1));
    }
}
