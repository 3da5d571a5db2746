//! The real coordinator in memory: all of it but its sockets, so that it can run on a paused clock and be killed.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{BoxedPayloadStream, Payload, Request};
use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::Data;
use bytes::{Bytes, BytesMut};
use futures_util::future::{LocalBoxFuture, poll_fn};
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::builder::LINK_CAPACITY;
use crate::config::CoordinatorConfig;
use crate::coordinator::{CoordinatorState, app, dismiss_agents, expire_sessions};
use crate::transport::stream::DialError;
use crate::transport::websocket::link::Upgraded;

/// The coordinator of this crate in memory. Clones are the same coordinator.
#[derive(Clone)]
pub struct MemoryCoordinator(Rc<Shared>);

struct Shared {
    state: Arc<CoordinatorState>,
    serve: Box<Serve>,
    /// Its connections, and what ends sessions whose agents do not return.
    tasks: RefCell<JoinSet<()>>,
    /// True once it was killed.
    killed: watch::Sender<bool>,
}

type Serve = dyn Fn(Request) -> LocalBoxFuture<'static, Result<ServiceResponse<BoxBody>, Error>>;

/// The coordinator was killed: its connections are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// A response of the coordinator's API.
pub struct MemoryResponse {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    body: Pin<Box<BoxBody>>,
    killed: watch::Receiver<bool>,
}

impl fmt::Debug for MemoryResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryResponse({})", self.status)
    }
}

impl MemoryCoordinator {
    /// Starts one on the current arbiter.
    pub async fn start(config: CoordinatorConfig) -> Self {
        let state = CoordinatorState::new(config, Vec::new());
        let service = Rc::new(init_service(app(Data::from(Arc::clone(&state)))).await);
        let serve = move |request| -> LocalBoxFuture<'static, _> {
            let service = Rc::clone(&service);
            Box::pin(async move { Ok(service.call(request).await?.map_into_boxed_body()) })
        };
        let mut tasks = JoinSet::new();
        let expiring = Arc::clone(&state);
        tasks.spawn_local(async move { match expire_sessions(&expiring).await {} });
        let (tasks, killed) = (RefCell::new(tasks), watch::Sender::new(false));
        Self(Rc::new(Shared { state, serve: Box::new(serve), tasks, killed }))
    }

    /// Opens a connection to `/agent`.
    ///
    /// # Errors
    /// If it was killed, or refuses the agent.
    pub async fn connect(&self) -> Result<Upgraded, DialError> {
        let (near, far) = duplex(LINK_CAPACITY);
        let (received, mut sends) = split(far);
        let request = TestRequest::get()
            .uri("/agent")
            .insert_header((header::HOST, "localhost"))
            .insert_header((header::CONNECTION, "Upgrade"))
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
            .to_request();
        let payload: BoxedPayloadStream = Box::pin(pieces(received));
        let (request, _) = request.replace_payload(Payload::Stream { payload });
        let response = self.serve(request).await.map_err(|Killed| refused())?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {}
            StatusCode::SERVICE_UNAVAILABLE => {
                let retry_after = retry_after(response.headers()).map(Duration::from_secs);
                return Err(DialError::Busy { status: 503, retry_after });
            }
            other => return Err(DialError::Refused(other.as_u16())),
        }
        let mut body = Box::pin(response.into_body());
        // The actor of the connection lives in the body, and so as long as this task.
        let mut tasks = self.0.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(async move {
            while let Some(Ok(bytes)) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                if sends.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = sends.shutdown().await;
        });
        drop(tasks);
        Ok(Upgraded { stream: Box::new(near), leftover: BytesMut::new() })
    }

    /// Sends a request with a JSON body to its API.
    ///
    /// # Errors
    /// If it was killed before the response began.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<MemoryResponse, Killed> {
        let request = TestRequest::post()
            .uri(path)
            .insert_header((header::HOST, "localhost"))
            .insert_header(header::ContentType::json())
            .set_payload(body)
            .to_request();
        let response = self.serve(request).await?;
        Ok(MemoryResponse {
            status: response.status().as_u16(),
            retry_after: retry_after(response.headers()),
            body: Box::pin(response.into_body()),
            killed: self.killed(),
        })
    }

    async fn serve(&self, request: Request) -> Result<ServiceResponse<BoxBody>, Killed> {
        if *self.0.killed.borrow() {
            return Err(Killed);
        }
        tokio::select! {
            response = (self.0.serve)(request) => match response {
                Ok(response) => Ok(response),
                Err(error) => panic!("a request was not served: {error}"),
            },
            () = until(self.killed()) => Err(Killed),
        }
    }

    /// How many models its agents offer.
    pub fn models(&self) -> usize {
        self.0.state.models().len()
    }

    /// Jobs that have a slot, and requests that wait for one.
    pub fn load(&self) -> (usize, usize) {
        let gauges = self.0.state.gauges();
        (gauges.in_flight, gauges.waiting)
    }

    /// Stops as at SIGTERM: hands its agents over, and waits for running jobs. Then it is gone.
    pub async fn stop(&self) {
        dismiss_agents(&self.0.state).await;
        // What was written last arrives.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.kill();
    }

    /// Ends as at SIGKILL: nothing more comes from it, and its connections break.
    pub fn kill(&self) {
        self.0.tasks.borrow_mut().abort_all();
        self.0.killed.send_replace(true);
    }

    fn killed(&self) -> watch::Receiver<bool> {
        self.0.killed.subscribe()
    }
}

impl MemoryResponse {
    /// The next bytes of the body. `None` at its end.
    ///
    /// # Errors
    /// If the coordinator was killed, or breaks the response off.
    pub async fn next(&mut self) -> Option<Result<Bytes, Killed>> {
        let body = &mut self.body;
        tokio::select! {
            biased;
            () = until(self.killed.clone()) => Some(Err(Killed)),
            piece = poll_fn(|cx| body.as_mut().poll_next(cx)) => piece.map(|piece| piece.map_err(|_| Killed)),
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

fn refused() -> DialError {
    DialError::Connect(std::io::ErrorKind::ConnectionRefused)
}

/// Waits until the coordinator was killed.
async fn until(mut killed: watch::Receiver<bool>) {
    // Without a sender it is gone, too.
    let _ = killed.wait_for(|killed| *killed).await;
}

/// What is read, until the end.
fn pieces(from: impl AsyncRead + Unpin) -> impl stream::Stream<Item = Result<Bytes, PayloadError>> {
    stream::unfold(from, |mut from| async move {
        let mut bytes = BytesMut::with_capacity(16 << 10);
        match from.read_buf(&mut bytes).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(bytes.freeze()), from)),
            Err(error) => Some((Err(PayloadError::Io(error)), from)),
        }
    })
}
