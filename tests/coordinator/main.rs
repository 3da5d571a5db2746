//! The coordinator over real sockets, between clients and agents that do what each test scripts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation ends the test")]
#![allow(clippy::disallowed_methods, reason = "a test owns its runtime, and tasks that it spawns end with it")]

mod acknowledges_responses;
mod admits_agents;
mod chooses_agents;
mod conformance;
mod drains_agents;
mod fixture;
mod guards_its_api;
mod hands_over;
mod keeps_its_bounds;
mod names_a_time_to_come_back;
mod reports_metrics;
mod respects_message_limits;
mod resumes_sessions;
mod retries_requests;
mod serves_clients;
mod serves_endpoints;
mod takes_binary_chunks;
mod verifies_statements;
mod waits_for_slots;
