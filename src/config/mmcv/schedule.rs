//! `lr_config` and `momentum_config` → `param_scheduler`: MMCV's policies in their closed forms, the warm-up last.

use super::parts::{Taken, text};
use super::warmup;
use crate::base::suggest::nearest;
use crate::config::{Diag, Diags, Key, Kind, Node};

/// What a schedule moves, and how its keys are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moves {
    Lr,
    Momentum,
}

impl Moves {
    /// The family of the schedule's type.
    pub(super) fn family(self) -> &'static str {
        match self {
            Self::Lr => "LR",
            Self::Momentum => "Momentum",
        }
    }

    /// Its name in formulas.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lr => "lr",
            Self::Momentum => "momentum",
        }
    }
}

/// Where a schedule stands, and what it is about.
pub(super) struct Place<'a> {
    /// The policy, at which all that is made stands.
    pub at: &'a Node,
    pub moves: Moves,
}

impl Place<'_> {
    /// A schedule of this type with these keys.
    pub(super) fn schedule(&self, name: &str, keys: Vec<(&str, Kind)>) -> Made {
        let key =
            |name: &str| Key { text: name.to_owned(), at: self.at.at.clone(), def: self.at.def.clone() };
        let kind = text(self.at, &format!("{name}{}", self.moves.family()));
        let rest = keys.into_iter().map(|(name, kind)| (key(name), Node::new(kind, self.at.def.clone())));
        Made([(key("type"), kind)].into_iter().chain(rest).collect())
    }

    /// A schedule by a formula.
    pub(super) fn formula(&self, formula: String) -> Made {
        self.schedule("Expression", vec![("expression", Kind::Str(formula))])
    }
}

/// The keys of a schedule.
pub(super) struct Made(pub Vec<(Key, Node)>);

impl Made {
    /// The same with entries of the old config.
    fn with(mut self, entries: Vec<(Key, Node)>) -> Self {
        self.0.extend(entries);
        self
    }

    pub(super) fn node(self, at: &Node) -> Node {
        Node::new(Kind::Map(self.0), at.def.clone())
    }
}

/// Both configs as one list of schedules, with the key of the first.
///
/// # Errors
/// What cannot be said today.
pub(super) fn translated(
    taken: &mut Taken,
    by_epoch: bool,
    total: Option<u64>,
) -> Result<Option<(Key, Vec<Node>)>, Diags> {
    let (mut first, mut made, mut wrong) = (None, Vec::new(), Diags::default());
    for (name, moves) in [("lr_config", Moves::Lr), ("momentum_config", Moves::Momentum)] {
        let Some((key, config)) = taken.take(name).filter(|(_, config)| !config.is_null()) else { continue };
        match one(&config, moves, by_epoch, total) {
            Ok(schedules) => made.extend(schedules),
            Err(diag) => wrong.extend([*diag]),
        }
        first.get_or_insert(key);
    }
    if wrong.has_errors() { Err(wrong) } else { Ok(first.zip((!made.is_empty()).then_some(made))) }
}

