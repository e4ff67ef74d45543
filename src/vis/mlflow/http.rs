//! As much of HTTP as a server of MLflow is asked with: one request a connection, JSON both ways, no TLS.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::base::{Error, Result};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer that is waited for is longer.
const LONGEST: u64 = 64 << 20;

/// Where a server is: `http://127.0.0.1:5000/prefix`.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// Host and port.
    authority: String,
    prefix: String,
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
        let failed = |why: String| Error::Other(format!("http://{}: {why}", self.authority).into());
        let answer = self.exchange(path, body).map_err(|why| failed(why.to_string()))?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| failed("this is no answer of a web server".into()))?;
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    fn exchange(&self, path: &str, body: Option<&Value>) -> std::io::Result<Vec<u8>> {
        let mut addresses = self.authority.to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| std::io::Error::other("this host has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string);
        let method = if body.is_some() { "POST" } else { "GET" };
        let (body, prefix) = (body.unwrap_or_default(), &self.prefix);
        let slash = if prefix.is_empty() { "" } else { "/" };
        // Of version 1.0, so that the answer comes in one piece and ends with the connection.
        let head = format!(
            "{method} {slash}{prefix}/api/2.0/mlflow/{path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer)?;
        Ok(answer)
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
