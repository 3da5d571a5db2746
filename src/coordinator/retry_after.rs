//! Tells clients and agents when to come back. Wraps all services of the [`server`](super::server), so that no response is
//! without it.

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};

/// When, in seconds, if the service did not decide it.
const SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Adds `Retry-After` to a response with status 429 or 503 that has none.
pub(super) fn add<B>(mut response: ServiceResponse<B>) -> ServiceResponse<B> {
    let is_temporary = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if is_temporary && !response.headers().contains_key(RETRY_AFTER) {
        response.headers_mut().insert(RETRY_AFTER, SECONDS);
    }
    response
}

#[cfg(test)]
mod tests {
    use actix_web::dev::Service;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::web::{self, Path};
    use actix_web::{App, HttpResponse};
    use futures_util::TryFutureExt;

    use super::*;
    use crate::coordinator::api::error_kind::ApiErrorKind;

    #[actix_rt::test]
    async fn every_error_that_passes_has_a_time_to_come_back_and_no_other_response_has_one() {
        let with_status =
            |status: Path<u16>| async move { HttpResponse::build(StatusCode::from_u16(*status).unwrap()).finish() };
        let app = App::new().wrap_fn(|request, service| service.call(request).map_ok(add));
        let app = init_service(app.route("/{status}", web::get().to(with_status))).await;
        let kinds = ApiErrorKind::ALL.map(|kind| (kind.status(), matches!(kind.status().as_u16(), 429 | 503)));
        let others =
            [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS, StatusCode::NOT_FOUND].map(|status| (status, false));
        for (status, has_time) in kinds.into_iter().chain(others) {
            let request = TestRequest::get().uri(&format!("/{}", status.as_u16())).to_request();
            let response = call_service(&app, request).await;
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), has_time, "{status}");
        }
    }

    #[actix_rt::test]
    async fn a_time_that_the_service_decides_stays() {
        let busy = || async { HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, "5")).finish() };
        let app = App::new().wrap_fn(|request, service| service.call(request).map_ok(add));
        let app = init_service(app.default_service(web::to(busy))).await;
        let response = call_service(&app, TestRequest::get().to_request()).await;
        let values: Vec<_> = response.headers().get_all(RETRY_AFTER).collect();
        assert_eq!(values, ["5"]);
    }
}
