//! The server answers its own page to its own name, and nothing to anybody else.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use densenet_view::Server;

const PAGE: &str = "<!doctype html><title>a page</title>";

/// Starts a server that lives as long as the tests; returns its port.
fn start() -> u16 {
    let server = Server::bind(0)
        .unwrap()
        .with_head_timeout(Duration::from_millis(700));
    let port = server.port();
    thread::spawn(move || server.serve(PAGE.to_string()));
    port
}

/// Sends `request` and returns everything that is answered until the server closes.
fn answer(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // A server that has seen enough may close before all is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(port: u16, path: &str, host: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    answer(port, request.as_bytes())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn its_own_names_get_the_page() {
    let port = start();
    for name in ["127.0.0.1", "localhost", "LocalHost", "[::1]"] {
        let answer = get(port, "/", &format!("{name}:{port}"));
        assert_eq!(status(&answer), "200", "{name}");
        assert!(answer.ends_with(PAGE), "{answer}");
        for header in [
            "content-type: text/html; charset=utf-8",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.contains(header), "{header}: {answer}");
        }
    }
}

#[test]
fn other_names_get_nothing() {
    let port = start();
    for host in [
        "example.com".to_string(),
        format!("example.com:{port}"),
        format!("127.0.0.1.example.com:{port}"),
        "localhost".to_string(),
        format!("localhost:{}", port ^ 1),
        format!("user@localhost:{port}"),
        String::new(),
    ] {
        let answer = get(port, "/", &host);
        assert_eq!(status(&answer), "421", "{host}: {answer}");
        assert!(!answer.contains("a page"));
    }
    let two = format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n");
    assert_eq!(status(&answer(port, two.as_bytes())), "421");
    let absolute = format!("GET http://evil.example/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    assert_eq!(status(&answer(port, absolute.as_bytes())), "421");
    let old = answer(port, b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(status(&old), "421", "{old}");
}

#[test]
fn there_is_one_page_and_it_can_only_be_read() {
    let port = start();
    let host = format!("localhost:{port}");
    for path in [
        "/x",
        "/../../etc/passwd",
        "//",
        "/%2e%2e/",
        "/index.html",
        "/favicon.ico",
    ] {
        let answer = get(port, path, &host);
        assert_eq!(status(&answer), "404", "{path}: {answer}");
    }
    assert_eq!(status(&get(port, "/?query", &host)), "200");
    for method in [
        "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "WHATEVER",
    ] {
        let request = format!("{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        let answer = answer(port, request.as_bytes());
        assert_eq!(status(&answer), "405", "{method}");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
    let head = answer(
        port,
        format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(),
    );
    assert_eq!(status(&head), "200");
    assert!(
        head.contains(&format!("content-length: {}", PAGE.len())),
        "{head}"
    );
    assert!(!head.contains("a page"));
}

#[test]
fn oversized_and_broken_heads_are_refused() {
    let port = start();
    let long = format!(
        "GET / HTTP/1.1\r\nHost: localhost:{port}\r\nX: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: localhost:{port}\r\n{}\r\n",
        "X: y\r\n".repeat(1000)
    );
    for request in [
        long.as_str(),
        &many,
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        let answer = answer(port, request.as_bytes());
        assert!(!answer.contains("a page"), "{answer}");
        assert_ne!(status(&answer), "200");
    }
    // And it still works.
    assert_eq!(status(&get(port, "/", &format!("localhost:{port}"))), "200");
}

#[test]
fn slow_clients_hold_nobody_up_and_are_dropped() {
    let port = start();
    let start = Instant::now();
    let slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
            stream
        })
        .collect();
    assert_eq!(status(&get(port, "/", &format!("localhost:{port}"))), "200");
    for mut stream in slow {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut rest = Vec::new();
        // Closed, with or without a word.
        let _ = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("a page"));
    }
    assert!(start.elapsed() < Duration::from_secs(50), "never dropped");
}

#[test]
fn a_taken_port_is_left_to_its_owner() {
    let first = Server::bind(0).unwrap();
    let second = Server::bind(first.port()).unwrap();
    assert_ne!(first.port(), second.port());
    assert_eq!(second.url(), format!("http://127.0.0.1:{}/", second.port()));
    // At the end of the range there is no next port: the system chooses.
    let third = Server::bind(65535).unwrap();
    let fourth = Server::bind(65535).unwrap();
    assert_ne!(third.port(), fourth.port());
}