fn one(config: &Node, moves: Moves, by_epoch: bool, total: Option<u64>) -> Result<Vec<Node>, Box<Diag>> {
    let mut keys = Taken::of(config);
    let policy = keys.take("policy").or_else(|| keys.take("type"));
    let Some((_, policy)) = policy.filter(|(_, policy)| policy.as_str().is_some()) else {
        return Err(Box::new(Diag::error("a `policy` is missing, as `policy: step`").on(config)));
    };
    let place = Place { at: &policy, moves };
    let warm = warmup::taken(&mut keys, &place)?;
    let own = keys.take("by_epoch").and_then(|(_, value)| value.as_bool());
    let name = policy.as_str().unwrap_or_default().to_lowercase();
    let hook = format!("{}updaterhook", moves.name());
    let name = name.strip_suffix(&hook).unwrap_or(&name);
    let cycles = matches!(name, "cyclic" | "onecycle");
    if cycles && own == Some(true) {
        let text = format!("the policy `{name}` counts iterations: `by_epoch: true` does not fit");
        return Err(Box::new(Diag::error(text).on(&policy)));
    }
    let counts_epochs = own.unwrap_or(by_epoch) && !cycles;
    let mut made = by_policy(name, &place, &mut keys, total.filter(|_| counts_epochs == by_epoch))?;
    for schedule in &mut made {
        let key = Key { text: "by_epoch".to_owned(), at: policy.at.clone(), def: policy.def.clone() };
        schedule.0.push((key, Node::new(Kind::Bool(counts_epochs), policy.def.clone())));
    }
    // What nobody knew, the type of the schedule refuses at its place.
    match (made.first_mut(), keys.rest.first()) {
        (Some(schedule), _) => schedule.0.append(&mut keys.rest),
        (None, Some((key, _))) => {
            let text = format!("unknown key `{}` of the policy `{name}`", key.text);
            return Err(Box::new(Diag::error(text).on_key(key)));
        }
        (None, None) => {}
    }
    Ok(made.into_iter().chain(warm).map(|schedule| schedule.node(&policy)).collect())
}

/// What `policy` may say, in any letters.
const POLICIES: [&str; 12] = [
    "fixed",
    "step",
    "exp",
    "inv",
    "poly",
    "CosineAnnealing",
    "LinearAnnealing",
    "FlatCosineAnnealing",
    "CosineAnnealingCooldown",
    "CosineRestart",
    "cyclic",
    "OneCycle",
];

fn by_policy(
    name: &str,
    place: &Place<'_>,
    keys: &mut Taken,
    total: Option<u64>,
) -> Result<Vec<Made>, Box<Diag>> {
    let x = place.moves.name();
    Ok(match name {
        "fixed" => Vec::new(),
        "step" => steps(place, keys),
        "exp" => vec![place.schedule("Exponential", Vec::new()).with(keys.take_all(&["gamma"]))],
        "inv" => {
            let (gamma, power) = (number(keys, "gamma", 0.1), number(keys, "power", 1.0));
            vec![place.formula(format!("{x} * (1 + {gamma} * t) ^ -({power})"))]
        }
        "poly" => {
            let (floor, power) = (number(keys, &format!("min_{x}"), 0.0), number(keys, "power", 1.0));
            vec![place.formula(format!("{floor} + ({x} - {floor}) * (1 - t / T) ^ {power}"))]
        }
        "cosineannealing" => {
            let (floor, ratio) = (format!("min_{x}"), format!("min_{x}_ratio"));
            let entries = keys.renamed(&[(&floor, "eta_min"), (&ratio, "eta_min_ratio")]);
            vec![place.schedule("CosineAnnealing", Vec::new()).with(entries)]
        }
        "linearannealing" => {
            let floor = target(place, keys)?;
            vec![place.formula(format!("{floor} + ({x} - {floor}) * (1 - t / T)"))]
        }
        "flatcosineannealing" => {
            let flat = format!("round(T * {})", number(keys, "start_percent", 0.75));
            let fall = cosine(x, &target(place, keys)?, &format!("(t - {flat}) / (T - {flat})"));
            vec![place.formula(format!("if(t < {flat}, {x}, {fall})"))]
        }
        "cosineannealingcooldown" => {
            let (floor, ratio) = (target(place, keys)?, number(keys, "cool_down_ratio", 0.1));
            let fallen = format!("(T - {})", number(keys, "cool_down_time", 10.0));
            let fall = cosine(x, &floor, &format!("t / {fallen}"));
            vec![place.formula(format!("if(t > {fallen}, {floor} * {ratio}, {fall})"))]
        }
        "cosinerestart" => vec![restarts(place, keys, total)?],
        "cyclic" => vec![cyclic(place, keys)],
        "onecycle" if place.moves == Moves::Lr => {
            let old = [
                "total_steps",
                "pct_start",
                "anneal_strategy",
                "div_factor",
                "final_div_factor",
                "three_phase",
            ];
            let mut entries = keys.renamed(&[("max_lr", "eta_max")]);
            entries.extend(keys.renamed(&old.map(|key| (key, key))));
            vec![place.schedule("OneCycle", Vec::new()).with(entries)]
        }
        "onecycle" => vec![one_cycle_momentum(place, keys)],
        other => {
            let near = nearest(other, POLICIES).map(|near| format!(": did you mean `{near}`?"));
            let text = format!("the policy `{other}` has no form of today{}", near.unwrap_or_default());
            return Err(Box::new(
                Diag::error(text).on(place.at).note(format!("known are {}", POLICIES.join(", "))),
            ));
        }
    })
}

