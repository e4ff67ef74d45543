//! `shanty check`, and with `--data` a look at every sample.

use clap::Args;

use super::{Changed, Format, console};
use crate::base::rng::fresh_seed;
use crate::base::{Error, Result};
use crate::config::{Diag, Diags, Node};
use crate::data::{DataLoaderConfig, Shard, class_counts, survey};
use crate::registry::BuildCx;
use crate::run::{RunConfig, check_as, try_samples};

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub(super) struct Check {
    #[command(flatten)]
    changed: Changed,
    /// Also read every sample of the training, validation and test data once, and list those that cannot be read. Exit
    /// code 1 if there are any.
    #[arg(long)]
    data: bool,
}

impl Check {
    /// Checks, and says how the process should exit.
    pub(super) fn run(&self, format: Format) -> Result<u8> {
        let args = self.changed.config.with(&self.changed.bare);
        let node = args.resolve()?;
        let seed = fresh_seed();
        let mut found = check_as(&node, Some(&args.name()), seed).or_else(Error::diags)?;
        let mut surveys = Vec::new();
        if self.data {
            // What the rehearsal met of them stands in the list of all.
            found.0.retain(|diag| !diag.failure);
            if let Ok(config) = RunConfig::read(&node) {
                surveys = surveyed(&config);
            }
            // What the first batches have not shown of labels and tokens, the model may refuse later.
            if !found.has_errors() {
                found.extend(refused_samples(&node, &surveys)?.0);
            }
        }
        let bad = surveys.iter().any(|survey| !survey.bad.is_empty());
        match format {
            Format::Text => surveys.iter().for_each(Survey::say),
            Format::Json => surveys.iter().for_each(|survey| found.0.extend(survey.diags())),
        }
        if found.has_errors() {
            return Err(found.into());
        }
        if format == Format::Json {
            console::say(&found.to_json().to_string());
            return Ok(0);
        }
        if !found.0.is_empty() {
            console::complain_in_colour(&found.render(console::in_colour()));
        }
        let config = RunConfig::read(&node)?;
        let mut notes = config.notes();
        if config.randomness.seed.is_none() && config.train_dataloader.is_some() && !config.resume {
            notes.push(format!(
                "the first batch was drawn with the seed {seed}: a training draws its own, as there is no \
                 `randomness.seed`"
            ));
        }
        notes.iter().for_each(|note| console::complain(&format!("note: {note}")));
        if !bad {
            console::tell(&format!("{} is fine", args.name()));
        }
        Ok(u8::from(bad))
    }
}

/// What became of reading every sample of a loader.
struct Survey {
    loader: &'static str,
    /// Where its data are described.
    place: Node,
    /// None where the data are not there.
    samples: Option<usize>,
    /// What the samples are made of, where the data set says it.
    summary: Option<String>,
    /// Its classes, and how many samples each has.
    classes: Vec<String>,
    bad: Vec<String>,
    /// Of each field of whole numbers the samples with the smallest and the largest.
    extremes: Vec<[usize; 2]>,
}

impl Survey {
    /// train, val or test.
    fn mode(&self) -> &'static str {
        self.loader.strip_suffix("_dataloader").unwrap_or(self.loader)
    }

    fn say(&self) {
        let Self { loader, samples, summary, classes, bad, .. } = self;
        let samples = samples.map(|samples| format!("{samples} samples, ")).unwrap_or_default();
        let mut lines = vec![match bad.len() {
            0 => format!("{loader}: {samples}all can be read"),
            _ if samples.is_empty() => format!("{loader}: its data are not there"),
            n => format!("{loader}: {samples}{n} cannot be read"),
        }];
        lines.extend(summary.iter().map(|summary| format!("  {summary}")));
        lines.extend(classes.iter().map(|classes| format!("  {classes}")));
        lines.extend(bad.iter().map(|why| format!("  {why}")));
        console::say(&lines.join("\n"));
    }

    fn diags(&self) -> impl Iterator<Item = Diag> {
        let diag = |why| Diag::error(format!("{}: {why}", self.loader)).on(&self.place);
        self.bad.iter().map(move |why| Diag { failure: true, ..diag(why) })
    }
}

/// What the model says of the samples with the smallest and the largest numbers, with their positions in the data: a
/// complaint counts the rows of the batch that was made of them.
fn refused_samples(node: &Node, surveys: &[Survey]) -> Result<Diags> {
    let chosen: Vec<_> = surveys.iter().map(|own| (own.mode(), own.extremes.clone())).collect();
    let all = try_samples(node, &chosen)?;
    if all.0.is_empty() {
        return Ok(all);
    }
    let mut found = Diags::default();
    for (mode, pairs) in &chosen {
        for pair in pairs {
            let [low, high] = pair;
            let note = match low == high {
                true => format!("the batch is sample {low} of `{mode}_dataloader`, counted from 0"),
                false => format!(
                    "the batch is made of the samples {low} and {high} of `{mode}_dataloader`, counted from 0"
                ),
            };
            let told = try_samples(node, &[(*mode, vec![*pair])])?.0;
            found.extend(told.into_iter().map(|diag| diag.note(&note)));
        }
    }
    Ok(found)
}

/// Reads every sample of the loaders that can be built; of the others the check has said why they cannot.
fn surveyed(config: &RunConfig) -> Vec<Survey> {
    let seed = config.randomness.seed.unwrap_or_default();
    let loaders = [
        ("train_dataloader", &config.train_dataloader, config.exclude_samples.as_slice()),
        ("val_dataloader", &config.val_dataloader, &[]),
        ("test_dataloader", &config.test_dataloader, &[]),
    ];
    let survey = |(loader, of, without): (&'static str, &Option<DataLoaderConfig>, &[u64])| {
        let of = of.as_ref()?;
        let place = of.dataset.node().clone();
        let mut extremes = Vec::new();
        let (built, bad) = match of.build(seed, Shard::default(), &mut BuildCx::new(seed)) {
            Ok(built) => {
                let read = survey(&**built.dataset(), seed, without);
                extremes = read.extremes;
                let bad =
                    read.unreadable.iter().map(|(index, why)| format!("sample {index}: {why}")).collect();
                (Some(built), bad)
            }
            // Elsewhere they may be there; to be read they must be here.
            Err(error) if absent(&error) => (None, vec![error.to_string()]),
            Err(_) => return None,
        };
        let set = built.as_ref().map(|built| built.dataset());
        let (samples, summary) = (set.map(|set| set.len()), set.and_then(|set| set.summary()));
        let classes = set.map(|set| class_counts(&**set)).unwrap_or_default();
        let classes =
            classes.iter().map(|classes| format!("classes in `{}`: {classes}", classes.field)).collect();
        Some(Survey { loader, place, samples, summary, classes, bad, extremes })
    };
    loaders.into_iter().filter_map(survey).collect()
}

fn absent(error: &Error) -> bool {
    error.is_absence() || error.as_diags().is_some_and(|diags| diags.0.iter().any(|diag| diag.absent))
}
