//! The fields that the extension `endpoints` adds to a job: the API path and the form of the response.
//!
//! A frame is read in the same way whether or not the extension was agreed on. [`JobFrame::requested`] decides whether the
//! fields count.

use crate::messages::endpoint::{AnswerForm, Endpoint};
use crate::messages::wire::{Extension, Extensions, JobFrame, JobTarget, NamedPath};

impl JobTarget {
    /// Reads the two fields as they are spelled in the frame.
    pub(super) fn read(endpoint: Option<&[u8]>, stream: Option<&[u8]>) -> Self {
        let path = match endpoint {
            None | Some(b"null") => NamedPath::ByFormat,
            Some(json) => {
                let path = serde_json::from_slice::<String>(json).ok().and_then(|path| Endpoint::of_path(&path));
                path.map_or(NamedPath::Unknown, NamedPath::Known)
            }
        };
        let form = match stream {
            None | Some(b"null" | b"true") => Some(AnswerForm::Stream),
            Some(b"false") => Some(AnswerForm::Whole),
            Some(_) => None,
        };
        Self { path, form }
    }
}

impl JobFrame {
    /// The path and the form that the job requests, on a connection with the extensions `agreed`. The error is why the
    /// job can't be done: a response of another path or form would be useless.
    ///
    /// Without the extension the fields are ignored, and the format alone decides. Embeddings are always one body.
    pub fn requested(&self, agreed: Extensions) -> Result<(Endpoint, AnswerForm), &'static str> {
        let target = if agreed.contains(Extension::Endpoints) { self.target } else { JobTarget::BASE };
        let endpoint = match target.path {
            NamedPath::ByFormat => self.endpoint,
            NamedPath::Known(endpoint) => endpoint,
            NamedPath::Unknown => return Err("endpoint is not a path that the agent knows"),
        };
        let form = target.form.ok_or("stream is neither true nor false")?;
        Ok((endpoint, if endpoint == Endpoint::Embeddings { AnswerForm::Whole } else { form }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::messages::wire::FromCoordinator;

    const ID: &str = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10";

    fn job(fields: &str) -> JobFrame {
        let text = format!(r#"{{"type":"job","job_id":"{ID}","model_id":"m","request":{{}}{fields}}}"#);
        match FromCoordinator::parse(&Bytes::from(text)) {
            Ok(FromCoordinator::Job(job)) => job,
            other => panic!("no job: {other:?}"),
        }
    }

    #[test]
    fn the_path_and_the_form_count_where_they_were_agreed_on() {
        use AnswerForm::{Stream, Whole};
        use Endpoint::{ChatCompletions, Completions, Embeddings, Messages};
        let bad_path = Err("endpoint is not a path that the agent knows");
        let bad_form = Err("stream is neither true nor false");
        for (fields, want, base) in [
            ("", Ok((ChatCompletions, Stream)), ChatCompletions),
            (r#","format":"anthropic""#, Ok((Messages, Stream)), Messages),
            (r#","endpoint":null,"stream":null"#, Ok((ChatCompletions, Stream)), ChatCompletions),
            (r#","endpoint":"/v1/completions""#, Ok((Completions, Stream)), ChatCompletions),
            (r#","endpoint":"\/v1\/completions","stream":true"#, Ok((Completions, Stream)), ChatCompletions),
            (r#","endpoint":"/v1/messages","stream":false"#, Ok((Messages, Whole)), ChatCompletions),
            (r#","format":"anthropic","endpoint":"/v1/completions""#, Ok((Completions, Stream)), Messages),
            (r#","endpoint":"/v1/embeddings","stream":true"#, Ok((Embeddings, Whole)), ChatCompletions),
            (r#","endpoint":"/v1/videos""#, bad_path, ChatCompletions),
            (r#","endpoint":"/v1/completions/""#, bad_path, ChatCompletions),
            (r#","endpoint":7"#, bad_path, ChatCompletions),
            (r#","stream":"false""#, bad_form, ChatCompletions),
            (r#","stream":0"#, bad_form, ChatCompletions),
        ] {
            let job = job(fields);
            assert_eq!(job.requested(Extensions::all()), want, "{fields}");
            assert_eq!(job.requested([Extension::Endpoints].into_iter().collect()), want, "{fields}");
            for without in [Extensions::NONE, [Extension::Binary].into_iter().collect()] {
                assert_eq!(job.requested(without), Ok((base, Stream)), "{fields}");
            }
        }
    }

    #[test]
    fn a_job_reads_back_as_it_was_written() {
        for endpoint in Endpoint::ALL {
            for form in [AnswerForm::Stream, AnswerForm::Whole] {
                let mut written = job("");
                written.target = JobTarget::new(endpoint, form);
                written.endpoint = if endpoint == Endpoint::Messages { endpoint } else { Endpoint::ChatCompletions };
                let text = serde_json::to_vec(&FromCoordinator::Job(written.clone())).unwrap();
                assert_eq!(FromCoordinator::parse(&text.into()), Ok(FromCoordinator::Job(written)));
            }
        }
    }

    #[test]
    fn a_job_of_the_base_protocol_has_no_field_of_the_extension() {
        let text = serde_json::to_string(&FromCoordinator::Job(job(""))).unwrap();
        assert!(!text.contains("endpoint") && !text.contains("stream"), "{text}");
    }
}
