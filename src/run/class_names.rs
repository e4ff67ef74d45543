//! One numbering of the classes for all data of a run: by name, as the weights learn them.

use super::{Evaluation, RunnerBuilder, Session};
use crate::base::{Error, Result};
use crate::data::DataLoader;

impl RunnerBuilder {
    /// Numbers the classes of the validation and test data as the training data do, and gives their names.
    pub(super) fn agree_on_classes(&mut self) -> Result<Vec<String>> {
        let names = self.train_data.as_ref().and_then(|data| data.classes()).map(<[_]>::to_vec);
        let Some(names) = names else { return Ok(Vec::new()) };
        for (loader, evaluation) in [("val_dataloader", &mut self.val), ("test_dataloader", &mut self.test)] {
            if let Some(evaluation) = evaluation
                && evaluation.number_classes(loader, &names, "train_dataloader")?
            {
                self.notes.push(format!(
                    "the classes of {loader} are not those of train_dataloader: its labels are numbered by their names there"
                ));
            }
        }
        Ok(names)
    }

    /// Positions that are to be left out must be there.
    pub(super) fn check_excluded(&self) -> Result<()> {
        let Some(data) = &self.train_data else { return Ok(()) };
        let len = data.dataset().len() as u64;
        match self.exclude_samples.iter().find(|id| **id >= len && !self.placeholders) {
            Some(id) => Err(Error::config(format!(
                "`exclude_samples` names sample {id}, but the training data have {len} samples, counted from 0"
            ))),
            None => Ok(()),
        }
    }
}

impl Evaluation {
    /// Numbers the classes of the data as `names` does; whether that changes anything.
    fn number_classes(&mut self, loader: &str, names: &[String], whose: &str) -> Result<bool> {
        let before = self.data.classes().map(<[_]>::to_vec);
        let numbered = DataLoader::clone(&self.data).with_classes(names);
        self.data = numbered.map_err(|why| {
            Error::config(format!("{loader}: {why}, the classes of {whose}; they are compared by name"))
        })?;
        Ok(before.as_deref() != self.data.classes())
    }
}

impl Session {
    /// Evaluates as the weights that were loaded number the classes.
    ///
    /// # Errors
    /// Both lists, when the data have a class that the weights do not know.
    pub(super) fn take_classes(&mut self) -> Result<()> {
        let names = std::mem::take(&mut self.rollback.classes);
        if names.is_empty() {
            return Ok(());
        }
        for (loader, evaluation) in [("val_dataloader", &mut self.val), ("test_dataloader", &mut self.test)] {
            if let Some(evaluation) = evaluation
                && evaluation.number_classes(loader, &names, "the checkpoint")?
            {
                self.state.log.warn(format_args!(
                    "the classes of {loader} are not those of the checkpoint: its labels are numbered by their names there"
                ));
            }
        }
        Ok(())
    }

    /// Says so when a training begins with weights of other classes.
    pub(super) fn compare_classes(&mut self) {
        let (then, now) = (std::mem::take(&mut self.rollback.classes), &self.state.info.classes);
        if !then.is_empty() && !now.is_empty() && then != *now {
            let (then, now) = (crate::data::classes::shown(&then), crate::data::classes::shown(now));
            self.state
                .log
                .warn(format_args!("the weights were trained for the classes {then}, this run has {now}"));
        }
    }
}
