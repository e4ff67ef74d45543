//! As much of HTTP as a server of MLflow is asked with: one request a connection, JSON or the bytes of a file, no TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::base::{Error, Result};

/// How long a server may take for all of an exchange, however often it gives a sign of life.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes a second that a slow net takes of a file: the patience is longer by so much.
const SLOW: u64 = 1 << 20;
/// No answer that is waited for is longer.
const LONGEST: u64 = 64 << 20;

/// Where a server is: `http://127.0.0.1:5000/prefix`.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// Host and port.
    authority: String,
    prefix: String,
}

/// What is sent.
enum Body<'a> {
    None,
    Json(&'a Value),
    File(&'a [u8]),
}

impl Base {
    /// # Errors
    /// What is no address of a server that can be asked without TLS.
    pub fn parse(uri: &str) -> Result<Self> {
        let wrong = |why: &str| Error::config(format!("`tracking_uri: {uri}`: {why}"));
        let rest = match uri.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err(wrong("there is no TLS here: put a proxy on this machine in between"));
            }
            _ => return Err(wrong("write the address of a server, `http://127.0.0.1:5000`")),
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '@';
        if authority.is_empty() || uri.contains(odd) {
            return Err(wrong("write the address of a server, `http://127.0.0.1:5000`"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority, prefix: prefix.trim_end_matches('/').to_owned() })
    }

    /// Asks; `body` makes it a POST. The status and the answer.
    ///
    /// # Errors
    /// A server that is not there, is too slow, or answers something else.
    pub fn ask(&self, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let (method, body) = body.map_or(("GET", Body::None), |body| ("POST", Body::Json(body)));
        self.answer(method, &format!("api/2.0/mlflow/{path}"), &body)
    }

    /// Puts a file among the artifacts that the server keeps.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn put(&self, path: &str, file: &[u8]) -> Result<(u16, Value)> {
        self.answer("PUT", &format!("api/2.0/mlflow-artifacts/artifacts/{path}"), &Body::File(file))
    }

    fn answer(&self, method: &str, path: &str, body: &Body<'_>) -> Result<(u16, Value)> {
        let failed = |why: String| Error::Other(format!("http://{}: {why}", self.authority).into());
        let answer = self.exchange(method, path, body).map_err(|why| failed(why.to_string()))?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| failed("this is no answer of a web server".into()))?;
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    fn exchange(&self, method: &str, path: &str, body: &Body<'_>) -> io::Result<Vec<u8>> {
        let mut addresses = self.authority.to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| io::Error::other("this host has no address"))?;
        let text = match body {
            Body::Json(body) => body.to_string(),
            _ => String::new(),
        };
        let (kind, bytes) = match body {
            Body::File(bytes) => ("application/octet-stream", *bytes),
            _ => ("application/json", text.as_bytes()),
        };
        let patience = PATIENCE + Duration::from_secs(bytes.len() as u64 / SLOW);
        let limit = Instant::now() + patience;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        let (prefix, slash) = (&self.prefix, if self.prefix.is_empty() { "" } else { "/" });
        // Of version 1.0, so that the answer comes in one piece and ends with the connection.
        let head = format!(
            "{method} {slash}{prefix}/{path} HTTP/1.0\r\nHost: {}\r\nContent-Type: {kind}\r\n\
             Accept: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.authority,
            bytes.len()
        );
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(bytes)?;
        read_until(&mut stream, limit, patience)
    }
}

/// The answer, if all of it comes in time: a server that trickles is a server that is too slow.
fn read_until(stream: &mut TcpStream, limit: Instant, patience: Duration) -> io::Result<Vec<u8>> {
    let (mut answer, mut part) = (Vec::new(), [0; 1 << 14]);
    let late = || {
        let text = format!("it has not answered within {} seconds", patience.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(answer),
            Ok(_) if answer.len() as u64 >= LONGEST => return Ok(answer),
            Ok(n) => answer.extend(part.iter().take(n)),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(late());
            }
            Err(why) => return Err(why),
        }
    }
}

/// A text within an address.
pub(super) fn quoted(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte was a sign of life, and such an answer was waited for without end.
    #[test]
    fn a_server_that_trickles_is_too_slow() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let trickle = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {}
        });
        let mut stream = TcpStream::connect(addr).unwrap();
        let patience = Duration::from_millis(50);
        let read = read_until(&mut stream, Instant::now() + patience, patience);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(stream);
        trickle.join().unwrap();
    }
}
