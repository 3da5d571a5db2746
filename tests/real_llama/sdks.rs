//! OpenAI's and Anthropic's own Python packages as clients. What they must see is in sdks.py.

use std::process::Stdio;
use std::{env, path::Path};

use tokio::process::Command;

use crate::answer::MODEL;
use crate::fleet::Fleet;
use crate::llama::Llama;
use crate::proxy::WithoutMessages;
use crate::waiting::within;

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn the_packages_of_openai_and_anthropic_see_answers_and_the_right_exceptions() {
    const KEY: &str = "canary-client-key";
    const EMBEDDER: &str = "smollm2-embeds";
    const CALLER: &str = "smollm2-tools";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_llama");
    let llama = Llama::given().await;
    let embedder = llama.another(&["--embeddings", "--alias", EMBEDDER]);
    let template = root.join("tools.jinja");
    let caller = llama.another(&["--alias", CALLER, "--chat-template", template.to_str().expect("text")]);
    let proxy = WithoutMessages::before(caller.address()).await;
    let backends = format!("llamacpp={},embedder@llamacpp={},caller@llamacpp={}", llama.url, embedder.url, proxy.url);
    let fleet = Fleet::start_with_key(KEY, &backends, &[]).await;
    fleet.until_offered(3).await;

    let dir = env::var("OUTPOST_TEST_LLAMA_DIR").expect("run this by scripts/real-model.sh");
    let mut python = Command::new(Path::new(&dir).join("venv/bin/python"));
    python
        .arg(root.join("sdks.py"))
        .args([fleet.api.base(), KEY, MODEL, EMBEDDER, CALLER])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let seen = within("the Python packages", python.output()).await.expect("Python starts");
    println!("{}", String::from_utf8_lossy(&seen.stderr));
    assert!(seen.status.success());
    for log in [fleet.agent.log(), fleet.coordinator.log()] {
        assert!(!log.contains(KEY));
    }
}
