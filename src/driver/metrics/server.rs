//! The HTTP side of `--metrics`: `GET /metrics`, one request per connection.
//!
//! Whoever connects and says nothing, says it slowly or does not take the answer costs a bounded
//! time and one of a bounded number of places, and delays nobody else.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Longest time until a request's head is there.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);
/// Most connections at once; the next one waits for a place.
const MOST_CONNECTIONS: usize = 512;
/// Before the next connection is accepted where the last one could not be.
const PAUSE: Duration = Duration::from_millis(100);
/// Largest head of a request, the least that hyper allows.
const MOST_HEAD_BYTES: usize = 8 << 10;

pub(super) fn start(listener: TcpListener, registry: Registry) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let serve = move || runtime.block_on(accept(listener, Arc::new(registry)));
    std::thread::Builder::new().name("metrics".into()).spawn(serve)?;
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, registry: Arc<Registry>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is free, most likely: it passes, or the run says so itself.
            sleep(PAUSE).await;
            continue;
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &registry);
                async { Ok::<_, Infallible>(answer) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
            http.keep_alive(false).max_buf_size(MOST_HEAD_BYTES);
            // A scraper that misbehaves is its own problem.
            let _ = timeout(PATIENCE, http.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    let readable = [Method::GET, Method::HEAD].contains(request.method());
    let mut text = String::new();
    let (status, kind) = match request.uri().path() {
        _ if !readable => (StatusCode::METHOD_NOT_ALLOWED, None),
        "/metrics" => match prometheus_text::encode(&mut text, registry) {
            Ok(()) => (StatusCode::OK, Some(prometheus_text::CONTENT_TYPE)),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        },
        _ => (StatusCode::NOT_FOUND, None),
    };
    if kind.is_none() {
        text = "duel: GET /metrics\n".into();
    }
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind.unwrap_or("text/plain; charset=utf-8"));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if !readable {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
