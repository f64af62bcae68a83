//! A GET as a scraper sends it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// The status and the body of `http://<endpoint><path>`.
///
/// # Errors
/// What was tried and why it failed.
pub fn get(endpoint: &str, path: &str) -> Result<(u16, String), String> {
    let tried = |e: std::io::Error| format!("GET http://{endpoint}{path}: {e}");
    let mut stream = TcpStream::connect(endpoint).map_err(tried)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(tried)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n"
    )
    .map_err(tried)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(tried)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("GET http://{endpoint}{path}: no HTTP: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| format!("GET http://{endpoint}{path}: {head:?}"))?;
    Ok((status, body.to_owned()))
}
