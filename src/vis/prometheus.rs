//! The newest numbers of a run, where Prometheus asks for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{VisBackend, VisCx, VisEvent};
use crate::base::{Error, Result};
use crate::register;
use crate::registry::BuildCx;

/// Where it listens unless told otherwise.
pub const METRICS_ADDR: &str = "127.0.0.1:9464";

/// Parameters of [`PrometheusVisBackend`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PrometheusVisConfig {
    /// Address and port. Only this machine can ask at `127.0.0.1`; whoever reaches another address reads the numbers.
    pub addr: String,
}

impl Default for PrometheusVisConfig {
    fn default() -> Self {
        Self { addr: METRICS_ADDR.to_owned() }
    }
}

/// Answers `GET /metrics` with the newest value of each scalar, in Prometheus' text form. A port that is taken is a
/// warning.
pub struct PrometheusVisBackend {
    addr: SocketAddr,
    newest: Newest,
    server: Option<Server>,
    tried: bool,
}

/// Values by name.
type Newest = Arc<Mutex<BTreeMap<String, f64>>>;

impl PrometheusVisBackend {
    /// A backend that listens here from the first event on.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, newest: Newest::default(), server: None, tried: false }
    }

    fn from_config(config: PrometheusVisConfig, _: &mut BuildCx) -> Result<Self> {
        let addr = config.addr.parse();
        let addr = addr.map_err(|_| {
            let addr = &config.addr;
            Error::config(format!("`addr: {addr}` is no address with a port: write `{METRICS_ADDR}`"))
        })?;
        Ok(Self::new(addr))
    }

    fn listen(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.tried, true) {
            let server = Server::start(self.addr, Arc::clone(&self.newest));
            let refused = |why| Error::Other(format!("nobody can ask at {}: {why}", self.addr).into());
            self.server = Some(server.map_err(refused)?);
        }
        Ok(())
    }
}

impl VisBackend for PrometheusVisBackend {
    fn add(&mut self, event: &VisEvent, _: &VisCx<'_>) -> Result<()> {
        {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, value) in event.scalars() {
                newest.insert(metric(&[event.kind(), name]), value);
            }
            for key in ["epoch", "iter"] {
                let value = event.get(key).and_then(serde_json::Value::as_f64);
                newest.extend(value.map(|value| (metric(&[key]), value)));
            }
            if let kind @ ("checkpoint" | "warning") = event.kind() {
                *newest.entry(metric(&[kind, "count"])).or_insert(0.0) += 1.0;
            }
        }
        self.listen()
    }

    fn restart(&mut self) -> Result<()> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}

register! {
    /// Answers Prometheus with the newest numbers; `--metrics-addr` of `train` adds it.
    dyn VisBackend, "PrometheusVisBackend" => fn PrometheusVisBackend::from_config
}

/// A name that Prometheus takes: `shanty_val_accuracy_top1`.
fn metric(words: &[&str]) -> String {
    let name = format!("shanty_{}", words.join("_"));
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The text that is answered.
fn text(newest: &BTreeMap<String, f64>) -> String {
    let mut text = String::new();
    for (name, value) in newest {
        let value = match value {
            v if v.is_nan() => "NaN".to_owned(),
            v if v.is_infinite() => if *v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
            v => v.to_string(),
        };
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
    }
    text
}

/// A thread that answers until this is dropped.
struct Server {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long somebody who asks may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Server {
    fn start(addr: SocketAddr, newest: Newest) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        let (addr, stop) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let answer_all = move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // Who does not ask properly gets no answer.
                let _ = stream.and_then(|stream| answer(stream, &newest));
            }
        };
        let thread = std::thread::Builder::new().name("shanty-metrics".into()).spawn(answer_all)?;
        Ok(Self { addr, stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for somebody to ask.
        let woken = TcpStream::connect_timeout(&self.addr, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, newest: &Newest) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut asked, mut part) = (Vec::new(), [0; 1024]);
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") && asked.len() < 8192 {
        match stream.read(&mut part)? {
            0 => break,
            n => asked.extend(part.iter().take(n)),
        }
    }
    let is_known = asked.starts_with(b"GET /metrics ") || asked.starts_with(b"GET / ");
    let (status, body) = match is_known {
        true => ("200 OK", text(&newest.lock().unwrap_or_else(PoisonError::into_inner))),
        false => ("404 Not Found", "only /metrics is here\n".to_owned()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
