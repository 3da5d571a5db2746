//! The connected agents together: which of them gets a job, and how the response of a job reaches its client.

pub(crate) mod demand;
pub(crate) mod dispatch;
pub(crate) mod job_frame;
pub(crate) mod job_result;
pub(crate) mod response_channel;
pub(crate) mod retry;
pub(crate) mod roster;
pub(crate) mod running_job;
pub(crate) mod session_change;
pub(crate) mod slots;
pub(crate) mod wait_outcome;
pub(crate) mod wait_queue;
mod waiting_request;
