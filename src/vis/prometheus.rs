//! The newest numbers of a run, where Prometheus asks for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
/// warning; it is tried again at each event, since whoever has it may end.
pub struct PrometheusVisBackend {
    addr: SocketAddr,
    newest: Newest,
    server: Option<Server>,
    /// Events of which nobody could ask.
    unheard: u64,
}

/// Values by name.
type Newest = Arc<Mutex<BTreeMap<String, f64>>>;

impl PrometheusVisBackend {
    /// A backend that listens here from the first event on.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, newest: Newest::default(), server: None, unheard: 0 }
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
        if self.server.is_some() {
            return Ok(());
        }
        match Server::start(self.addr, Arc::clone(&self.newest)) {
            // The newest numbers are all that is asked for: who comes late lacks nothing.
            Ok(server) => (self.server, self.unheard) = (Some(server), 0),
            Err(why) => {
                self.unheard += 1;
                if self.unheard == 1 {
                    let text = format!("nobody can ask at {}: {why}; it is tried again", self.addr);
                    return Err(Error::Other(text.into()));
                }
            }
        }
        Ok(())
    }
}

impl VisBackend for PrometheusVisBackend {
    fn add(&mut self, event: &VisEvent, _: &VisCx<'_>) -> Result<()> {
        {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, value) in event.scalars() {
                // A name may have its mode already.
                let own = name.strip_prefix(event.kind()).and_then(|name| name.strip_prefix('/'));
                newest.insert(metric(&[event.kind(), own.unwrap_or(name)]), value);
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

    fn held(&self) -> Option<u64> {
        Some(self.unheard)
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

/// How long somebody who asks may take for all of it, however often they give a sign of life.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon the end of the run is noticed by who waits for a question.
const LOOK: Duration = Duration::from_millis(50);

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
                let _ = stream.and_then(|stream| answer(stream, &newest, &stopped));
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

/// What is asked, unless it takes too long or the run ends meanwhile.
fn question(stream: &mut TcpStream, stopped: &AtomicBool) -> io::Result<Vec<u8>> {
    let (mut asked, mut part) = (Vec::new(), [0; 1024]);
    let limit = Instant::now() + PATIENCE;
    stream.set_read_timeout(Some(LOOK))?;
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") && asked.len() < 8192 {
        if stopped.load(Ordering::Relaxed) || Instant::now() >= limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => asked.extend(part.iter().take(n)),
            Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(asked)
}

fn answer(mut stream: TcpStream, newest: &Newest, stopped: &AtomicBool) -> io::Result<()> {
    let asked = question(&mut stream, stopped)?;
    stream.set_write_timeout(Some(PATIENCE))?;
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
