//! How requests go to the store: HTTP/1.1 over rustls on ring, with limits of time. `object_store` makes and signs them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};

/// A connection must stand after so long.
const CONNECT: Duration = Duration::from_secs(5);

/// An answer must begin so long after the request...
const ANSWER: Duration = Duration::from_secs(15);

/// ...and so much later for each of its bytes: as if they took a line of 256 kbit/s.
const BYTES_PER_SECOND: u64 = 32 << 10;

/// The time that a body of so many bytes may take.
pub fn allowance(bytes: u64) -> Duration {
    ANSWER + Duration::from_secs(bytes / BYTES_PER_SECOND)
}

/// Connections to the store, kept as long as somebody has a clone.
#[derive(Debug, Clone)]
pub struct Connections(Client<HttpsConnector<Tcp>, HttpRequestBody>);

impl Connections {
    /// With the certificates that this system trusts (or those that `SSL_CERT_FILE` names). The error says why there are
    /// none.
    pub fn new() -> io::Result<Self> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self(Client::builder(TokioExecutor::new()).build(https)))
    }

    /// As `object_store` takes them.
    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.clone())
    }
}

impl HttpConnector for Connections {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client())
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Connections {
    fn call<'s, 'a>(&'s self, request: HttpRequest) -> Answer<'a>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let limit = allowance(u64::try_from(request.body().content_length()).unwrap_or(u64::MAX));
            let answer = match tokio::time::timeout(limit, self.0.request(request)).await {
                Ok(answer) => answer.map_err(of_client)?,
                Err(elapsed) => return Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
            };
            let (head, body) = answer.into_parts();
            let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
            Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
        })
    }
}

fn of_client(error: Error) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error)
}
