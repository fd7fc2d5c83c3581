//! The page, and nothing else, on the loopback address.
//!
//! Hyper speaks HTTP: it bounds the size of a request's head and the time it may take to arrive. On top of that a
//! connection answers one request and lives for a bounded time, and only so many are open at once.
//!
//! # Who may ask
//! A page on the internet can make a browser send requests to the loopback address under a name of its own (DNS
//! rebinding). So the `Host` header must name this server: `localhost`, `127.0.0.1` or `[::1]`, with its port.

use std::{
    convert::Infallible,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{runtime, sync::Semaphore, time};

use crate::ViewError;

/// A listener on the loopback address, ready to serve a page.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    port: u16,
    head_timeout: Duration,
}

/// A request's head, from its first byte to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole connection: enough for a large page on a busy machine.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// The bytes a request's head may have; browsers send less than 2 KiB.
const MOST_HEAD_BYTES: usize = 16 << 10;
const MOST_HEADERS: usize = 64;
const MOST_CONNECTIONS: usize = 32;
/// Ports tried one after the other before the system chooses one.
const PORTS: u16 = 20;

impl Server {
    /// Listens on `port` of 127.0.0.1, or the next one that is free. Port 0 lets the system choose.
    ///
    /// # Errors
    /// The system lets nobody listen on the loopback address.
    pub fn bind(port: u16) -> Result<Self, ViewError> {
        let candidates = (0..PORTS).filter_map(|more| port.checked_add(more));
        let mut listener = Err(io::Error::from(ErrorKind::AddrInUse));
        for candidate in candidates.chain([0]) {
            listener = TcpListener::bind((Ipv4Addr::LOCALHOST, candidate));
            let taken = |e: &io::Error| {
                matches!(e.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied)
            };
            match &listener {
                Err(error) if taken(error) => {}
                _ => break,
            }
        }
        let failed = |action| {
            move |cause| ViewError::Serve {
                port,
                action,
                cause,
                cure: "write the page to a file with --html",
            }
        };
        let listener = listener.map_err(failed("listen on the loopback address"))?;
        let setup = listener
            .set_nonblocking(true)
            .and_then(|()| listener.local_addr());
        let port = setup
            .map_err(failed("set up the listener"))
            .map(|address: SocketAddr| address.port())?;
        Ok(Server {
            listener,
            port,
            head_timeout: HEAD_TIMEOUT,
        })
    }

    /// Gives a request's head this long to arrive.
    pub fn with_head_timeout(mut self, timeout: Duration) -> Self {
        self.head_timeout = timeout;
        self
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:8080/`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Serves `page` until the process is told to stop. Returns the signal's number: 2 for Ctrl-C, 15 for SIGTERM.
    ///
    /// # Errors
    /// The system refuses to wait for connections or signals.
    pub fn serve(self, page: String) -> Result<u8, ViewError> {
        let port = self.port;
        let failed = |action| {
            move |cause| ViewError::Serve {
                port,
                action,
                cause,
                cure: "write the page to a file with --html",
            }
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("start the server"))?;
        let signal = runtime
            .block_on(self.answer_until_told(Arc::new(Site::new(page, port))))
            .map_err(failed("wait for connections"))?;
        // Whoever is still being answered has had the time of a page.
        runtime.shutdown_timeout(Duration::from_millis(200));
        Ok(signal)
    }

    async fn answer_until_told(self, site: Arc<Site>) -> io::Result<u8> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut told = Signals::new()?;
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let accepted = async {
                let place = place.await;
                (listener.accept().await, place)
            };
            let (stream, place) = tokio::select! {
                signal = told.next() => return Ok(signal),
                (stream, place) = accepted => (stream, place),
            };
            let Ok((stream, _)) = stream else {
                // Out of file descriptors, or a client that has left: others may have better luck a little later.
                time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let site = Arc::clone(&site);
            let mut connection = http1::Builder::new();
            connection
                .timer(TokioTimer::new())
                .header_read_timeout(self.head_timeout)
                .max_buf_size(MOST_HEAD_BYTES)
                .max_headers(MOST_HEADERS)
                .keep_alive(false);
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = site.answer(request.method(), request.uri(), request.headers());
                    async move { Ok::<_, Infallible>(answer) }
                });
                let served = connection.serve_connection(TokioIo::new(stream), service);
                // A client that breaks the rules or the connection is its own problem.
                let _ = time::timeout(CONNECTION_TIMEOUT, served).await;
                drop(place);
            });
        }
    }
}

/// The requests to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Signals {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> u8 {
        let _ = tokio::signal::ctrl_c().await;
        2
    }
}

/// The one page and the names it goes by.
struct Site {
    page: Bytes,
    hosts: [String; 3],
}

impl Site {
    fn new(page: String, port: u16) -> Self {
        let hosts = ["127.0.0.1", "localhost", "[::1]"];
        Site {
            page: Bytes::from(page),
            hosts: hosts.map(|name| format!("{name}:{port}")),
        }
    }

    fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Full<Bytes>> {
        if !self.is_own_host(uri, headers) {
            return refusal(
                StatusCode::MISDIRECTED_REQUEST,
                "This server answers only to its own name.\n",
            );
        }
        if uri.path() != "/" {
            return refusal(StatusCode::NOT_FOUND, "There is one page: /\n");
        }
        let body = match *method {
            Method::GET => self.page.clone(),
            Method::HEAD => Bytes::new(),
            _ => {
                let mut response = refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "The page can be read: GET.\n",
                );
                let allowed = HeaderValue::from_static("GET, HEAD");
                response.headers_mut().insert(header::ALLOW, allowed);
                return response;
            }
        };
        let mut response = plain(StatusCode::OK, "text/html; charset=utf-8", body);
        if *method == Method::HEAD {
            let length = HeaderValue::from(self.page.len());
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
        }
        response
    }

    /// Exactly one `Host` header, with one of the own names; the same for a target with a host of its own.
    fn is_own_host(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let own = |name: &str| {
            self.hosts
                .iter()
                .any(|host| host.eq_ignore_ascii_case(name))
        };
        let mut given = headers.get_all(header::HOST).iter();
        let (first, second) = (given.next(), given.next());
        let first = first.and_then(|host| host.to_str().ok());
        first.is_some_and(own)
            && second.is_none()
            && uri.authority().is_none_or(|host| own(host.as_str()))
    }
}

fn refusal(status: StatusCode, why: &'static str) -> Response<Full<Bytes>> {
    plain(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(why.as_bytes()),
    )
}

fn plain(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 8] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
