//! One run on a server of MLflow.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::artifacts::{self, Artifact};
use super::http::{Base, quoted};
use crate::base::{Error, Result};
use crate::config::{Kind, Node, parse};
use crate::vis::{VisEvent, to_json};

/// The most metrics, and the most parameters, of one request.
const METRICS: usize = 1000;
const PARAMS: usize = 100;
/// The most that waits for a server.
const WAITING: usize = 200_000;
/// The tag by which a run that goes on finds itself.
const TAG: &str = "shanty.run";

/// Parameters of the run there.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub base: Base,
    pub exp_name: String,
    pub run_name: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// Keys of the config whose values are parameters; all if none is named.
    pub tracked: Vec<String>,
    /// Further parameters.
    pub params: BTreeMap<String, Value>,
    /// Where a new experiment keeps its artifacts; the server chooses if absent.
    pub artifact_location: Option<String>,
}

/// What is to be sent, and what the server has.
pub(super) struct Client {
    target: Target,
    /// How the run began.
    begin: Option<VisEvent>,
    run_id: Option<String>,
    /// The last step of each metric that the server has.
    sent: BTreeMap<String, u64>,
    /// Key, value, milliseconds since 1970, step.
    waiting: Vec<(String, f64, u64, u64)>,
    lost: u64,
    /// Events of which something was lost.
    short: u64,
}

impl Client {
    pub fn new(target: Target) -> Self {
        let (sent, waiting) = (BTreeMap::new(), Vec::new());
        Self { target, begin: None, run_id: None, sent, waiting, lost: 0, short: 0 }
    }

    /// Takes an event to be sent.
    pub fn take(&mut self, event: &VisEvent) {
        if event.kind() == "run" {
            self.begin = Some(event.clone());
        }
        let prefix = if event.kind() == "test" { "test/" } else { "" };
        let before = self.lost;
        for (name, value) in event.scalars() {
            if self.waiting.len() >= WAITING {
                self.lost += 1;
                continue;
            }
            // Of other characters the server takes none in a name.
            let plain = |c: char| if c.is_alphanumeric() || "_-./ ".contains(c) { c } else { '_' };
            let key: String = format!("{prefix}{name}").chars().map(plain).take(250).collect();
            self.waiting.push((key, value, (event.wall_time() * 1e3) as u64, event.step()));
        }
        self.short += u64::from(self.lost > before);
    }

    /// Events that the server has not, or not whole.
    pub fn held(&self) -> u64 {
        // Those of one event stand together.
        let events = self.waiting.chunk_by(|(.., at, step), (.., next, own)| (at, step) == (next, own));
        events.count() as u64 + self.short
    }

    /// Sends what waits. What the server has already, of a run that was cut and goes on, is not sent again.
    ///
    /// # Errors
    /// Why it waits on.
    pub fn flush(&mut self) -> Result<()> {
        let run_id = self.run()?;
        while !self.waiting.is_empty() {
            let part = self.waiting.len().min(METRICS);
            let new = |(key, .., step): &&(String, f64, u64, u64)| {
                self.sent.get(key).is_none_or(|sent| step > sent)
            };
            let batch: Vec<_> = self.waiting.iter().take(part).filter(new).cloned().collect();
            if !batch.is_empty() {
                let metric = |(key, value, timestamp, step): &(String, f64, u64, u64)| json!({"key": key, "value": to_json(*value), "timestamp": timestamp, "step": step});
                let metrics: Vec<_> = batch.iter().map(metric).collect();
                self.post("runs/log-batch", json!({"run_id": run_id, "metrics": metrics}))?;
            }
            self.waiting.drain(..part);
            self.sent.extend(batch.into_iter().map(|(key, .., step)| (key, step)));
        }
        match std::mem::take(&mut self.lost) {
            0 => Ok(()),
            lost => {
                Err(Error::Other(format!("{lost} scalars came while {WAITING} waited for the server").into()))
            }
        }
    }

    /// Says how the run ended.
    ///
    /// # Errors
    /// A server that is not there.
    pub fn end(&mut self, event: &VisEvent) -> Result<()> {
        self.flush()?;
        let status = match event.text("reason") {
            "failed" => "FAILED",
            "interrupted" => "KILLED",
            _ => "FINISHED",
        };
        let end = (event.wall_time() * 1e3) as u64;
        let run_id = self.run()?;
        self.post("runs/update", json!({"run_id": run_id, "status": status, "end_time": end})).map(drop)
    }

    /// Sends files of the run.
    ///
    /// # Errors
    /// How many are not there, and why.
    pub fn send(&mut self, files: &[Artifact]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let run_id = self.run()?;
        let found = self.target.base.ask(&format!("runs/get?run_id={}", quoted(&run_id)), None)?.1;
        let uri = self.text(&found["run"]["info"]["artifact_uri"], "artifact_uri")?;
        artifacts::send(&self.target.base, &uri, files)
    }

    /// The run on the server: the one that this run began, or a new one.
    fn run(&mut self) -> Result<String> {
        if let Some(run_id) = &self.run_id {
            return Ok(run_id.clone());
        }
        let begin = self.begin.clone().unwrap_or_else(|| VisEvent::new("run"));
        let experiment = self.experiment()?;
        let own = format!("{}/{}", begin.text("work_dir"), begin.text("log_dir"));
        let filter = format!("tags.`{TAG}` = '{}'", own.replace('\'', "_"));
        let search = json!({"experiment_ids": [experiment], "filter": filter, "max_results": 1});
        let found = self.post("runs/search", search)?;
        let run_id = match found["runs"][0]["info"]["run_id"].as_str() {
            Some(run_id) => self.take_up(run_id)?,
            None => self.create(&experiment, &begin, &own.replace('\'', "_"))?,
        };
        self.run_id = Some(run_id.clone());
        Ok(run_id)
    }

