//! A server of MLflow, and Prometheus.

use super::*;

fn asked(addr: std::net::SocketAddr, what: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {what} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The newest numbers, while the run is going on; a port that somebody else has ends nothing.
#[test]
fn prometheus_asks_for_the_newest_numbers() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let dir = tempfile::tempdir().unwrap();
    let loop_of = IterBasedTrainLoop::new(6).val_interval(3);
    let builder =
        toy_runner(dir.path(), 1, 3).unwrap().train(toy_data(3, true).unwrap(), loop_of, toy_optim());
    let mut runner = builder
        .hook(LoggerHook::every(1))
        .vis_backend(PrometheusVisBackend::new(addr))
        .on(Point::BeforeTrainIter, move |cx, _| {
            if cx.progress.iter == 5 {
                let text = asked(addr, "/metrics");
                assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
                assert!(text.contains("# TYPE shanty_iter gauge\nshanty_iter 5\n"), "{text}");
                assert!(
                    text.contains("\nshanty_train_loss ") && text.contains("\nshanty_val_accuracy_top1 "),
                    "{text}"
                );
                assert!(asked(addr, "/other").starts_with("HTTP/1.1 404"));
            }
            Ok(())
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    drop(runner);
    let held = TcpListener::bind(addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let builder = toy_runner(dir.path(), 1, 3).unwrap().vis_backend(PrometheusVisBackend::new(addr));
    let mut second = builder.build().unwrap();
    assert_eq!(second.train().unwrap(), Outcome::Finished);
    let told = events(&vis_data(&second));
    let warned = |event: &VisEvent| event.text("text").contains(&format!("nobody can ask at {addr}"));
    // At once, and at the end.
    assert_eq!(told.iter().filter(|event| warned(event)).count(), 2, "{told:?}");
    drop(held);
}

/// Somebody who asks a letter at a time holds neither the run nor its end. A port that was taken is tried again.
#[test]
fn who_asks_slowly_does_not_hold_the_end() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = held.local_addr().unwrap();
    let mut held = Some(held);
    let (tell, slow) = std::sync::mpsc::channel();
    let dir = tempfile::tempdir().unwrap();
    let mut runner = every_step(dir.path(), false)
        .vis_backend(PrometheusVisBackend::new(addr))
        .on(Point::BeforeTrainIter, move |cx, _| {
            if cx.progress.iter == 2 {
                drop(held.take());
            }
            if cx.progress.iter == 6 {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.write_all(b"GET /met").unwrap();
                tell.send(stream).unwrap();
            }
            Ok(())
        })
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let log = text_log(&runner);
    assert_eq!(log.matches("it is tried again").count(), 1, "{log}");
    assert!(!log.contains("lacks"), "who comes late has all that is asked for: {log}");
    let began = std::time::Instant::now();
    drop(runner);
    assert!(began.elapsed().as_secs_f64() < 1.5, "less than the patience with one question");
    drop(slow.recv().unwrap());
}

/// A server of MLflow as far as a run asks it: what it was told, by path. It answers until it is told not to.
struct Server {
    addr: std::net::SocketAddr,
    told: Arc<Mutex<Vec<(String, Value)>>>,
    broken: Arc<AtomicBool>,
    /// It dies before it hears of the next parameters, and comes back at once.
    dies: Arc<AtomicBool>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (told, broken) = (Arc::<Mutex<Vec<(String, Value)>>>::default(), Arc::<AtomicBool>::default());
        let (own, out) = (Arc::clone(&told), Arc::clone(&broken));
        let dies = Arc::<AtomicBool>::default();
        let death = Arc::clone(&dies);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some((path, body, mut stream)) = request(stream.unwrap()) else { continue };
                if out.load(Ordering::Relaxed) {
                    continue;
                }
                if !body["params"].is_null() && death.swap(false, Ordering::Relaxed) {
                    continue;
                }
                let mut told = own.lock().unwrap();
                let (status, answer) = answer(&path, &body, &told);
                if status == 200 {
                    told.push((path, body));
                }
                write!(stream, "HTTP/1.0 {status} X\r\nContent-Type: application/json\r\n\r\n{answer}")
                    .unwrap();
            }
        });
        Self { addr, told, broken, dies }
    }

    fn of(&self, path: &str) -> Vec<Value> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(own, _)| own == path).map(|(_, body)| body.clone()).collect()
    }

    /// Key and step of all metrics, in the order in which they came.
    fn metrics(&self) -> Vec<(String, u64)> {
        let all = self.of("/api/2.0/mlflow/runs/log-batch");
        let metrics = all.iter().flat_map(|body| body["metrics"].as_array().cloned().unwrap_or_default());
        metrics.map(|m| (m["key"].as_str().unwrap().to_owned(), m["step"].as_u64().unwrap())).collect()
    }
}

