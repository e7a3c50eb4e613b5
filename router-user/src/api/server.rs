//! The daemon's end of the socket.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::stream;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::Mutex,
};

use super::{ApiError, Backend, ErrorKind, types::Failure};
use crate::events::Reader;
use bounded::Bounded;

mod bounded;

/// How long a connection over TCP may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who may connect: the owner and the group.
const MODE: u32 = 0o660;

/// The longest configuration that is taken, bytes.
const LONGEST_CONFIGURATION: usize = 256 << 20;

/// The socket, listening; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers on it.
    #[error(
        "another daemon listens on {0}; stop it (waypost stop --socket {0}) or give this one another socket"
    )]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{0} exists and is not a socket; remove it or choose another path")]
    NotASocket(PathBuf),
    /// The system refused the address of the metrics.
    #[error(
        "cannot serve metrics at {address}: {error}; correct the address (metrics) or leave it out"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused.
    #[error(
        "cannot open the API socket {path}: {error}; check the path (at most 107 bytes) and its folder's permissions"
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Opens the socket: makes its folder, takes over the socket of a daemon that is gone.
///
/// # Errors
///
/// A daemon answers on it, or the system refuses.
pub async fn bind(path: &Path) -> Result<Socket, BindError> {
    let failed = |error| BindError::Io {
        path: path.to_owned(),
        error,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(BindError::InUse(path.to_owned()));
        }
        _ => {}
    }
    // Under another name until its permissions are right; renaming replaces a dead daemon's socket.
    let mut unready = path.as_os_str().to_owned();
    unready.push(format!(".{}", std::process::id()));
    let unready = PathBuf::from(unready);
    let _ = std::fs::remove_file(&unready);
    let listener = UnixListener::bind(&unready).map_err(failed)?;
    let ready = std::fs::set_permissions(&unready, PermissionsExt::from_mode(MODE))
        .and_then(|()| std::fs::rename(&unready, path))
        .and_then(|()| SocketFile::at(path));
    match ready {
        Ok(file) => Ok(Socket { listener, file }),
        Err(error) => {
            let _ = std::fs::remove_file(&unready);
            Err(failed(error))
        }
    }
}

/// Serves requests until `shutdown` completes and the requests under way are answered.
///
/// # Errors
///
/// The listener failed.
pub async fn serve(
    socket: Socket,
    backend: impl Backend,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Socket { listener, file } = socket;
    let served = axum::serve(listener, router(backend))
        .with_graceful_shutdown(shutdown)
        .await;
    drop(file);
    served
}

fn router<B: Backend>(backend: B) -> Router {
    Router::new()
        .route(
            "/v1/status",
            get(async |State(b): State<B>| reply(b.status().await)),
        )
        .route(
            "/v1/peers",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.peers(f)).await),
        )
        .route(
            "/v1/peer",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.peer(f)).await).post(
                async |State(b): State<B>, o: Ordered<_>| order(o, |o| b.command_peer(o)).await,
            ),
        )
        .route(
            "/v1/received",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.received(f)).await),
        )
        .route(
            "/v1/learned",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.learned(f)).await),
        )
        .route(
            "/v1/advertised",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.advertised(f)).await),
        )
        .route(
            "/v1/effective",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.effective(f)).await),
        )
        .route(
            "/v1/fib",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.fib(f)).await),
        )
        .route(
            "/v1/counters",
            get(async |State(b): State<B>, q: Asked<_>| ask(q, |f| b.counters(f)).await),
        )
        .route(
            "/v1/events",
            get(async |State(b): State<B>, q: Asked<_>| lines(q, |f| b.events(f)).await),
        )
        .route("/metrics", get(metrics::<B>))
        .route(
            "/v1/explain",
            post(async |State(b): State<B>, o: Ordered<_>| order(o, |o| b.explain(o)).await),
        )
        .route(
            "/v1/reload",
            post(async |State(b): State<B>| reply(b.reload().await)),
        )
        .route(
            "/v1/plan",
            post(async |State(b): State<B>, o: Ordered<_>| order(o, |o| b.plan(o)).await)
                .layer(DefaultBodyLimit::max(LONGEST_CONFIGURATION)),
        )
        .route(
            "/v1/instance/stop",
            post(async |State(b): State<B>, o: Ordered<_>| order(o, |o| b.stop_instance(o)).await),
        )
        .route(
            "/v1/instance/start",
            post(async |State(b): State<B>, o: Ordered<_>| order(o, |o| b.start_instance(o)).await),
        )
        .route(
            "/v1/stop",
            post(async |State(b): State<B>, o: Ordered<_>| order(o, |o| b.stop(o)).await),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(backend)
}