/// A number of the config as a formula writes it.
fn number(keys: &mut Taken, key: &str, default: f64) -> String {
    keys.number(key).map_or(default, |(_, number)| number).to_string()
}

/// From `from` to `to` along half a wave.
fn cosine(from: &str, to: &str, part: &str) -> String {
    format!("{to} + ({from} - {to}) / 2 * (1 + cos(pi * {part}))")
}

/// The floor of an annealing, as a formula writes it.
fn target(place: &Place<'_>, keys: &mut Taken) -> Result<String, Box<Diag>> {
    let x = place.moves.name();
    let floor = keys.number(&format!("min_{x}"));
    let ratio = keys.number(&format!("min_{x}_ratio"));
    match (floor, ratio) {
        (Some((_, floor)), None) => Ok(floor.to_string()),
        (None, Some((_, ratio))) => Ok(format!("({ratio} * {x})")),
        _ => {
            let text = format!("this policy needs `min_{x}` or `min_{x}_ratio`, one of them");
            Err(Box::new(Diag::error(text).on(place.at)))
        }
    }
}

/// A fall at every `step`, or at those of a list, and no further than the floor.
fn steps(place: &Place<'_>, keys: &mut Taken) -> Vec<Made> {
    let x = place.moves.name();
    let many = keys.peek("step").is_some_and(|step| matches!(*step.kind, Kind::Seq(_)));
    let (name, today) = if many { ("MultiStep", "milestones") } else { ("Step", "step_size") };
    let mut entries = keys.renamed(&[("step", today)]);
    entries.extend(keys.renamed(&[("gamma", "gamma")]));
    let usual = match (place.moves, entries.iter().any(|(key, _)| key.text == "gamma")) {
        (Moves::Momentum, false) => vec![("gamma", Kind::Float(0.5))],
        _ => Vec::new(),
    };
    let mut made = vec![place.schedule(name, usual).with(entries)];
    if let Some((_, floor)) = keys.number(&format!("min_{x}")) {
        made.push(place.formula(format!("max({x}, {floor})")));
    }
    made
}

/// Periods one after the other. MMCV's weights scale what lies above the floor.
fn restarts(place: &Place<'_>, keys: &mut Taken, total: Option<u64>) -> Result<Made, Box<Diag>> {
    let numbers = |node: &Node| node.items().iter().map(Node::as_f64).collect::<Option<Vec<_>>>();
    let periods = keys.take("periods").and_then(|(_, node)| numbers(&node)).unwrap_or_default();
    let weights = keys.take("restart_weights").map_or(Some(vec![1.0]), |(_, node)| numbers(&node));
    let weights = weights.filter(|weights| !periods.is_empty() && weights.len() == periods.len());
    let Some(weights) = weights else {
        let text =
            "the policy `CosineRestart` needs `periods` and as many `restart_weights`, both lists of numbers";
        return Err(Box::new(Diag::error(text).on(place.at)));
    };
    let covered: f64 = periods.iter().sum();
    if let Some(total) = total.filter(|total| *total as f64 > covered) {
        let text = format!("the periods end at {covered}, and the run at {total}");
        return Err(Box::new(Diag::error(text).on(place.at)));
    }
    let (x, floor) = (place.moves.name(), target(place, keys)?);
    let mut formula = String::new();
    let mut end = covered;
    for (period, weight) in periods.iter().zip(&weights).rev() {
        let begin = end - period;
        let part = format!("min((t - {begin}) / {period}, 1)");
        let own = format!("{floor} + {weight} * ({x} - {floor}) / 2 * (1 + cos(pi * {part}))");
        formula = if formula.is_empty() { own } else { format!("if(t < {end}, {own}, {formula})") };
        end = begin;
    }
    Ok(place.formula(formula))
}

