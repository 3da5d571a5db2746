//! What the page and the command line can order: only with the agent's token.

use actix_web::http::header::{AUTHORIZATION, HOST, ORIGIN};
use actix_web::{HttpRequest, HttpResponse, web};
use subtle::ConstantTimeEq;

use super::order::Order;
use super::sources::Sources;
use crate::messages::secret::Secret;
use crate::transport::local_only::is_own_origin;

pub(super) async fn order(request: HttpRequest, order: web::Json<Order>, sources: web::Data<Sources>) -> HttpResponse {
    let Some(control) = sources.control.clone() else {
        return HttpResponse::NotFound().body("this agent takes no orders\n");
    };
    if !is_own(&request) || !has_token(&request, &control.token) {
        return HttpResponse::Unauthorized().body("orders need the token of this agent: run `outpost open`\n");
    }
    match web::block(move || (control.carry_out)(order.into_inner())).await {
        Ok(Ok(())) => HttpResponse::NoContent().finish(),
        Ok(Err(error)) => HttpResponse::InternalServerError().body(format!("the pause can't be stored: {error}\n")),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// Whether no page of another site had it sent.
fn is_own(request: &HttpRequest) -> bool {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    header(ORIGIN).is_none_or(|origin| is_own_origin(origin, header(HOST).unwrap_or_default()))
}

fn has_token(request: &HttpRequest, token: &Secret) -> bool {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = header.strip_prefix("Bearer ").unwrap_or_default();
    given.as_bytes().ct_eq(token.reveal().as_bytes()).into()
}