fn request(mut stream: TcpStream) -> Option<(String, Value, TcpStream)> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut part).ok()?;
        bytes.extend(&part[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?.parse().ok()?;
            if body.len() >= length {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some((path, serde_json::from_str(body).unwrap_or(Value::Null), stream));
            }
        }
        if n == 0 {
            return None;
        }
    }
}

fn answer(path: &str, body: &Value, told: &[(String, Value)]) -> (u16, Value) {
    let path = path.trim_start_matches("/api/2.0/mlflow/");
    let given = ["metrics", "params"].map(|what| body[what].as_array());
    if given.into_iter().flatten().flatten().any(|one| one["key"] == "refused") {
        let why = json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such name here"});
        return (400, why);
    }
    let all =
        |name: &'static str| told.iter().filter(move |(path, _)| path.ends_with(name)).map(|(_, body)| body);
    match path {
        "experiments/create" => (200, json!({"experiment_id": "7"})),
        "runs/search" if all("runs/create").count() > 0 => {
            (200, json!({"runs": [{"info": {"run_id": "r1"}}]}))
        }
        "runs/create" => (200, json!({"run": {"info": {"run_id": "r1"}}})),
        "runs/log-batch" | "runs/update" | "runs/search" => (200, json!({})),
        path if path.starts_with("/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/") => (200, json!({})),
        path if path.starts_with("runs/get?run_id=r1") => {
            let mut latest = BTreeMap::new();
            for metric in all("runs/log-batch").filter_map(|body| body["metrics"].as_array()).flatten() {
                latest.insert(metric["key"].to_string(), metric.clone());
            }
            let params = all("runs/log-batch").filter_map(|body| body["params"].as_array()).flatten();
            let params: Vec<_> = params.collect();
            let data = json!({"metrics": latest.into_values().collect::<Vec<_>>(), "params": params});
            let info = json!({"artifact_uri": "mlflow-artifacts:/7/r1/artifacts"});
            (200, json!({"run": {"data": data, "info": info}}))
        }
        _ => (404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"})),
    }
}

/// The run is made once with its parameters; each metric comes once with its step, also where the run was killed behind
/// its checkpoint; the end is told.
#[test]
fn mlflow_hears_each_step_once() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!(
        "{{type: MLflowVisBackend, tracking_uri: 'http://{}', exp_name: toys, tags: {{a: b}}, params: {{n: 3}}}}",
        server.addr
    );
    let run = |resume| with(every_step(dir.path(), resume), &[&yaml]);
    let kill = |cx: &mut Ctx<'_>, _: &mut Event<'_>| match cx.progress.iter {
        10 => Err("killed".into()),
        _ => Ok(()),
    };
    run(false).on(Point::BeforeTrainIter, kill).build().unwrap().train().unwrap_err();
    fs::remove_dir_all(dir.path().join("emergency_iter_10")).ok();
    run(true).build().unwrap().train().unwrap();
    let made = server.of("/api/2.0/mlflow/runs/create");
    assert_eq!((made.len(), &made[0]["experiment_id"]), (1, &json!("7")));
    assert!(made[0]["tags"].as_array().unwrap().contains(&json!({"key": "a", "value": "b"})), "{made:?}");
    let params = server.of("/api/2.0/mlflow/runs/log-batch");
    let params: Vec<_> = params.iter().filter_map(|body| body["params"].as_array()).flatten().collect();
    let [seed, own] =
        [("randomness.seed", "0"), ("n", "3")].map(|(key, value)| json!({"key": key, "value": value}));
    assert_eq!(params, [&seed, &own]);
    let metrics = server.metrics();
    let steps =
        |key: &str| -> Vec<u64> { metrics.iter().filter(|(k, _)| k == key).map(|(_, step)| *step).collect() };
    assert_eq!(steps("loss"), (1..=12).collect::<Vec<_>>());
    assert_eq!(steps("accuracy/top1"), [1, 2, 3]);
    let status: Vec<_> =
        server.of("/api/2.0/mlflow/runs/update").iter().map(|body| body["status"].clone()).collect();
    assert_eq!(status, ["FAILED", "RUNNING", "FINISHED"]);
}

/// A server that dies in the middle costs a warning, and what it lacks is said.
#[test]
fn a_server_that_dies_in_the_middle_ends_no_run() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!("{{type: MLflowVisBackend, tracking_uri: 'http://{}'}}", server.addr);
    let broken = Arc::clone(&server.broken);
    let mut runner = with(every_step(dir.path(), false), &[&yaml])
        .on(Point::BeforeTrainIter, move |cx, _| {
            if cx.progress.iter == 6 {
                broken.store(true, Ordering::Relaxed);
            }
            Ok(())
        })
        .build()
        .unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let told = events(&vis_data(&runner));
    assert_eq!(steps(&told, "train"), (1..=12).collect::<Vec<_>>());
    let log = text_log(&runner);
    assert!(log.contains("this is no answer of a web server"), "{log}");
    assert!(log.contains("MLflowVisBackend lacks "), "{log}");
    for (uri, why) in
        [("https://x", "there is no TLS"), ("file:///x", "the address of a server"), ("http://", "address")]
    {
        let spec =
            Spec::<dyn VisBackend>::parse(&format!("{{type: MLflowVisBackend, tracking_uri: '{uri}'}}"));
        let said = spec.unwrap().build(&mut BuildCx::new(0)).map(drop).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
}

