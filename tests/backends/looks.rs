//! What a look says of a server that is not well, whatever its kind, and what it keeps between looks.

use std::sync::Arc;

use futures_util::FutureExt;
use outpost::messages::ids::JobId;
use outpost::testkit::{BackendKind, ProbeError};

use super::looking::{error, look, models, source};
use super::server::{Reply, Request, Server, json, recorded, response, status, within};
use super::servers::llama_server;

#[actix_rt::test(system = "outpost::testkit::System")]
async fn llamacpp_that_loads_its_model_is_not_ready() {
    let loading = |_: &Request| recorded("llama-server-b11549/GET_v1_models_loading");
    assert_eq!(error(BackendKind::LlamaCpp, loading).await, Some(ProbeError::NotReady));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refused_key_is_unauthorized_and_the_key_is_sent_with_every_request() {
    let refused = |_: &Request| recorded("llama-server-b11549/auth_GET_v1_models_nokey");
    assert_eq!(error(BackendKind::LlamaCpp, refused).await, Some(ProbeError::Unauthorized));

    let server = Server::start(llama_server).await;
    within(source(&server, BackendKind::LlamaCpp, Some("k")).probe()).await.unwrap();
    let requests = server.requests();
    // The list, the properties, the slots, and each endpoint.
    assert_eq!(requests.len(), 8);
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer k")));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_answer_of_another_shape_is_unexpected() {
    let html = |_: &Request| response("200 OK", "content-type: text/html\r\n", "<html>sign in</html>");
    let redirect = |_: &Request| response("302 Found", "location: http://127.0.0.1:1/\r\n", "");
    let gzip = |_: &Request| response("200 OK", "content-encoding: gzip\r\n", "x");
    for kind in BackendKind::ALL {
        assert!(matches!(error(kind, html).await, Some(ProbeError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, |_| json(r#"{"error":"x"}"#)).await, Some(ProbeError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, |_| json("[]")).await, Some(ProbeError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, redirect).await, Some(ProbeError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, gzip).await, Some(ProbeError::Unexpected(_))), "{kind}");
        assert!(matches!(error(kind, |_| status("418 Teapot")).await, Some(ProbeError::Unexpected(_))), "{kind}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn each_error_of_a_server_is_distinguished_for_every_kind() {
    for kind in BackendKind::ALL {
        assert_eq!(error(kind, |_| status("401 Unauthorized")).await, Some(ProbeError::Unauthorized), "{kind}");
        assert_eq!(error(kind, |_| status("403 Forbidden")).await, Some(ProbeError::Unauthorized), "{kind}");
        assert_eq!(error(kind, |_| status("503 Busy")).await, Some(ProbeError::NotReady), "{kind}");
        assert_eq!(error(kind, |_| Reply::Reset).await, Some(ProbeError::Unreachable), "{kind}");
        let short = |_: &Request| Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec());
        assert_eq!(error(kind, short).await, Some(ProbeError::Unreachable), "{kind}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_closed_port_is_unreachable() {
    let server = Server::start(|_| json("{}")).await;
    let source = source(&server, BackendKind::OpenAi, None);
    within(source.probe()).await.err().unwrap();
    drop(server);
    assert_eq!(within(source.probe()).await.err(), Some(ProbeError::Unreachable));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_document_without_end_is_cut_off() {
    for kind in BackendKind::ALL {
        let endless = |_: &Request| {
            Reply::Endless(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n{\"data\": [\r\n".to_vec(),
                [b"8000\r\n".as_slice(), &b"{\"id\":1},       ".repeat(2048), b"\r\n"].concat(),
            )
        };
        let server = Server::start(endless).await;
        let seen = within(source(&server, kind, None).probe()).await;
        assert_eq!(seen.err(), Some(ProbeError::Unexpected("too long")), "{kind}");
        server.until_left(server.requests().len()).await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn of_very_many_models_only_the_first_ones_are_kept() {
    let many: Vec<String> = (0..50_000).map(|n| format!(r#"{{"id":"model-{n}","object":"model"}}"#)).collect();
    let list = format!(r#"{{"data":[{}]}}"#, many.join(","));
    let script = move |request: &Request| match request.line.as_str() {
        "GET /v1/models" => json(&list),
        _ => status("400 Bad Request"),
    };
    let seen = look(BackendKind::OpenAi, script).await.unwrap();
    assert_eq!(models(&seen).len(), 4096);
    assert_eq!(models(&seen)[4095], ("model-4095", None));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_probe_waits_for_a_silent_server_until_it_is_dropped() {
    for kind in BackendKind::ALL {
        let server = Server::start(|_| Reply::Hold(vec![])).await;
        let source = source(&server, kind, None);
        let mut looking = source.probe();
        tokio::select! {
            _ = &mut looking => panic!("there is no answer"),
            () = server.until_requests(1) => {}
        }
        assert!((&mut looking).now_or_never().is_none(), "{kind}");
        drop(looking);
        server.until_left(1).await;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_load_of_a_server_that_fails_is_unknown() {
    for kind in BackendKind::ALL {
        for broken in [|| status("401 Unauthorized"), || status("503 Busy"), || json("[1]"), || Reply::Reset] {
            let server = Server::start(move |_| broken()).await;
            assert_eq!(within(source(&server, kind, None).load()).await, None, "{kind}");
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_factory_stays_the_same_and_its_clients_reach_the_server() {
    let server = Server::start(llama_server).await;
    let source = source(&server, BackendKind::LlamaCpp, None);
    let first = within(source.probe()).await.unwrap().factory;
    let second = within(source.probe()).await.unwrap().factory;
    assert!(Arc::ptr_eq(&first, &second));
    let request = outpost::testkit::BackendRequest { job: JobId::random(), endpoint: Default::default(), body: vec![] };
    assert_eq!(within(first.open().send(request)).await.unwrap().status, 400);
}
