//! What ranks say when they end: farewell, or why they failed.

use std::time::Duration;

use super::library::{Area, Library};
use super::{FIRST, LAST_WORD, peers, row};
use crate::base::{Error, Result};
use crate::comm::Place;

/// How long a rank that has failed waits for the others to hear of it and to put their affairs in order.
pub const GRACE: Duration = Duration::from_secs(5);

/// The last words of all ranks.
#[derive(Debug)]
pub struct Words {
    heard: Vec<Heard>,
    /// This rank's, while they are on their way.
    said: Option<Area<u8>>,
    /// A failure that was heard of before this rank failed.
    first: Option<usize>,
}

#[derive(Debug)]
enum Heard {
    Nothing(Area<u8>),
    Farewell,
    /// Why it failed; whether that was because of another rank.
    Failure(String, bool),
    /// This rank itself.
    Own,
}

impl Words {
    /// Begins to listen.
    pub fn begin(library: &Library, place: Place) -> Result<Self> {
        let mut heard = Vec::new();
        for rank in 0..place.world {
            let mut area = Area::new(vec![0; FIRST]);
            heard.push(if rank == place.rank {
                Heard::Own
            } else {
                area.receive(library, row(0, FIRST), rank, LAST_WORD)?;
                Heard::Nothing(area)
            });
        }
        Ok(Self { heard, said: None, first: None })
    }

    fn look(&mut self, library: &Library) -> Result<()> {
        for (rank, heard) in self.heard.iter_mut().enumerate() {
            let Heard::Nothing(area) = heard else { continue };
            if !area.is_done(library)? {
                continue;
            }
            let text = area.data()?;
            // Texts end with a zero.
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            let text = String::from_utf8_lossy(text.get(1..end).unwrap_or_default()).into_owned();
            *heard = match area.data()?.first() {
                Some(b'.') => Heard::Farewell,
                mark => Heard::Failure(text, mark == Some(&b'?')),
            };
            if matches!(heard, Heard::Failure(..)) && self.said.is_none() {
                self.first.get_or_insert(rank);
            }
        }
        Ok(())
    }

    /// # Errors
    /// When another rank has failed: what it said.
    pub fn listen(&mut self, library: &Library) -> Result<()> {
        self.look(library)?;
        match self.first.and_then(|rank| Some((rank, self.heard.get(rank)?))) {
            Some((rank, Heard::Failure(why, _))) => Err(Error::Comm(format!("rank {rank} failed: {why}"))),
            _ => Ok(()),
        }
    }

    /// Tells all that this rank has failed, once; whether it did by itself.
    pub fn say(&mut self, library: &Library, place: Place, why: &str) -> bool {
        let by_itself = self.first.is_none();
        let mark = if by_itself { "!" } else { "?" };
        let _ = self.tell(library, place, &format!("{mark}{why}"));
        by_itself
    }

    /// Tells all that this rank has done what there was to do.
    pub fn say_farewell(&mut self, library: &Library, place: Place) -> Result<()> {
        self.tell(library, place, ".")
    }

    fn tell(&mut self, library: &Library, place: Place, text: &str) -> Result<()> {
        if self.said.is_some() {
            return Ok(());
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.truncate(FIRST - 1);
        bytes.push(0);
        let all = 0..bytes.len();
        let said = self.said.insert(Area::new(bytes));
        peers(place).try_for_each(|peer| said.send(library, all.clone(), peer, LAST_WORD))
    }

    /// Whether all ranks have said their last word, and heard this one's.
    pub fn all_heard(&mut self, library: &Library) -> bool {
        let looked = self.look(library).is_ok();
        let sent = self.said.as_mut().is_none_or(|said| said.is_done(library).unwrap_or(true));
        looked && sent && self.awaited().is_empty()
    }

    /// The ranks that have not spoken.
    pub fn awaited(&self) -> Vec<usize> {
        let silent = |(rank, heard): (usize, &Heard)| matches!(heard, Heard::Nothing(_)).then_some(rank);
        self.heard.iter().enumerate().filter_map(silent).collect()
    }

    /// Of these ranks the first that has done what it had to do and left.
    pub fn who_left(&self, ranks: &[usize]) -> Option<usize> {
        let left = |rank: &usize| matches!(self.heard.get(*rank), Some(Heard::Farewell));
        ranks.iter().copied().find(left)
    }

    /// Whether no rank before this one says the same.
    pub fn is_first(&self, rank: usize, why: &str) -> bool {
        let begin = |text: &str| text.chars().take(200).collect::<String>();
        let says = |heard: &Heard| matches!(heard, Heard::Failure(text, false) if begin(text) == begin(why));
        !self.heard.iter().take(rank).any(says)
    }
}
