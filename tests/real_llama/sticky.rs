//! What it saves that a conversation goes back to the server that has read its beginning, beside servers that take turns.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::answer::{Answer, CHAT, MODEL, streamed_with_usage};
use crate::client::Api;
use crate::fleet::Fleet;
use crate::llama::Llama;

/// As many as both servers have slots, which are two each.
const CONVERSATIONS: usize = 4;
const TURNS: usize = 3;
/// Lines of the text that a conversation is about.
const LINES: usize = 7;
/// Tokens of an answer.
const ANSWER: u32 = 8;

/// What the prompts of all turns cost.
#[derive(Debug, Default)]
struct Cost {
    /// Tokens of all prompts.
    prompts: u64,
    /// Those that the servers had to read.
    read: u64,
    /// From a request to the first text of its answer, in the turns after the first.
    waits: Vec<Duration>,
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn conversations_that_go_back_to_their_server_have_little_to_read() {
    let one = Llama::start(&[]);
    let other = one.another(&[]);
    let servers = [&one, &other];
    let in_turn = converse("Anna", servers, |conversation, turn| servers[(conversation + turn) % 2].api.clone()).await;

    let fleet = Fleet::start(&format!("one@llamacpp={},other@llamacpp={}", one.url, other.url), &[]).await;
    fleet.until_slots(4).await;
    let sticky = converse("Berta", servers, |_, _| fleet.api.clone()).await;

    println!("{CONVERSATIONS} conversations of {TURNS} turns on two servers with two slots each");
    in_turn.print("to the servers in turn");
    sticky.print("through the agent");
    assert_eq!(fleet.status().await.jobs.done, (CONVERSATIONS * TURNS) as u64);
    // In turn, each server reads every conversation once, half of which is saved.
    assert!(3 * sticky.read < 2 * in_turn.read);
}

/// All conversations at once, a turn of each after the other's, each turn to where `whom` says.
async fn converse(who: &str, servers: [&Llama; 2], whom: impl Fn(usize, usize) -> Api) -> Cost {
    let mut conversations: Vec<_> = (0..CONVERSATIONS).map(|number| vec![beginning(who, number)]).collect();
    let mut cost = Cost::default();
    let before = read(servers).await;
    for turn in 0..TURNS {
        let asked = conversations.iter_mut().enumerate();
        let taken = asked.map(|(number, messages)| {
            messages.push(json!({ "role": "user", "content": "And then?" }));
            ask(whom(number, turn), messages)
        });
        for (prompt, wait) in join_all(taken).await {
            cost.prompts += prompt;
            cost.waits.extend((turn > 0).then_some(wait));
        }
    }
    cost.read = read(servers).await - before;
    cost
}

/// A text that has nothing in common with that of another conversation, from its first words on.
fn beginning(who: &str, number: usize) -> Value {
    let line =
        |line| format!("{who} of house {number} wrote on day {line} that the sea was calm and the boats came home.");
    let text = (0..LINES).map(line).collect::<Vec<_>>().join(" ");
    json!({ "role": "system", "content": text })
}

/// Takes one turn: the answer joins the messages. Returns the tokens of the prompt, and how long the first text took.
async fn ask(api: Api, messages: &mut Vec<Value>) -> (u64, Duration) {
    let request = json!({
        "model": MODEL, "messages": messages, "max_tokens": ANSWER, "temperature": 0, "ignore_eos": true,
    });
    let start = Instant::now();
    let mut stream = api.stream(CHAT, &streamed_with_usage(request)).await;
    let (mut events, mut wait) = (Vec::new(), None);
    while let Some(event) = stream.next().await {
        if event.has_text() {
            wait.get_or_insert(start.elapsed());
        }
        events.push(event);
    }
    let answer = Answer::of_chat_events(&events);
    messages.push(json!({ "role": "assistant", "content": answer.text }));
    (answer.tokens.expect("usage").0, wait.expect("text"))
}

/// Tokens of prompts that the servers have read so far; what was in their caches is not among them.
async fn read([one, other]: [&Llama; 2]) -> u64 {
    let (one, other) = join(one.figure("prompt_tokens_total"), other.figure("prompt_tokens_total")).await;
    one + other
}

impl Cost {
    fn print(&self, how: &str) {
        let mean = (self.waits.iter().sum::<Duration>() / self.waits.len() as u32).as_millis();
        let (prompts, read) = (self.prompts, self.read);
        println!("{how}: {read} of {prompts} prompt tokens read; first text of a later turn after {mean} ms (mean)");
    }
}
