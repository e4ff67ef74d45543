//! `shanty check`, and with `--data` a look at every sample.

use clap::Args;

use super::{Changed, Format, console, inspect};
use crate::base::Result;
use crate::config::{Diag, Diags};
use crate::data::{Shard, unreadable};
use crate::registry::BuildCx;
use crate::run::RunConfig;

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub(super) struct Check {
    #[command(flatten)]
    changed: Changed,
    /// Read every sample of the training, validation and test data once, and list those that cannot be read. Exit code 1 if
    /// there are any.
    #[arg(long)]
    data: bool,
}

impl Check {
    /// Checks, and says how the process should exit.
    pub(super) fn run(&self, format: Format) -> Result<u8> {
        let args = self.changed.config.with(&self.changed.bare);
        if !self.data {
            return inspect::check(&args, format).map(|()| 0);
        }
        let node = args.resolve()?;
        let config = RunConfig::read(&node)?;
        let seed = config.randomness.seed.unwrap_or_default();
        let mut found = Diags::default();
        let (mut names, mut bad) = (None, 0);
        let loaders = [
            ("train_dataloader", &config.train_dataloader, config.exclude_samples.as_slice()),
            ("val_dataloader", &config.val_dataloader, &[]),
            ("test_dataloader", &config.test_dataloader, &[]),
        ];
        for (name, loader, without) in loaders {
            let Some(loader) = loader else { continue };
            let built = loader.build(seed, Shard::default(), &mut BuildCx::new(seed))?;
            let failures = unreadable(&**built.dataset(), seed, without);
            let numbered = names.as_deref().map(|names| built.clone().with_classes(names));
            names = names.or_else(|| built.classes().map(<[_]>::to_vec));
            let mut lines = vec![match failures.len() {
                0 => format!("{name}: {} samples, all can be read", built.dataset().len()),
                n => format!("{name}: {} samples, {n} cannot be read", built.dataset().len()),
            }];
            lines.extend(failures.iter().map(|(index, why)| format!("  sample {index}: {why}")));
            if let Some(Err(why)) = numbered {
                bad += 1;
                lines.push(format!("  {why}, the classes of the training data"));
            }
            bad += failures.len();
            match format {
                Format::Text => console::say(&lines.join("\n")),
                // A loader's first line is no complaint.
                Format::Json => found.0.extend(lines.iter().skip(1).map(|line| {
                    Diag::error(format!("{name}: {}", line.trim_start())).on(loader.dataset.node())
                })),
            }
        }
        if format == Format::Json {
            console::say(&found.to_json().to_string());
        }
        Ok(u8::from(bad > 0))
    }
}
