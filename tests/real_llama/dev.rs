//! `outpost dev` with a real model.

use crate::answer::{Answer, CHAT, greedy_chat};
use crate::llama::Llama;
use crate::process::Process;

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn dev_answers_a_prompt_and_leaves() {
    let llama = Llama::given().await;
    let backends = format!("llamacpp={}", llama.url);
    let args = ["dev", "--listen", "127.0.0.1:0", "--prompt", "Say hello."];
    let (status, output) = Process::start(&args, [("OUTPOST_BACKENDS", backends.as_str())]).ended().await;
    assert_eq!(status.code(), Some(0));
    let direct = Answer::of_chat(&llama.api.post(CHAT, &greedy_chat("Say hello.", 256)).await.body);
    assert_eq!(direct.ending, "stop");
    assert_eq!(output, format!("{}\n", direct.text));
    llama.until_idle().await;
}
