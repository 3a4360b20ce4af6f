//! The HTTP port: whether the node is well, and its metrics.
//!
//! ```text
//!   GET /health    200 it runs                    503 it ends
//!   GET /ready     200 clients are served         503 the log takes nothing at the moment, or the node ends
//!   GET /metrics   the page of docs/METRICS.md, for Prometheus
//! ```

use crate::error::Error;
use crate::node::Node;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections at a time: who scrapes needs few.
const CONNECTIONS_MAX: usize = 64;
/// How long one is kept: who scrapes comes again.
const CONNECTION_MAX: Duration = Duration::from_secs(300);

/// How long the head of a request may take.
const HEADER_MAX: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let refused = |error| Error::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

/// Answers as long as the node has clients, also while it ends.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => _ = connections.spawn(connect(node.clone(), stream)),
                Err(error) => {
                    tracing::warn!(event = "http.failed", %error, "the system has no room for a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn connect(node: Arc<Node>, stream: TcpStream) {
    let service = service_fn(move |request| answered(node.clone(), request));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_MAX, connection).await {
        tracing::debug!(event = "http.ended", %error, "a connection");
    }
}

async fn answered(node: Arc<Node>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match request.uri().path() {
        "/health" | "/ready" | "/metrics" if !is_read => {
            let mut answer = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n".into());
            answer.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("a legal header"));
            return Ok(answer);
        }
        "/health" if node.is_stopped() => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "the node ends\n".into()),
        "/health" => (StatusCode::OK, TEXT, "ok\n".into()),
        "/ready" => match tokio::task::spawn_blocking(move || node.trouble()).await {
            Ok(None) => (StatusCode::OK, TEXT, "ok\n".into()),
            Ok(Some(trouble)) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{trouble}\n")),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/metrics" => {
            // It counts what lies on disk.
            let page = tokio::task::spawn_blocking(move || node.log.prometheus()).await;
            match page {
                Ok(page) => (StatusCode::OK, PROMETHEUS, page),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            }
        }
        path => {
            let text = format!("there is no {path}: /health, /ready, /metrics\n");
            (StatusCode::NOT_FOUND, TEXT, text)
        }
    };
    Ok(response(status, kind, text))
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind.parse().expect("a legal header"));
    response
}