/// A metric that the server will not have costs itself alone, and the end is told; a server that died when the run was
/// made gets its parameters when it is back.
#[test]
fn what_mlflow_refuses_costs_nothing_else() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let params = "{n: 3, refused: 4, a//b: 5, a/b: 6}";
    let yaml =
        format!("{{type: MLflowVisBackend, tracking_uri: 'http://{}', params: {params}}}", server.addr);
    let odd = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        let step = cx.progress.iter;
        cx.vis.add_scalars(&[("refused", 1.0), ("a//../b", 2.0)], step);
        Ok(())
    };
    server.dies.store(true, Ordering::Relaxed);
    let mut runner =
        with(every_step(dir.path(), false), &[&yaml]).on(Point::AfterTrainIter, odd).build().unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let metrics = server.metrics();
    for key in ["loss", "a/__/b"] {
        let steps = metrics.iter().filter(|(own, _)| own == key).map(|(_, step)| *step);
        assert_eq!(steps.collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>(), "{key}");
    }
    assert!(!metrics.iter().any(|(key, _)| key == "refused"));
    let params = server.of("/api/2.0/mlflow/runs/log-batch");
    let params: Vec<_> = params.iter().filter_map(|body| body["params"].as_array()).flatten().collect();
    let params: Vec<_> = params.iter().map(|param| param["key"].as_str().unwrap()).collect();
    assert_eq!(params, ["randomness.seed", "a/b", "n"], "each once");
    let ends = server.of("/api/2.0/mlflow/runs/update");
    assert_eq!(ends.last().unwrap()["status"], "FINISHED", "{ends:?}");
    let log = text_log(&runner);
    assert!(log.contains("MLflowVisBackend lacks 12 events of this run"), "{log}");
    assert!(log.contains("no such name here"), "{log}");
}

/// Files of the run whose names end as the config says, those of the folder itself and of its own logs, each where the
/// server keeps the artifacts of this run.
#[test]
fn mlflow_keeps_the_files_of_a_run() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes ä.yaml"), "a: 1\n").unwrap();
    fs::write(dir.path().join("notes.txt"), "no\n").unwrap();
    fs::create_dir_all(dir.path().join("20200101_000000/vis_data")).unwrap();
    fs::write(dir.path().join("20200101_000000/vis_data/old.json"), "{}").unwrap();
    let trained = |more: &str| {
        let yaml = format!("{{type: MLflowVisBackend, tracking_uri: 'http://{}', {more}}}", server.addr);
        let mut runner =
            with(toy_runner(dir.path(), 1, 2).unwrap().overwrite(true), &[&yaml]).build().unwrap();
        assert_eq!(runner.train().unwrap(), Outcome::Finished);
        let before = "/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/";
        let mut told = server.told.lock().unwrap();
        let names =
            told.iter().filter_map(|(path, _)| path.strip_prefix(before).map(str::to_owned)).collect();
        told.clear();
        (runner.session().state.info.timestamp.clone(), names)
    };
    let (stamp, names): (String, Vec<String>) = trained("exp_name: toys");
    assert_eq!(names[0], "notes%20%C3%A4.yaml", "{names:?}");
    for name in [format!("{stamp}/{stamp}.log"), "epoch_1/manifest.json".into(), "epoch_1/state.json".into()]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("20200101") || name.ends_with(".txt")), "{names:?}");
    let (_, weights) = trained("artifact_suffix: model.safetensors");
    assert_eq!(weights, ["epoch_1/model.safetensors"]);
    assert_eq!(trained("artifact_suffix: []").1, [""; 0]);
}

/// A server that takes what it is told and never answers holds the end of a run no longer than `timeout`.
#[test]
fn a_server_that_is_silent_does_not_hold_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, held) = std::sync::mpsc::channel();
    std::thread::spawn(move || listener.incoming().try_for_each(|stream| tell.send(stream)));
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!("{{type: MLflowVisBackend, tracking_uri: 'http://{addr}', timeout: 0.2}}");
    let mut runner = with(toy_runner(dir.path(), 1, 2).unwrap(), &[&yaml]).build().unwrap();
    let began = std::time::Instant::now();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    assert!(began.elapsed().as_secs_f64() < 4.0, "less than the patience with one request");
    let log = text_log(&runner);
    assert!(log.contains("the server was not done in time (`timeout`)"), "{log}");
    drop(held);
}