/// Opens the place where metrics are served over TCP.
///
/// # Errors
///
/// The system refuses.
pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| BindError::Metrics { address, error })
}

/// Serves `GET /metrics` alone, to whoever can connect: a few at a time, each for a while, and one
/// answer after the other is made.
pub async fn serve_metrics<B: Backend>(listener: TcpListener, backend: B) {
    serve_bounded(Bounded::new(listener, PATIENCE), backend).await;
}

async fn serve_bounded<B: Backend>(listener: Bounded, backend: B) {
    let turn = Arc::new(Mutex::new(()));
    let in_turn = async move |State(backend): State<B>| {
        let _mine = turn.lock().await;
        metrics(State(backend)).await
    };
    let router = Router::new()
        .route("/metrics", get(in_turn))
        .fallback(only_metrics)
        .with_state(backend);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("metrics are not served any longer: {error}");
    }
}

/// What Prometheus's text of [`Backend::metrics`] is.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn metrics<B: Backend>(State(backend): State<B>) -> Response {
    match backend.metrics().await {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn only_metrics(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(
        format!("there is no {method} {} here", uri.path()),
        "there is GET /metrics; the API is at the Unix socket",
    )
}

/// Lines of JSON, as they come.
async fn lines<Q, F>(query: Asked<Q>, answer: impl FnOnce(Q) -> F) -> Response
where
    F: Future<Output = Result<Reader, ApiError>>,
{
    let reader = match query {
        Ok(Query(query)) => answer(query).await,
        Err(rejection) => return no_query(&rejection).into_response(),
    };
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) => return error.into_response(),
    };
    // That the log cannot be read any more breaks the connection off.
    let chunks = stream::try_unfold(reader, async |mut reader| {
        let chunk = reader.next().await?;
        Ok::<_, io::Error>(chunk.map(|chunk| (Bytes::from(chunk), reader)))
    });
    let body = Body::from_stream(chunks);
    ([(header::CONTENT_TYPE, "application/jsonl")], body).into_response()
}

fn no_query(rejection: &QueryRejection) -> ApiError {
    ApiError::invalid(
        rejection.body_text(),
        "see the filters of \"waypost show\" (waypost help show)",
    )
}

/// The query string, or why it is none.
type Asked<T> = Result<Query<T>, QueryRejection>;

/// The JSON body of an order, or why it is none.
type Ordered<T> = Result<Json<T>, JsonRejection>;

async fn ask<Q, T, F>(query: Asked<Q>, answer: impl FnOnce(Q) -> F) -> Response
where
    T: serde::Serialize,
    F: Future<Output = Result<T, ApiError>>,
{
    match query {
        Ok(Query(query)) => reply(answer(query).await),
        Err(rejection) => no_query(&rejection).into_response(),
    }
}

async fn order<O, T, F>(body: Ordered<O>, answer: impl FnOnce(O) -> F) -> Response
where
    T: serde::Serialize,
    F: Future<Output = Result<T, ApiError>>,
{
    match body {
        Ok(Json(order)) => reply(answer(order).await),
        Err(rejection) => ApiError::invalid(
            rejection.body_text(),
            "send the JSON body that this order takes, as application/json",
        )
        .into_response(),
    }
}

fn reply<T: serde::Serialize>(answer: Result<T, ApiError>) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn unknown(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(
        format!("the API has no {method} {}", uri.path()),
        "there are GET /v1/status, peers, peer, received, learned, advertised, effective, fib, counters or events, GET \
         /metrics; POST \
         /v1/explain, reload, plan, peer, instance/stop, instance/start or stop",
    )
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self.kind {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let Self { error, remedy, .. } = self;
        (status, Json(Failure { error, remedy })).into_response()
    }
}

/// The socket's file, as this process made it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            inode: inode(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have taken the name over.
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests;
