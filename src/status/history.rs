//! What the page shows of the past: sums over the ledger.

use std::path::Path;
use std::time::{Duration, SystemTime};

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::sources::Sources;
use crate::accounts::{Bucket, Grouping, Usage, UsageRow};
use crate::messages::ledger::LedgerFault;

/// How far back the page looks.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Span {
    /// 24 hours.
    Day,
    /// 30 days.
    Month,
}

#[derive(Deserialize)]
pub(super) struct Query {
    span: Span,
}

/// The body of `/history`.
#[derive(Serialize)]
struct History {
    /// Seconds of each bucket.
    bucket_s: u64,
    /// The time in equal parts, the oldest first; the last one is not over.
    buckets: Vec<Bucket>,
    models: Vec<UsageRow>,
    outcomes: Vec<UsageRow>,
    total: UsageRow,
}

/// The body where there is no history.
#[derive(Serialize)]
struct NoHistory {
    error: String,
}

pub(super) async fn history(query: web::Query<Query>, sources: web::Data<Sources>) -> HttpResponse {
    let Some(path) = sources.ledger.clone() else {
        return none("There is no ledger: OUTPOST_LEDGER_PATH is off.".to_owned());
    };
    let span = query.span;
    let read = web::block(move || read(&path, span, SystemTime::now())).await;
    match read {
        Ok(Ok(Some(history))) => HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(history),
        Ok(Ok(None)) => none("The ledger has no file yet.".to_owned()),
        Ok(Err(fault)) => none(format!("The ledger can't be read: {fault}.")),
        Err(_) => none("The ledger can't be read now.".to_owned()),
    }
}

fn none(error: String) -> HttpResponse {
    HttpResponse::NotFound().insert_header((CACHE_CONTROL, "no-store")).json(NoHistory { error })
}

fn read(path: &Path, span: Span, now: SystemTime) -> Result<Option<History>, LedgerFault> {
    let Some(usage) = Usage::open(path)? else { return Ok(None) };
    let (bucket, count) = match span {
        Span::Day => (Duration::from_secs(600), 144),
        Span::Month => (Duration::from_secs(6 * 3600), 120),
    };
    let buckets = usage.history(now, bucket, count)?;
    let since = now.checked_sub(bucket * count).unwrap_or(SystemTime::UNIX_EPOCH);
    let (models, total) = usage.by(Grouping::Model, since)?;
    let (outcomes, _) = usage.by(Grouping::Outcome, since)?;
    Ok(Some(History { bucket_s: bucket.as_secs(), buckets, models, outcomes, total }))
}
