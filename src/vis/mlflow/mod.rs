//! A server of MLflow is told over its REST API, by a thread of its own: a training does not wait for a server.

mod client;
mod http;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::client::{Client, Target};
use self::http::Base;
use super::{VisBackend, VisCx, VisEvent};
use crate::base::{Error, Result};
use crate::register;
use crate::registry::BuildCx;

/// Parameters of [`MLflowVisBackend`].
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MLflowVisConfig {
    /// The server: `http://127.0.0.1:5000`. Needed, unless the environment's `MLFLOW_TRACKING_URI` says it.
    #[schemars(extend("examples" = ["http://127.0.0.1:5000"]))]
    pub tracking_uri: Option<String>,
    /// The experiment, which is made if it is not there; `Default` if absent.
    pub exp_name: Option<String>,
    /// The run's name there; the experiment's name with the time of day if absent.
    pub run_name: Option<String>,
    /// Tags of the run.
    pub tags: BTreeMap<String, String>,
    /// The top-level keys of the config whose values are parameters; all if absent.
    pub tracked_config_keys: Option<Vec<String>>,
}

/// Tells MLflow scalars as metrics and the config as parameters. A run that goes on goes on there too.
pub struct MLflowVisBackend {
    target: Target,
    worker: Option<Worker>,
    /// Events that the thread did not hear of.
    dropped: u64,
}

struct Worker {
    events: Sender<VisEvent>,
    /// What went wrong and was not told yet.
    failed: Arc<Mutex<Option<String>>>,
    /// Events that the server has not, since it was asked last.
    held: Arc<AtomicU64>,
    /// The end of the run is told.
    ended: Receiver<()>,
    _thread: JoinHandle<()>,
}

/// How long the end of a run waits for the server.
const LAST: Duration = Duration::from_secs(20);
/// Events that wait for the thread.
const QUEUE: usize = 4096;

impl MLflowVisBackend {
    fn from_config(config: MLflowVisConfig, _: &mut BuildCx) -> Result<Self> {
        let uri = config.tracking_uri.or_else(|| std::env::var("MLFLOW_TRACKING_URI").ok());
        let uri = uri.ok_or_else(|| {
            let text =
                "`tracking_uri` is missing: the address of a server of MLflow, `http://127.0.0.1:5000`";
            Error::config(text)
        })?;
        let target = Target {
            base: Base::parse(&uri)?,
            exp_name: config.exp_name.unwrap_or_else(|| "Default".to_owned()),
            run_name: config.run_name,
            tags: config.tags,
            tracked: config.tracked_config_keys.unwrap_or_default(),
        };
        Ok(Self { target, worker: None, dropped: 0 })
    }

    fn worker(&mut self) -> Result<&Worker> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(Client::new(self.target.clone()))?,
        };
        Ok(self.worker.insert(worker))
    }
}

impl Worker {
    fn start(client: Client) -> Result<Self> {
        let (events, to_send) = bounded(QUEUE);
        let (told, ended) = bounded(1);
        let (failed, held) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(0)));
        let (failures, holds) = (Arc::clone(&failed), Arc::clone(&held));
        let thread = std::thread::Builder::new().name("shanty-mlflow".to_owned());
        let thread = thread.spawn(move || work(client, &to_send, &told, &failures, &holds));
        let thread = thread.map_err(|why| Error::Other(why.into()))?;
        Ok(Self { events, failed, held, ended, _thread: thread })
    }
}

/// Sends what comes, together what comes together. A server that is gone is asked again after a while.
fn work(
    mut client: Client,
    events: &Receiver<VisEvent>,
    told: &Sender<()>,
    failed: &Mutex<Option<String>>,
    held: &AtomicU64,
) {
    let (mut pause, mut again, mut waits) = (Duration::ZERO, Instant::now(), false);
    loop {
        let first = match events.recv_timeout(Duration::from_secs(1)) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) if waits => None,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut end = None;
        for event in first.into_iter().chain(events.try_iter()) {
            client.take(&event);
            end = Some(event).filter(|event| event.kind() == "end").or(end);
        }
        waits = true;
        if end.is_none() && Instant::now() < again {
            continue;
        }
        // All of it, for one who does not wait until the server has answered.
        held.store(client.held() + u64::from(end.is_some()), Ordering::Relaxed);
        let sent = match &end {
            Some(event) => client.end(event),
            None => client.flush(),
        };
        waits = sent.is_err();
        // The end is not told again.
        held.store(client.held() + u64::from(waits && end.is_some()), Ordering::Relaxed);
        pause = if waits {
            (pause * 2).clamp(Duration::from_secs(2), Duration::from_secs(600))
        } else {
            Duration::ZERO
        };
        again = Instant::now() + pause;
        *failed.lock().unwrap_or_else(PoisonError::into_inner) = sent.err().map(|why| why.to_string());
        if end.is_some() {
            // Nobody waits if it took too long.
            let _ = told.try_send(());
        }
    }
}

impl VisBackend for MLflowVisBackend {
    fn add(&mut self, event: &VisEvent, _: &VisCx<'_>) -> Result<()> {
        let ends = event.kind() == "end";
        if !(event.has_scalars() || ends || event.kind() == "run") {
            return Ok(());
        }
        let worker = self.worker()?;
        if worker.events.try_send(event.clone()).is_err() {
            self.dropped += 1;
            return Err(Error::Other("the server is too slow".into()));
        }
        if ends && worker.ended.recv_timeout(LAST).is_err() {
            return Err(Error::Other("the server does not answer: what it lacks is in the event log".into()));
        }
        match worker.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(why) if ends => Err(Error::Other(format!("{why}; it lacks what was not sent").into())),
            Some(why) => Err(Error::Other(format!("{why}; it is asked again").into())),
            None => Ok(()),
        }
    }

    /// What the server was told it keeps.
    fn restart(&mut self) -> Result<()> {
        Ok(())
    }

    fn held(&self) -> Option<u64> {
        let worker = self.worker.as_ref()?;
        // What waits for the thread it has not counted.
        let queued = worker.events.len() as u64;
        Some(worker.held.load(Ordering::Relaxed) + queued + self.dropped)
    }
}

register! {
    /// Tells a server of MLflow over its REST API: scalars as metrics, the config as parameters.
    dyn VisBackend, "MLflowVisBackend" => fn MLflowVisBackend::from_config
}
