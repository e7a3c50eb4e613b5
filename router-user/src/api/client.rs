//! The command line's end of the socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, task::JoinHandle};

use super::types::Failure;

/// Speaks to the daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no daemon answers on {0}; start one (waypost run --config FILE) or name its socket (--socket PATH)"
    )]
    NoDaemon(PathBuf),
    /// The socket's permissions.
    #[error("not allowed to use {0}; run as its owner or a member of its group, or with sudo")]
    Forbidden(PathBuf),
    /// The daemon refused.
    #[error("{}; {}", .0.error, .0.remedy)]
    Refused(Failure),
    /// The connection broke, or what came back was no answer.
    #[error(
        "the daemon on {socket} did not answer properly: {reason}; see its log, and whether it is of this version"
    )]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

impl Client {
    /// A client of the daemon behind `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Asks for `path`, for example `/v1/peers`, with a filter.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        filter: &impl Serialize,
    ) -> Result<T, ClientError> {
        let query = serde_urlencoded::to_string(filter).map_err(|error| self.broken(&error))?;
        self.request(Method::GET, &format!("{path}?{query}"), Bytes::new())
            .await
    }

    /// Sends an order to `path`, for example `/v1/reload`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        order: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(order).map_err(|error| self.broken(&error))?;
        self.request(Method::POST, path, body.into()).await
    }

    /// Asks for `path` and hands on the answer as it comes, until there is no more of it or `take`
    /// says `false`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn stream(
        &self,
        path: &str,
        filter: &impl Serialize,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), ClientError> {
        let query = serde_urlencoded::to_string(filter).map_err(|error| self.broken(&error))?;
        let path = format!("{path}?{query}");
        let (response, _connection) = self.send(Method::GET, &path, Bytes::new()).await?;
        let status = response.status();
        let mut body = response.into_body();
        if status != StatusCode::OK {
            let body = body.collect().await.map_err(|error| self.broken(&error))?;
            return Err(self.refused(status, &body.to_bytes()));
        }
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if frame.data_ref().is_some_and(|data| !take(data)) {
                break;
            }
        }
        Ok(())
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let (response, _connection) = self.send(method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| self.broken(&error))?.to_bytes();
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(|error| self.broken(&error)),
            _ => Err(self.refused(status, &body)),
        }
    }

    /// Sends a request; what comes back holds as long as the connection is kept.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        let connection = Connection(tokio::spawn(async {
            // What breaks it is seen by whoever waits for the answer.
            let _ = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))?;
        Ok((response, connection))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice(body) {
            Ok(failure) => ClientError::Refused(failure),
            Err(_) => self.broken(&format_args!("HTTP status {status}")),
        }
    }

    fn unreachable(&self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(self.socket.clone()),
            _ => self.broken(&error),
        }
    }

    fn broken(&self, reason: &impl std::fmt::Display) -> ClientError {
        ClientError::Broken {
            socket: self.socket.clone(),
            reason: reason.to_string(),
        }
    }
}

/// The task that drives a connection; ends with this.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}
