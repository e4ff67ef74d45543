//! `shanty plan`: the schedule of a config, before it costs anything.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::output::{self, Output};
use super::{Bare, ConfigArgs, Format, console, plot};
use crate::base::Result;
use crate::run::{HookCalls, RunPlan, plan};

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    config: ConfigArgs,
    /// Draw the learning rates into this SVG file too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    bare: Bare,
}

impl Plan {
    pub fn run(self, format: Format) -> Result<()> {
        let node = self.config.with(&self.bare).resolve()?;
        self.svg.iter().try_for_each(|svg| output::spare_inputs(svg, &node))?;
        let svg = self.svg.as_deref().map(Output::at).transpose()?;
        let plan = plan(&node, Some(&self.config.name()))?;
        if let Some(svg) = svg {
            let longest = plan.lr.iter().map(|(_, lr)| lr.len()).max().unwrap_or(0);
            let axis = format!("iteration {longest}");
            svg.write(plot::svg("learning rate", &axis, &plan.lr).as_bytes())?;
        }
        console::say(&match format {
            Format::Text => text(&plan),
            Format::Json => json_of(&plan).to_string(),
        });
        Ok(())
    }
}

fn json_of(plan: &RunPlan) -> Value {
    let curves = |all: &[(String, Vec<f64>)]| -> serde_json::Map<_, _> {
        all.iter().map(|(name, values)| (name.clone(), json!(values))).collect()
    };
    let calls = |hook: &HookCalls| -> serde_json::Map<_, _> {
        hook.calls.iter().map(|(point, iters)| (point.name().to_owned(), json!(iters))).collect()
    };
    let hooks = plan.hooks.iter().map(|hook| json!({"hook": hook.hook, "calls": calls(hook)}));
    let checkpoints =
        plan.checkpoints.iter().map(|c| json!({"name": c.name, "iter": c.iter, "kept": c.kept}));
    json!({
        "total_iters": plan.total_iters,
        "data": plan.data,
        "groups": plan.groups,
        "lr": curves(&plan.lr),
        "numbers": curves(&plan.numbers),
        "hooks": hooks.collect::<Vec<_>>(),
        "checkpoints": checkpoints.collect::<Vec<_>>(),
        "validations": plan.validations,
        "warnings": plan.warnings,
    })
}

fn text(plan: &RunPlan) -> String {
    let mut text = format!("{} iterations, {} batches an epoch\n", plan.total_iters, plan.epoch_len);
    text +=
        &plan.data.iter().map(|data| format!("columns of the training data: {data}\n")).collect::<String>();
    if !plan.groups.is_empty() {
        text += &format!("\nparameter groups\n  {}\n", plan.groups.join("\n  "));
    }
    for (name, lr) in &plan.lr {
        let of = if plan.lr.len() == 1 { String::new() } else { format!(" of group {name}") };
        text += &format!("\nlearning rate{of}\n{}", plot::ascii(lr));
    }
    for (name, values) in &plan.numbers {
        text += &format!("\n{name}\n{}", plot::ascii(values));
    }
    text += "\nhooks, in the order in which they are called\n";
    for HookCalls { hook, priority, calls } in &plan.hooks {
        let idle = if calls.is_empty() { ", which does nothing in this run" } else { "" };
        text += &format!("  ({priority}) {hook}{idle}\n");
        for (point, iters) in calls {
            text += &format!("      {:<24}{}\n", point.name(), when(iters));
        }
    }
    text += &format!("\nvalidations: {}\n", when(&plan.validations));
    let kept: Vec<_> = plan.checkpoints.iter().filter(|c| c.kept).map(|c| c.name.as_str()).collect();
    text += &format!("checkpoints: {} written, {} kept", plan.checkpoints.len(), kept.len());
    if !kept.is_empty() {
        text += &format!(" ({})", shortened(&kept));
    }
    let megabytes = plan.weight_bytes as f64 / 1e6;
    // One more stands beside the kept ones while it is written.
    let disk = megabytes * (kept.len() + 1) as f64;
    text += &format!(
        "\ndisk: weights of {megabytes:.2} MB each, {disk:.2} MB in all; the state of the\n\
         optimizer adds once (momentum) or twice (Adam) as much\n"
    );
    for warning in &plan.warnings {
        text += &format!("\nwarning: {warning}");
    }
    text.trim_end().to_owned()
}

/// `12 times: 10, 20, 30 … 120`
fn when(iters: &[u64]) -> String {
    let shown: Vec<_> = iters.iter().map(u64::to_string).collect();
    let shown: Vec<_> = shown.iter().map(String::as_str).collect();
    match iters.len() {
        0 => "never".into(),
        1 => format!("once, at iteration {}", iters[0]),
        n => format!("{n} times: {}", shortened(&shown)),
    }
}

fn shortened(items: &[&str]) -> String {
    match items {
        [a, b, c, _, .., z] if items.len() > 5 => format!("{a}, {b}, {c} … {z}"),
        _ => items.join(", "),
    }
}
