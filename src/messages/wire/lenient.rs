//! Fields of extensions in frames of peers that may not know of them: what is of another type is not there.

use serde::de::{Deserialize, Deserializer, IgnoredAny};

/// Reads a field that may hold anything.
pub(super) fn field<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Field<T> {
        Fit(T),
        Other(IgnoredAny),
    }
    Ok(match Field::deserialize(deserializer)? {
        Field::Fit(value) => Some(value),
        Field::Other(IgnoredAny) => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::messages::endpoint::{Endpoint, Endpoints};
    use crate::messages::wire::{FromAgent, JobChunk, ModelOffer};

    const ID: &str = "6f1c3f0e-5f0b-4f43-9c7e-0d6f5f8f6f10";

    fn chunk(fields: &str) -> JobChunk {
        let text = format!(r#"{{"type":"job_chunk","job_id":"{ID}","data":"aGk="{fields}}}"#);
        match serde_json::from_str(&text) {
            Ok(FromAgent::JobChunk(chunk)) => chunk,
            other => panic!("no chunk: {other:?}"),
        }
    }

    #[test]
    fn a_field_of_another_type_is_not_there_and_the_frame_is_read() {
        let head = chunk(r#","status":404,"content_type":"application/json""#);
        assert_eq!((head.status, head.content_type.as_deref()), (Some(404), Some("application/json")));
        for other in ["null", "-1", "65536", "1.5", "\"200\"", "[200]", "{\"a\":[]}", "true"] {
            assert_eq!(chunk(&format!(r#","status":{other}"#)), JobChunk::new(ID.parse().unwrap(), "aGk=".into()));
        }
        assert_eq!(chunk(r#","content_type":[[7]]"#).content_type, None);
    }

    #[test]
    fn endpoints_are_a_list_of_paths_or_not_there() {
        let model = |endpoints: &str| {
            let fields = r#""model_id":"m","input_per_1m":1,"output_per_1m":1,"max_concurrent":1,"backend":"b""#;
            serde_json::from_str::<ModelOffer>(&format!("{{{fields}{endpoints}}}")).unwrap().endpoints
        };
        assert_eq!(model(""), None);
        assert_eq!(model(r#","endpoints":7"#), None);
        assert_eq!(model(r#","endpoints":["/v1/embeddings",7]"#), None);
        let embeddings = Some(Endpoints::NONE.with(Endpoint::Embeddings));
        assert_eq!(model(r#","endpoints":["/v1/embeddings","/v2/later"]"#), embeddings);
    }
}
