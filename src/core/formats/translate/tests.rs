//! Anthropic's messages over a server that has only chat completions: what requests become, and what answers become.

#[cfg(test)]
mod answers;
pub(crate) mod grammar;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod refused_requests;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod stream;