/// Up and down several times, each time a little less.
fn cyclic(place: &Place<'_>, keys: &mut Taken) -> Made {
    let x = place.moves.name();
    let given = keys.take("target_ratio").map(|(_, node)| node);
    let item = |at: usize| given.as_ref().and_then(|node| node.items().get(at)).and_then(Node::as_f64);
    let alone = given.as_ref().and_then(Node::as_f64).or(item(0).filter(|_| item(1).is_none()));
    let usual = if place.moves == Moves::Lr { (10.0, 1e-4) } else { (0.85 / 0.95, 1.0) };
    let (top, end) = match (alone, item(0).zip(item(1))) {
        (Some(top), _) => (top, top / 1e5),
        (None, Some(both)) => both,
        (None, None) => usual,
    };
    let cycle = format!("floor(T / {})", number(keys, "cyclic_times", 1.0));
    let rise = format!("floor({} * {cycle})", number(keys, "step_ratio_up", 0.4));
    let scale = format!("{} ^ floor(t / {cycle})", number(keys, "gamma", 1.0));
    let linear = keys.take("anneal_strategy").is_some_and(|(_, node)| node.as_str() == Some("linear"));
    let between = |from: &str, to: &str, part: &str| match linear {
        true => format!("{from} + ({to} - {from}) * {part}"),
        false => cosine(from, to, part),
    };
    let peak = format!("{x} * (1 + ({top} - 1) * {scale})");
    let up = between(x, &peak, &format!("(t % {cycle}) / {rise}"));
    let down =
        between(&peak, &format!("{x} * {end}"), &format!("((t % {cycle}) - {rise}) / ({cycle} - {rise})"));
    place.formula(format!("if(t % {cycle} < {rise}, {up}, {down})"))
}

/// Down while the learning rate goes up, and up again.
fn one_cycle_momentum(place: &Place<'_>, keys: &mut Taken) -> Made {
    let (low, high) = (number(keys, "base_momentum", 0.85), number(keys, "max_momentum", 0.95));
    let steps = keys.number("total_steps").map_or("T".to_owned(), |(_, steps)| steps.to_string());
    let part = number(keys, "pct_start", 0.3);
    let up = format!("({part} * {steps} - 1)");
    let linear = keys.take("anneal_strategy").is_some_and(|(_, node)| node.as_str() == Some("linear"));
    let between = |from: &str, to: &str, part: &str| match linear {
        true => format!("{from} + ({to} - {from}) * {part}"),
        false => cosine(from, to, part),
    };
    let three = keys.take("three_phase").and_then(|(_, node)| node.as_bool()).unwrap_or(false);
    let first = between(&high, &low, &format!("t / {up}"));
    let formula = if three {
        let second = format!("(2 * {part} * {steps} - 2)");
        let back = between(&low, &high, &format!("(t - {up}) / ({second} - {up})"));
        format!("if(t <= {up}, {first}, if(t <= {second}, {back}, {high}))")
    } else {
        let back = between(&low, &high, &format!("(t - {up}) / ({steps} - 1 - {up})"));
        format!("if(t <= {up}, {first}, {back})")
    };
    place.formula(formula)
}
