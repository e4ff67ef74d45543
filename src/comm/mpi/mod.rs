//! Processes that an MPI launcher started: `mpirun`, `srun`.
//!
//! All is made of messages between two ranks, so that sums are added in the order of the ranks whatever the library
//! does, a rank that is late is known by its number, and calls that do not match are told apart before their data meet.

mod family;
mod join;
mod library;
mod sum;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use bytemuck::Pod;

use super::{Comm, Pending, Place};
use crate::base::{Elem, Error, Result};
pub(super) use join::join;
use library::{Area, Library};
use sum::{Number, Sum};
use words::Words;

/// Bytes of the first message of a call: its head, and as much of the data as there is room for.
const FIRST: usize = 4096;
const HEAD: usize = size_of::<[u64; 3]>();
/// The tags of one call: its first message, the rest of it, the parts to be summed, the sums.
const TAGS: i32 = 4;
/// MPI grants tags up to 32767, of which the last is that of last words.
const LAST_WORD: i32 = 32_767;
const CALLS_APART: u64 = 8191;
/// How long a rank looks without a pause: longer than others take to add up their part of a sum.
const SPIN: Duration = Duration::from_micros(200);
/// The most that the time between two looks counts as waiting.
const GLANCE: Duration = Duration::from_millis(100);
/// What a launcher is given to pass on the last words of a rank.
const LAST_READ: Duration = Duration::from_millis(300);

/// What a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum = 1,
    Tensors,
    Gather,
}

/// What each rank says of a call before its data: the number of the call, what it is, how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    number: u64,
    kind: u64,
    bytes: u64,
}

impl Head {
    /// As the first message of a rank begins with it.
    fn read(message: &[u8]) -> Self {
        let [number, kind, bytes] = bytemuck::pod_read_unaligned(&message[..HEAD]);
        Self { number, kind, bytes }
    }

    /// Whether two ranks have come to the same.
    fn fits(self, other: Self) -> bool {
        let unlike_lengths = self.kind != Kind::Gather as u64 && self.bytes != other.bytes;
        (self.number, self.kind) == (other.number, other.kind) && !unlike_lengths
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            1 => write!(f, "a sum of {} numbers", self.bytes / 8),
            2 => write!(f, "a sum of {} elements of tensors", self.bytes / size_of::<Elem>() as u64),
            _ => f.write_str("a gathering"),
        }?;
        write!(f, " (call {})", self.number)
    }
}

/// What a head and the beginning of the data are as one message.
fn first_message(head: Head, data: &[u8]) -> Vec<u8> {
    let mut bytes = bytemuck::cast_slice(&[head.number, head.kind, head.bytes]).to_vec();
    bytes.extend_from_slice(data);
    bytes
}

fn tag(number: u64, part: i32) -> i32 {
    (number % CALLS_APART) as i32 * TAGS + part
}

/// The ranks of one launcher.
#[derive(Debug)]
pub struct Mpi {
    library: &'static Library,
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: u64,
    sums: BTreeMap<u64, Sum<Elem>>,
    /// Memory of sums that are done.
    spare: Vec<Vec<Elem>>,
    words: Words,
    /// Whether this rank has failed, and another one tells why.
    silent: bool,
    patience: Duration,
}

/// The other ranks.
fn peers(place: Place) -> impl Iterator<Item = usize> {
    (0..place.world).filter(move |rank| *rank != place.rank)
}

/// The memory for one message of each rank, and which part is whose.
fn row(rank: usize, length: usize) -> Range<usize> {
    rank * length..(rank + 1) * length
}

/// Receives the first message of each other rank.
fn expect_heads(library: &Library, place: Place, number: u64) -> Result<Area<u8>> {
    let mut heads = Area::new(vec![0; FIRST * place.world]);
    for peer in peers(place) {
        heads.receive(library, row(peer, FIRST), peer, tag(number, 0))?;
    }
    Ok(heads)
}

/// Sends one part to all other ranks.
fn send_to_all<T: Pod>(
    area: &mut Area<T>,
    library: &Library,
    place: Place,
    part: Range<usize>,
    tag: i32,
) -> Result<()> {
    peers(place).try_for_each(|peer| area.send(library, part.clone(), peer, tag))
}

