//! A server of MLflow is told over its REST API, by a thread of its own: a training does not wait for a server.

mod artifacts;
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

use self::artifacts::Artifact;
use self::client::{Client, Target};
use self::http::Base;
use super::{VisBackend, VisCx, VisEvent};
use crate::base::{Error, Result};
use crate::config::{OneOrMany, check_ranges};
use crate::register;
use crate::registry::BuildCx;

/// Parameters of [`MLflowVisBackend`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    /// Further parameters of the run.
    pub params: BTreeMap<String, serde_json::Value>,
    /// The top-level keys of the config whose values are parameters; all if absent.
    pub tracked_config_keys: Option<Vec<String>>,
    /// Files of the work_dir whose names end so are sent at the end of a run; `.safetensors` adds the weights. None if
    /// the list is empty.
    pub artifact_suffix: OneOrMany<String>,
    /// Where an experiment that is made keeps its artifacts; the server chooses if absent.
    pub artifact_location: Option<String>,
    /// Accepted without effect: the folder in which MMEngine's keeps a run without a server.
    pub save_dir: Option<String>,
    /// Seconds that the ends of a run wait for the server, all together.
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub timeout: f64,
}

impl Default for MLflowVisConfig {
    fn default() -> Self {
        Self {
            tracking_uri: None,
            exp_name: None,
            run_name: None,
            tags: BTreeMap::new(),
            params: BTreeMap::new(),
            tracked_config_keys: None,
            artifact_suffix: OneOrMany([".json", ".log", ".yaml", ".py"].map(str::to_owned).to_vec()),
            artifact_location: None,
            save_dir: None,
            timeout: 10.0,
        }
    }
}

/// Tells MLflow scalars as metrics and the config as parameters, and sends files at the end. A run that goes on goes on
/// there too.
pub struct MLflowVisBackend {
    target: Target,
    artifact_suffix: Vec<String>,
    /// What is left of the time that the ends of the run wait.
    patience: Duration,
    worker: Option<Worker>,
    /// Events that the thread did not hear of.
    dropped: u64,
}

struct Worker {
    /// With the files to be sent behind an end.
    events: Sender<(VisEvent, Vec<Artifact>)>,
    /// What went wrong and was not told yet.
    failed: Arc<Mutex<Option<String>>>,
    /// Events that the server has not, since it was asked last.
    held: Arc<AtomicU64>,
    /// The end of the run is told.
    ended: Receiver<()>,
    _thread: JoinHandle<()>,
}

/// Events that wait for the thread.
const QUEUE: usize = 4096;

impl MLflowVisBackend {
    fn from_config(config: MLflowVisConfig, _: &mut BuildCx) -> Result<Self> {
        check_ranges(&config)?;
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
            params: config.params,
            artifact_location: config.artifact_location,
        };
        let patience =
            Duration::try_from_secs_f64(config.timeout).map_err(|why| Error::config(why.to_string()))?;
        Ok(Self { target, artifact_suffix: config.artifact_suffix.0, patience, worker: None, dropped: 0 })
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
    events: &Receiver<(VisEvent, Vec<Artifact>)>,
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
        for (event, files) in first.into_iter().chain(events.try_iter()) {
            client.take(&event);
            end = Some((event, files)).filter(|(event, _)| event.kind() == "end").or(end);
        }
        waits = true;
        if end.is_none() && Instant::now() < again {
            continue;
        }
        // All of it, for one who does not wait until the server has answered.
        held.store(client.held() + u64::from(end.is_some()), Ordering::Relaxed);
        let sent = match &end {
            Some((event, _)) => client.end(event),
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
        let say = |what: Option<String>| *failed.lock().unwrap_or_else(PoisonError::into_inner) = what;
        let again_asked = if end.is_none() { "; it is asked again" } else { "" };
        let why = sent.err().map(|why| format!("{why}{again_asked}")).or_else(|| client.left_out());
        if let Some((_, files)) = end {
            // Until they are there it lacks them, and a server that is gone takes none.
            say(why
                .clone()
                .or_else(|| Some(format!("the files of the run, {} of them, are under way", files.len()))));
            say(why.or_else(|| client.send(&files).err().map(|why| why.to_string())));
            // Nobody waits if it took too long.
            let _ = told.try_send(());
        } else {
            say(why);
        }
    }
}

impl VisBackend for MLflowVisBackend {
    fn add(&mut self, event: &VisEvent, cx: &VisCx<'_>) -> Result<()> {
        let ends = event.kind() == "end";
        if !(event.has_scalars() || ends || event.kind() == "run") {
            return Ok(());
        }
        let files = if ends { artifacts::found(cx, &self.artifact_suffix) } else { Vec::new() };
        let patience = self.patience;
        let worker = self.worker()?;
        // Of an end that was not waited for.
        while worker.ended.try_recv().is_ok() {}
        if worker.events.try_send((event.clone(), files)).is_err() {
            self.dropped += 1;
            return Err(Error::Other("the server is too slow".into()));
        }
        let began = Instant::now();
        let late = ends && worker.ended.recv_timeout(patience).is_err();
        let why = worker.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.patience = if ends { patience.saturating_sub(began.elapsed()) } else { patience };
        if late {
            let why = why.unwrap_or_else(|| "what it lacks is in the event log".into());
            let text = format!("the server was not done in time (`timeout`): {why}");
            return Err(Error::Other(text.into()));
        }
        match why {
            Some(why) if ends => Err(Error::Other(format!("{why}; it lacks what was not sent").into())),
            Some(why) => Err(Error::Other(why.into())),
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
    /// Tells a server of MLflow over its REST API: scalars as metrics, the config as parameters, files as artifacts.
    dyn VisBackend, "MLflowVisBackend" => fn MLflowVisBackend::from_config
}
