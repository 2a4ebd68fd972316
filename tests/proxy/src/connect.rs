//! An HTTP proxy as companies have them: it leads nowhere but by `CONNECT`, resolves names itself, and may want a password.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::Uri;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::PROXY_AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::debug;

/// How long a proxy that is dropped has to end its connections.
const END: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub listen: SocketAddr,
    /// What every name means. Absent: this machine, at the address that the client came to and the port that it asks for.
    pub leads_to: Option<SocketAddr>,
    /// The header that a client must send.
    pub authorization: Option<String>,
    /// What every `CONNECT` is answered with instead.
    pub declines: Option<StatusCode>,
}

impl ConnectOptions {
    /// Leads everybody to this machine.
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            leads_to: None,
            authorization: None,
            declines: None,
        }
    }
}

/// A running proxy, on a thread of its own. Its connections end when it is dropped.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    asked: Asked,
    _running: DropGuard,
}

type Asked = Arc<Mutex<Vec<String>>>;

impl ConnectProxy {
    /// # Errors
    /// It cannot listen there.
    pub fn start(options: ConnectOptions) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (token, asked) = (CancellationToken::new(), Asked::default());
        let (until, heard) = (token.clone(), Arc::clone(&asked));
        std::thread::spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, Arc::new(options), &heard, &until)) {
                debug!(%error, "the proxy ended");
            }
            runtime.shutdown_timeout(END);
        });
        Ok(Self {
            address,
            asked,
            _running: token.drop_guard(),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients that were let pass wanted to go, as they wrote it, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    listener: std::net::TcpListener,
    options: Arc<ConnectOptions>,
    asked: &Asked,
    token: &CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let connections = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = token.cancelled() => return Ok(()),
        };
        let own = socket.local_addr()?;
        let (options, asked, tasks) = (Arc::clone(&options), Arc::clone(asked), connections.clone());
        let service = service_fn(move |request| {
            let (options, asked, tasks) = (Arc::clone(&options), Arc::clone(&asked), tasks.clone());
            async move { Ok::<_, hyper::Error>(answer(request, own, &options, &asked, &tasks).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        connections.spawn(async move {
            if let Err(error) = serving.await {
                debug!(%error, "a client of the proxy ended");
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    own: SocketAddr,
    options: &ConnectOptions,
    asked: &Asked,
    tasks: &TaskTracker,
) -> Response<Empty<Bytes>> {
    let with = |status| {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::CONNECT {
        return with(StatusCode::METHOD_NOT_ALLOWED);
    }
    let shown = request.headers().get(PROXY_AUTHORIZATION);
    if let Some(wanted) = &options.authorization
        && shown.is_none_or(|shown| shown != wanted.as_str())
    {
        return with(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    }
    if let Some(status) = options.declines {
        return with(status);
    }
    let uri: &Uri = request.uri();
    let Some(port) = uri.port_u16() else {
        return with(StatusCode::BAD_REQUEST);
    };
    let to = options
        .leads_to
        .unwrap_or_else(|| SocketAddr::new(own.ip(), port));
    let Ok(mut far) = TcpStream::connect(to).await else {
        return with(StatusCode::BAD_GATEWAY);
    };
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(uri.to_string());
    tasks.spawn(async move {
        let passed = async {
            let near = hyper::upgrade::on(request).await.map_err(io::Error::other)?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut far).await
        };
        if let Err(error) = passed.await {
            debug!(%error, "what passed the proxy ended");
        }
    });
    with(StatusCode::OK)
}
