//! The proxy is the configured one, never one that a library finds in the environment.

use std::process::Stdio;

use tokio::process::Command;

use super::server::{Server, within};

/// Runs tests that dial once more, each in a process with every variable that libraries know for a proxy.
#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_environment_names_no_proxy_to_the_transport() {
    let trap = Server::start().await;
    let proxy = trap.url("http", "127.0.0.1");
    for dials in [
        "dial::certificates::a_server_of_the_operators_authority_is_reached_by_its_name_over_http_1_1",
        "dial::answers::the_request_is_an_upgrade_to_a_websocket_of_version_13",
    ] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([dials, "--exact"]).stdin(Stdio::null()).kill_on_drop(true);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            again.env(name, &proxy);
        }
        again.env_remove("NO_PROXY").env_remove("no_proxy");
        let output = within("end of the other test", again.output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }
    trap.assert_untouched();
}
