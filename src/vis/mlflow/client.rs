//! One run on a server of MLflow.

use std::collections::{BTreeMap, BTreeSet};

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

/// A metric that is to be sent: key, value, milliseconds since 1970, step.
type Waiting = (String, f64, u64, u64);

/// What is to be sent, and what the server has.
pub(super) struct Client {
    target: Target,
    /// How the run began.
    begin: Option<VisEvent>,
    run_id: Option<String>,
    /// The last step of each metric that the server has.
    sent: BTreeMap<String, u64>,
    waiting: Vec<Waiting>,
    lost: u64,
    /// Why the server would not have the first metric or parameter that it refused, and whether that is told.
    refused: Option<String>,
    is_told: bool,
    /// Events of which something was lost.
    short: u64,
    /// Time and step of the last event that is short of a metric which the server would not have.
    short_of: Option<[Option<u64>; 2]>,
}

impl Client {
    pub fn new(target: Target) -> Self {
        let (sent, waiting) = (BTreeMap::new(), Vec::new());
        Self {
            target,
            begin: None,
            run_id: None,
            sent,
            waiting,
            lost: 0,
            refused: None,
            is_told: false,
            short: 0,
            short_of: None,
        }
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
            let key = key(&format!("{prefix}{name}"));
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
            let new = |(key, .., step): &&Waiting| self.sent.get(key).is_none_or(|sent| step > sent);
            let batch: Vec<_> = self.waiting.iter().take(part).filter(new).cloned().collect();
            let json = |(key, value, timestamp, step): &Waiting| json!({"key": key, "value": to_json(*value), "timestamp": timestamp, "step": step});
            let metrics: Vec<_> = batch.iter().map(json).collect();
            self.send_batch(&run_id, "metrics", &metrics)?;
            self.waiting.drain(..part);
            self.sent.extend(batch.into_iter().map(|(key, .., step)| (key, step)));
        }
        Ok(())
    }

    /// What was left out since this was asked last, and why. The rest is sent.
    pub fn left_out(&mut self) -> Option<String> {
        let lost = std::mem::take(&mut self.lost);
        let late = (lost > 0).then(|| format!("{lost} scalars came while {WAITING} waited for the server"));
        // Once: one that comes with every event is no failure of all that comes with it.
        let refused = self.refused.clone().filter(|_| !std::mem::replace(&mut self.is_told, true));
        refused.or(late)
    }

    /// Sends `metrics` or `params` in one request. If the server will have none of them for what one of them is, they are
    /// sent in halves, until that one stands alone and is left out.
    fn send_batch(&mut self, run_id: &str, what: &str, batch: &[Value]) -> Result<()> {
        let Some(first) = batch.first() else { return Ok(()) };
        let (status, answer) =
            self.target.base.ask("runs/log-batch", Some(&json!({"run_id": run_id, (what): batch})))?;
        match status {
            200..300 => Ok(()),
            400 if batch.len() > 1 => {
                let (first, second) = batch.split_at(batch.len() / 2);
                self.send_batch(run_id, what, first)?;
                self.send_batch(run_id, what, second)
            }
            400 => {
                // Metrics of one event come behind each other.
                let at = [&first["timestamp"], &first["step"]].map(Value::as_u64);
                let is_new = what == "metrics" && self.short_of.replace(at) != Some(at);
                self.short += u64::from(is_new);
                self.refused.get_or_insert(refused("runs/log-batch", status, &answer).to_string());
                Ok(())
            }
            _ => Err(refused("runs/log-batch", status, &answer)),
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
            Some(run_id) => self.take_up(run_id, &begin)?,
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

    /// Goes on with a run: what its metrics have is known. A server that died when the run was made lacks parameters.
    fn take_up(&mut self, run_id: &str, begin: &VisEvent) -> Result<String> {
        let found = self.target.base.ask(&format!("runs/get?run_id={}", quoted(run_id)), None)?.1;
        for metric in found["run"]["data"]["metrics"].as_array().into_iter().flatten() {
            // A number of 64 bits may come as a text.
            let step = &metric["step"];
            let step = step.as_u64().or_else(|| step.as_str()?.parse().ok()).unwrap_or(0);
            self.sent.insert(metric["key"].as_str().unwrap_or_default().to_owned(), step);
        }
        self.post("runs/update", json!({"run_id": run_id, "status": "RUNNING"}))?;
        let there = found["run"]["data"]["params"].as_array().into_iter().flatten();
        let there: BTreeSet<&str> = there.filter_map(|param| param["key"].as_str()).collect();
        let mut params = self.params(begin);
        params.retain(|param| !param["key"].as_str().is_some_and(|key| there.contains(key)));
        self.send_params(run_id, &params)?;
        Ok(run_id.to_owned())
    }

    fn create(&mut self, experiment: &str, begin: &VisEvent, own: &str) -> Result<String> {
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
        let params = self.params(begin);
        self.send_params(&run_id, &params)?;
        Ok(run_id)
    }

    fn send_params(&mut self, run_id: &str, params: &[Value]) -> Result<()> {
        params.chunks(PARAMS).try_for_each(|part| self.send_batch(run_id, "params", part))
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
        let param = |(key, value): (String, String)| json!({"key": self::key(&key), "value": value.chars().take(500).collect::<String>()});
        // Two that are cut to one name are one.
        let mut names = BTreeSet::new();
        let params = found.into_iter().map(param);
        params.filter(|param| names.insert(param["key"].to_string())).collect()
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

/// A name as a server takes it: of letters, digits and `_-./ `, and one that stands for itself where it names a file.
fn key(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "_-./ ".contains(c) { c } else { '_' };
    let plain: String = name.chars().map(plain).take(250).collect();
    let part = |part: &str| if part == ".." { "__".to_owned() } else { part.to_owned() };
    let parts: Vec<_> = plain.split('/').filter(|part| !matches!(*part, "" | ".")).map(part).collect();
    if parts.is_empty() { "_".to_owned() } else { parts.join("/") }
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

#[cfg(test)]
mod tests {
    use super::key;

    /// MLflow refuses `name` unless `posixpath.normpath(name) == name`, and all that is sent with it.
    #[test]
    fn a_key_stands_for_itself_as_a_path() {
        for (name, told) in [
            ("accuracy/top1", "accuracy/top1"),
            ("a//b", "a/b"),
            ("/a/./b/", "a/b"),
            ("../up", "__/up"),
            ("a/..", "a/__"),
            ("100 % (µ)", "100 _ _µ_"),
            ("//", "_"),
            ("", "_"),
        ] {
            assert_eq!(key(name), told);
        }
        assert_eq!(key(&"x".repeat(300)).len(), 250);
    }
}