/// The heads of all ranks, if they have come to the same as this one.
fn agreed(heads: &[u8], own: Head, place: Place) -> Result<Vec<Head>> {
    let of = |rank: usize| match rank == place.rank {
        true => own,
        false => Head::read(&heads[row(rank, FIRST)]),
    };
    let all: Vec<Head> = (0..place.world).map(of).collect();
    match (0..place.world).find(|rank| !all[*rank].fits(all[0])) {
        None => Ok(all),
        Some(odd) => Err(Error::Comm(format!(
            "the ranks have come apart: rank 0 came to {}, rank {odd} to {}",
            all[0], all[odd]
        ))),
    }
}

/// Between two looks: at once at first, then with a pause. To yield the processor instead gives it to whoever is ready, of
/// whatever priority, for as long as the system likes, which takes longer than such a pause.
fn pause(since: Instant) {
    match since.elapsed() < SPIN {
        true => std::hint::spin_loop(),
        false => std::thread::sleep(Duration::from_micros(50)),
    }
}

impl Mpi {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the next call.
    fn next(state: &mut State, kind: Kind, bytes: usize) -> Head {
        state.calls += 1;
        Head { number: state.calls, kind: kind as u64, bytes: bytes as u64 }
    }

    /// Looks until something is done, moving on all else that is under way. What is `awaited` names the ranks that are
    /// late.
    fn until(
        &self,
        state: &mut State,
        head: Head,
        mut look: impl FnMut(&mut State) -> Result<Option<Vec<usize>>>,
    ) -> Result<()> {
        let began = Instant::now();
        let (mut seen, mut waited, mut moved) = (began, Duration::ZERO, (self.library.completed(), began));
        while let Some(awaited) = look(state)? {
            self.move_on(state)?;
            // While messages come, the next one is near.
            if self.library.completed() != moved.0 {
                moved = (self.library.completed(), Instant::now());
            }
            pause(moved.1);
            // A process that was itself stopped for a while has not waited for the others meanwhile.
            waited += seen.elapsed().min(GLANCE);
            seen = Instant::now();
            // What it sent before its farewell may come behind it.
            if waited > words::GRACE
                && let Some(rank) = state.words.who_left(&awaited)
            {
                return Err(Error::Comm(format!(
                    "rank {rank} has left without coming to {head}: it was given another command, or a hook of it makes \
                     fewer calls"
                )));
            }
            if waited > state.patience {
                let late: Vec<_> = awaited.iter().map(ToString::to_string).collect();
                return Err(Error::Comm(format!(
                    "rank {} has not come to {head} within {:?}: it hangs, or is slower than the others by more than \
                     `env_cfg.dist_cfg.timeout`",
                    late.join(", "),
                    state.patience
                )));
            }
        }
        Ok(())
    }

    /// One step of all sums under way, and a look for ranks that have failed.
    fn move_on(&self, state: &mut State) -> Result<()> {
        for sum in state.sums.values_mut() {
            sum.is_done(self.library, self.place)?;
        }
        state.words.listen(self.library)
    }

    /// Waits for a sum.
    fn result<T: Number>(&self, state: &mut State, sum: &mut Sum<T>) -> Result<[Vec<T>; 2]> {
        let (library, place) = (self.library, self.place);
        self.until(state, sum.head, |_| Ok((!sum.is_done(library, place)?).then(|| sum.awaited())))?;
        sum.take()
    }

    /// The bytes of all ranks.
    fn exchange(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (library, place) = (self.library, self.place);
        let state = &mut *self.state();
        let head = Self::next(state, Kind::Gather, own.len());
        let mut heads = expect_heads(library, place, head.number)?;
        let mut sent = Area::new(first_message(head, own));
        let inline = FIRST.min(HEAD + own.len());
        send_to_all(&mut sent, library, place, 0..inline, tag(head.number, 0))?;
        send_to_all(&mut sent, library, place, inline..HEAD + own.len(), tag(head.number, 1))?;
        self.until(state, head, |_| Ok((!heads.is_done(library)?).then(|| heads.awaited())))?;
        let heads = heads.data()?;
        let all = agreed(heads, head, place)?;
        let mut rests = BTreeMap::new();
        for peer in peers(place) {
            let rest = (HEAD + all[peer].bytes as usize).saturating_sub(FIRST);
            if rest > 0 {
                let mut area = Area::new(vec![0; rest]);
                area.receive(library, 0..rest, peer, tag(head.number, 1))?;
                rests.insert(peer, area);
            }
        }
        self.until(state, head, |_| {
            let mut awaited = if sent.is_done(library)? { Vec::new() } else { sent.awaited() };
            for area in rests.values_mut() {
                if !area.is_done(library)? {
                    awaited.append(&mut area.awaited());
                }
            }
            Ok((!awaited.is_empty()).then_some(awaited))
        })?;
        let given = |rank: usize| -> Result<Vec<u8>> {
            if rank == place.rank {
                return Ok(own.to_vec());
            }
            let inline = (HEAD + all[rank].bytes as usize).min(FIRST);
            let mut bytes = heads[row(rank, FIRST)][HEAD..inline].to_vec();
            if let Some(rest) = rests.get_mut(&rank) {
                bytes.append(rest.data()?);
            }
            Ok(bytes)
        };
        (0..place.world).map(given).collect()
    }
}