    fn experiment(&self) -> Result<String> {
        let name = &self.target.exp_name;
        let path = format!("experiments/get-by-name?experiment_name={}", quoted(name));
        let (status, found) = self.target.base.ask(&path, None)?;
        if (200..300).contains(&status) {
            return self.text(&found["experiment"]["experiment_id"], "experiment_id");
        }
        // A server that has a fault of its own did not say that there is none.
        if status != 404 && found["error_code"].as_str() != Some("RESOURCE_DOES_NOT_EXIST") {
            return Err(refused("experiments/get-by-name", status, &found));
        }
        let mut wanted = json!({"name": name});
        if let Some(location) = &self.target.artifact_location {
            wanted["artifact_location"] = location.as_str().into();
        }
        let made = self.post("experiments/create", wanted)?;
        self.text(&made["experiment_id"], "experiment_id")
    }

    /// Goes on with a run: what its metrics have is known.
    fn take_up(&mut self, run_id: &str) -> Result<String> {
        let found = self.target.base.ask(&format!("runs/get?run_id={}", quoted(run_id)), None)?.1;
        for metric in found["run"]["data"]["metrics"].as_array().into_iter().flatten() {
            // A number of 64 bits may come as a text.
            let step = &metric["step"];
            let step = step.as_u64().or_else(|| step.as_str()?.parse().ok()).unwrap_or(0);
            self.sent.insert(metric["key"].as_str().unwrap_or_default().to_owned(), step);
        }
        self.post("runs/update", json!({"run_id": run_id, "status": "RUNNING"}))?;
        Ok(run_id.to_owned())
    }

    fn create(&self, experiment: &str, begin: &VisEvent, own: &str) -> Result<String> {
        let name = self.target.run_name.as_deref().unwrap_or_else(|| begin.text("experiment_name"));
        let mut tags =
            vec![json!({"key": TAG, "value": own}), json!({"key": "mlflow.runName", "value": name})];
        if let Some(commit) = begin.get("git").and_then(|git| git["commit"].as_str()) {
            tags.push(json!({"key": "mlflow.source.git.commit", "value": commit}));
        }
        tags.extend(self.target.tags.iter().map(|(key, value)| json!({"key": key, "value": value})));
        let start = (begin.wall_time() * 1e3) as u64;
        let made = json!({"experiment_id": experiment, "run_name": name, "start_time": start, "tags": tags});
        let made = self.post("runs/create", made)?;
        let run_id = self.text(&made["run"]["info"]["run_id"], "run_id")?;
        for params in self.params(begin).chunks(PARAMS) {
            self.post("runs/log-batch", json!({"run_id": run_id, "params": params}))?;
        }
        Ok(run_id)
    }

    /// The values of the config by their paths, the seed, and what is given beside them.
    fn params(&self, begin: &VisEvent) -> Vec<Value> {
        let mut found = Vec::new();
        if let Ok(node) = parse("config.yaml", begin.text("config")) {
            for (key, value) in node.entries() {
                if self.target.tracked.is_empty() || self.target.tracked.contains(&key.text) {
                    leaves(&key.text, value, &mut found);
                }
            }
        }
        found.retain(|(key, _)| key != "randomness.seed");
        found.extend(begin.get("seed").map(|seed| ("randomness.seed".to_owned(), seed.to_string())));
        found.retain(|(key, _)| !self.target.params.contains_key(key));
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        found.extend(self.target.params.iter().map(|(key, value)| (key.clone(), plain(value))));
        let param = |(key, value): (String, String)| json!({"key": key.chars().take(250).collect::<String>(), "value": value.chars().take(500).collect::<String>()});
        found.into_iter().map(param).collect()
    }

    fn post(&self, path: &str, body: Value) -> Result<Value> {
        match self.target.base.ask(path, Some(&body))? {
            (200..300, answer) => Ok(answer),
            (status, answer) => Err(refused(path, status, &answer)),
        }
    }

    fn text(&self, value: &Value, what: &str) -> Result<String> {
        let none = || Error::Other(format!("the answer has no `{what}`: is this a server of MLflow?").into());
        value.as_str().map(str::to_owned).ok_or_else(none)
    }
}

fn refused(path: &str, status: u16, answer: &Value) -> Error {
    let why = answer["message"].as_str().unwrap_or("no reason is given");
    Error::Other(format!("{path} is answered with {status}: {why}").into())
}

fn leaves(path: &str, node: &Node, found: &mut Vec<(String, String)>) {
    match &*node.kind {
        Kind::Map(entries) => {
            entries.iter().for_each(|(key, value)| leaves(&format!("{path}.{}", key.text), value, found));
        }
        Kind::Seq(items) => {
            let each = items.iter().enumerate();
            each.for_each(|(at, value)| leaves(&format!("{path}.{at}"), value, found));
        }
        Kind::Null => {}
        _ => found.push((path.to_owned(), node.to_yaml().trim().to_owned())),
    }
}
