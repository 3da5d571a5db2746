//! The page for a person: its files, and what it shows as it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{Error, HttpResponse};
use futures_util::stream;
use tokio::time::{MissedTickBehavior, interval};

use super::sources::Sources;

/// How often what the page shows is read.
const PERIOD: Duration = Duration::from_secs(1);
/// Pages that may be open at once. Each holds one of the server's connections.
const MOST_OPEN: usize = 16;
/// No file from elsewhere, no script or style in the page itself, and the page is in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 6] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", bytes: include_bytes!("page/index.html") },
    Asset { path: "/page.css", content_type: "text/css; charset=utf-8", bytes: include_bytes!("page/page.css") },
    Asset { path: "/page.js", content_type: "text/javascript; charset=utf-8", bytes: include_bytes!("page/page.js") },
    Asset { path: "/icon.svg", content_type: "image/svg+xml", bytes: include_bytes!("page/icon.svg") },
    Asset {
        path: "/uplot.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("page/vendor/uplot.css"),
    },
    Asset {
        path: "/uplot.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("page/vendor/uplot.js"),
    },
];

/// The routes of the page.
pub(super) fn routes(app: &mut ServiceConfig) {
    for asset in &ASSETS {
        app.route(asset.path, web::get().to(|| async { file(asset) }));
    }
    app.route("/events", web::get().to(events));
}

fn file(asset: &Asset) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        // Another version of the program has other files.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(asset.bytes)
}

/// A page that is open.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(pages: &Arc<AtomicUsize>) -> Option<Self> {
        let open = Self(Arc::clone(pages));
        // Dropped at once if there are too many.
        (pages.fetch_add(1, Ordering::Relaxed) < MOST_OPEN).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The agent's state once a second, as server-sent events.
async fn events(sources: web::Data<Sources>) -> HttpResponse {
    let Some(open) = Open::new(&sources.pages) else {
        return HttpResponse::ServiceUnavailable().body("too many pages are open\n");
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = stream::unfold((ticks, sources, open), |(mut ticks, sources, open)| async move {
        ticks.tick().await;
        let json = serde_json::to_string(&sources.status().await).ok()?;
        Some((Ok::<_, Error>(Bytes::from(format!("data: {json}\n\n"))), (ticks, sources, open)))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_names_nothing_elsewhere() {
        let total: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(total < 150_000, "{total} bytes");
        // Of a vendored file only comments may.
        for asset in ASSETS.iter().filter(|asset| !asset.path.starts_with("/uplot")) {
            let text = std::str::from_utf8(asset.bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{}", asset.path);
        }
    }

    #[test]
    fn the_pages_that_are_open_are_bounded() {
        let pages = Arc::default();
        let mut open: Vec<_> = (0..MOST_OPEN).map(|_| Open::new(&pages).unwrap()).collect();
        assert!(Open::new(&pages).is_none());
        open.pop();
        assert!(Open::new(&pages).is_some());
    }
}
