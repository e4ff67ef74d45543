//! `shanty summary`: the modules of a model with shapes, parameters, multiply-adds and the memory of a step.

use clap::Args;
use serde_json::json;

use super::{Bare, ConfigArgs, Format, console};
use crate::base::Result;
use crate::base::number::grouped;
use crate::nn::Traced;
use crate::run::{StepMemory, Summary, summary};

/// Arguments of `summary`.
#[derive(Debug, Clone, Args)]
pub(super) struct Summarize {
    #[command(flatten)]
    config: ConfigArgs,
    /// How deep to go into the modules; all the way if not given.
    #[arg(long, value_name = "LEVELS")]
    depth: Option<usize>,
    #[command(flatten)]
    bare: Bare,
}

impl Summarize {
    pub fn run(self, format: Format) -> Result<()> {
        let node = self.config.with(&self.bare).resolve()?;
        let mut found = summary(&node, Some(&self.config.name()))?;
        found.modules.retain(|module| self.depth.is_none_or(|most| depth(module) <= most));
        console::say(&match format {
            Format::Text => text(&found),
            Format::Json => json_of(&found).to_string(),
        });
        Ok(())
    }
}

/// 0 of the whole, 1 of its children.
fn depth(module: &Traced) -> usize {
    if module.path.is_empty() { 0 } else { module.path.split('.').count() }
}

fn json_of(summary: &Summary) -> serde_json::Value {
    let modules = summary.modules.iter().map(|module| {
        json!({
            "path": module.path,
            "type": module.kind,
            "output": shape(module, summary.samples).map(|sizes| sizes.get(1..).unwrap_or_default().to_vec()),
            "parameters": module.parameters,
            "multiply_adds": module.work.multiply_adds,
            "activations": module.work.activations,
        })
    });
    let step = summary.step.map(|step| {
        json!({
            "batch_size": step.batch_size,
            "weights": step.weights,
            "gradients": step.gradients,
            "activations": step.activations,
        })
    });
    json!({
        "parameters": summary.parameters,
        "trained": summary.trained,
        "modules": modules.collect::<Vec<_>>(),
        "step_bytes": step,
    })
}

/// The sizes of an output whose first axis is that of the samples, where it is; the first is 0 then.
fn shape(module: &Traced, samples: usize) -> Option<Vec<usize>> {
    let mut sizes = module.output.as_ref()?.shape().to_vec();
    if let Some(first) = sizes.first_mut().filter(|first| **first == samples) {
        *first = 0;
    }
    Some(sizes)
}

fn text(summary: &Summary) -> String {
    let titles = ["module", "output", "parameters", "multiply-adds", "activations"].map(str::to_owned);
    let rows = summary.modules.iter().map(|module| {
        let name = module.path.rsplit('.').next().unwrap_or_default();
        let indent = "  ".repeat(depth(module));
        let name =
            if name.is_empty() { module.kind.to_owned() } else { format!("{indent}{name}: {}", module.kind) };
        let output = shape(module, summary.samples).map_or(String::new(), |sizes| {
            let sizes = sizes.iter().map(|size| if *size == 0 { "N".to_owned() } else { size.to_string() });
            format!("[{}]", sizes.collect::<Vec<_>>().join(", "))
        });
        let count = |n: u64| if n == 0 { String::new() } else { grouped(n) };
        let Traced { parameters, work, .. } = module;
        [name, output, count(*parameters as u64), count(work.multiply_adds), count(work.activations)]
    });
    let rows: Vec<[String; 5]> = [titles].into_iter().chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for [name, output, parameters, work, activations] in &rows {
        let line = format!("{name:<a$}  {output:<b$}  {parameters:>c$}  {work:>d$}  {activations:>e$}");
        text += line.trim_end();
        text.push('\n');
    }
    if summary.modules.is_empty() {
        text = "the model does not tell of its modules\n".to_owned();
    }
    text += &format!("\n{} parameters", grouped(summary.parameters as u64));
    if summary.trained != summary.parameters {
        text += &format!(", {} of them trained", grouped(summary.trained as u64));
    }
    if let Some(whole) = summary.modules.first() {
        text += &format!("; {} multiply-adds a sample", in_words(whole.work.multiply_adds).trim_end());
    }
    summary.step.map_or(text.clone(), |step| text + "\n" + &memory(&step))
}

/// What a step takes.
fn memory(step: &StepMemory) -> String {
    let mb = |bytes: usize| format!("{}B", in_words(bytes as u64));
    let StepMemory { batch_size, weights, gradients, activations } = *step;
    let all = weights + gradients + activations.unwrap_or(0);
    let (taken, measured) = match activations {
        Some(bytes) => (format!("takes {}", mb(all)), format!(", activations and workspace {}", mb(bytes))),
        None => (format!("keeps {}, its activations not counted", mb(all)), String::new()),
    };
    format!(
        "a training step of {batch_size} samples {taken}: weights {}, gradients {}{measured};\n\
         the optimizer keeps as much as the gradients once (momentum) or twice (Adam)",
        mb(weights),
        mb(gradients)
    )
}

/// `1.814 G`, `416.5 K`: four figures.
fn in_words(number: u64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " K")];
    match units.into_iter().find(|(unit, _)| number as f64 >= *unit) {
        Some((unit, name)) => format!("{:.3}{name}", number as f64 / unit),
        None => format!("{number} "),
    }
}