impl Comm for Mpi {
    fn place(&self) -> Place {
        self.place
    }

    fn sum(&self, numbers: &mut [f64]) -> Result<()> {
        let state = &mut *self.state();
        let head = Self::next(state, Kind::Sum, size_of_val(numbers));
        let mut sum = Sum::begin(self.library, self.place, head, (numbers.to_vec(), 1.0), Vec::new())?;
        let [sum, _] = self.result(state, &mut sum)?;
        numbers.copy_from_slice(&sum);
        Ok(())
    }

    fn start_sum(&self, data: Vec<Elem>, factor: Elem) -> Result<Pending> {
        let state = &mut *self.state();
        let head = Self::next(state, Kind::Tensors, size_of_val(&data[..]));
        let rows = state.spare.pop().unwrap_or_default();
        state.sums.insert(head.number, Sum::begin(self.library, self.place, head, (data, factor), rows)?);
        self.move_on(state)?;
        Ok(Pending { id: head.number })
    }

    fn poll(&self) -> Result<()> {
        self.move_on(&mut self.state())
    }

    fn finish(&self, sum: Pending) -> Result<Vec<Elem>> {
        let state = &mut *self.state();
        let Some(mut sum) = state.sums.remove(&sum.id) else {
            return Err(Error::Comm("a sum of another group is waited for".into()));
        };
        let [sum, rows] = self.result(state, &mut sum)?;
        state.spare.push(rows);
        Ok(sum)
    }

    fn sum_in_any_order(&self, data: &mut [Elem]) -> Result<bool> {
        // No other call may stand within it.
        let _state = self.state();
        self.library.all_reduce(data).map(|()| true)
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange(own)
    }

    fn set_patience(&self, limit: Duration) {
        self.state().patience = limit;
    }

    fn fail(&self, why: &str) -> bool {
        let state = &mut *self.state();
        let own = state.words.say(self.library, self.place, why);
        let (grace, began) = (words::GRACE.min(state.patience), Instant::now());
        // The others may need what this rank has begun, to hear of it.
        while began.elapsed() < grace && !state.words.all_heard(self.library) {
            let _ = self.move_on(state);
            pause(began);
        }
        state.silent = !(own && state.words.is_first(self.place.rank, why));
        !state.silent
    }

    fn abort(&self, code: i32) -> ! {
        // MPI is called by one thread at a time: one that is in the midst of a call leaves no way but this.
        let silent = match self.state.try_lock() {
            Err(TryLockError::WouldBlock) => std::process::exit(code),
            Err(TryLockError::Poisoned(state)) => state.into_inner().silent,
            Ok(state) => state.silent,
        };
        // The rank that tells a person ends all, with its code, when that can have been read: a launcher that is asked to
        // end its processes looks no more at what they have written (MPICH's).
        std::thread::sleep(if silent { words::GRACE } else { LAST_READ });
        self.library.abort(code)
    }

    fn close(&self) -> Result<()> {
        let state = &mut *self.state();
        if !state.sums.is_empty() {
            return Err(Error::Comm("a sum was begun and not finished".into()));
        }
        let head = Self::next(state, Kind::Gather, 0);
        state.words.say_farewell(self.library, self.place)?;
        self.until(state, head, |state| {
            Ok((!state.words.all_heard(self.library)).then(|| state.words.awaited()))
        })?;
        self.library.finalize()
    }
}
