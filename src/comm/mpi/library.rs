//! MPI's shared library, loaded when a launcher started this process: the only file beside the kernels with `unsafe`.
//!
//! Three families have the same functions and unlike handles. Open MPI's are addresses of its symbols; MPICH's, and
//! those of the libraries that keep to its interface (Intel MPI, MVAPICH, Cray), are 32-bit numbers; MPI 5's own
//! interface has small numbers as wide as addresses. Here each is a `usize`: on the 64-bit little-endian machines that
//! this is compiled for, a number fills the lower half of the register, or of the memory, from which the library reads
//! it.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::Pod;
use libloading::os::unix::{Library as Shared, RTLD_GLOBAL, RTLD_NOW};

use super::family::{ABI, DOUBLE, Family, Handle, MPICH};
use crate::base::{Elem, Error, Result};

/// Larger than the `MPI_Status` of every family.
type Status = [u64; 16];

/// Bytes of one message at most: counts are `int` before MPI 4.
const PIECE: usize = 1 << 30;
/// Longer than what any family writes of a text.
const TEXT: usize = 8193;

macro_rules! functions {
    ($($field:ident = $symbol:literal: fn($($arg:ty),*);)+) => {
        /// The functions that are called.
        struct Functions { $($field: unsafe extern "C" fn($($arg),*) -> c_int,)+ }

        impl Functions {
            fn of(shared: &Shared) -> Result<Self, libloading::Error> {
                // SAFETY: the MPI standard gives these names these signatures; a handle stands in it as this file's
                // head says.
                unsafe { Ok(Self { $($field: *shared.get($symbol)?,)+ }) }
            }
        }
    };
}
functions! {
    init_thread = b"MPI_Init_thread\0": fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int);
    rank = b"MPI_Comm_rank\0": fn(Handle, *mut c_int);
    size = b"MPI_Comm_size\0": fn(Handle, *mut c_int);
    set_errhandler = b"MPI_Comm_set_errhandler\0": fn(Handle, Handle);
    isend = b"MPI_Isend\0": fn(*const c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle);
    irecv = b"MPI_Irecv\0": fn(*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle);
    test = b"MPI_Test\0": fn(*mut Handle, *mut c_int, *mut Status);
    allreduce = b"MPI_Allreduce\0": fn(*const c_void, *mut c_void, c_int, Handle, Handle, Handle);
    error_string = b"MPI_Error_string\0": fn(c_int, *mut c_char, *mut c_int);
    library_version = b"MPI_Get_library_version\0": fn(*mut c_char, *mut c_int);
    processor_name = b"MPI_Get_processor_name\0": fn(*mut c_char, *mut c_int);
    abort = b"MPI_Abort\0": fn(Handle, c_int);
    finalize = b"MPI_Finalize\0": fn();
}

/// A loaded library whose MPI is initialised, for as long as the process lives.
pub struct Library {
    functions: Functions,
    family: Family,
    /// The first line of what it says of itself.
    pub version: String,
    /// The file that was loaded.
    pub file: String,
    pub rank: usize,
    pub world: usize,
    /// Messages that have come or gone.
    completed: AtomicU64,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.version, self.family.name, self.file)
    }
}

impl Library {
    /// Loads the first of these files that is there, and initialises its MPI. Once a process.
    ///
    /// # Errors
    /// What each file lacks; what the library says when it cannot begin.
    pub fn begin(files: &[String]) -> Result<&'static Self> {
        if cfg!(not(all(target_pointer_width = "64", target_endian = "little"))) {
            return Err(Error::config("MPI is loaded on 64-bit little-endian machines only"));
        }
        let mut refused = Vec::new();
        for file in files {
            // SAFETY: initialisers of an MPI library only prepare it. Global, since the plug-ins of Open MPI look for
            // its symbols among those of the process.
            match unsafe { Shared::open(Some(file), RTLD_NOW | RTLD_GLOBAL) } {
                Err(why) => refused.push(innermost(&why)),
                Ok(shared) => match Functions::of(&shared) {
                    Err(why) => refused.push(innermost(&why)),
                    Ok(functions) => {
                        let family = family(&shared);
                        // Its threads and handlers outlive all that this process does.
                        std::mem::forget(shared);
                        return Self::init(functions, family, file);
                    }
                },
            }
        }
        Err(Error::config(format!(
            "no MPI library can be loaded: {}; install the one of the launcher, put its folder into LD_LIBRARY_PATH, or \
             name the file in SHANTY_MPI",
            refused.join("; ")
        )))
    }

    fn init(functions: Functions, family: Family, file: &str) -> Result<&'static Self> {
        let mut library = Self {
            functions,
            family,
            version: String::new(),
            file: file.into(),
            rank: 0,
            world: 0,
            completed: AtomicU64::new(0),
        };
        let mut level = 0;
        // SAFETY: MPI takes no arguments since version 2; `level` is written before it returns.
        let code = unsafe {
            let (argc, argv) = (std::ptr::null_mut(), std::ptr::null_mut());
            (library.functions.init_thread)(argc, argv, family.serialized, &raw mut level)
        };
        library.checked("MPI_Init_thread", code)?;
        library.version = library.text(library.functions.library_version);
        if level < family.serialized {
            return Err(Error::config(format!(
                "{} was built without threads (its level is {level}, {} is needed)",
                library.version, family.serialized
            )));
        }
        let (mut rank, mut world) = (0, 0);
        // SAFETY: MPI is initialised, the communicator is its own, and the numbers are written before it returns.
        let codes = unsafe {
            [
                (library.functions.set_errhandler)(family.world, family.errors_return),
                (library.functions.rank)(family.world, &raw mut rank),
                (library.functions.size)(family.world, &raw mut world),
            ]
        };
        codes.into_iter().try_for_each(|code| library.checked("MPI_Comm_rank", code))?;
        (library.rank, library.world) = (rank as usize, world as usize);
        Ok(Box::leak(Box::new(library)))
    }

    /// How many messages have come or gone.
    pub fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }

    /// What the library calls this machine.
    pub fn machine(&self) -> String {
        self.text(self.functions.processor_name)
    }

    /// What one of its functions writes as text; its first line.
    fn text(&self, function: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int) -> String {
        let (mut text, mut length) = ([0 as c_char; TEXT], 0);
        // SAFETY: the standard bounds what is written by MPI_MAX_LIBRARY_VERSION_STRING, which no family sets above
        // `TEXT`; it ends with a zero, as does the array if nothing is written.
        let written = unsafe {
            function(text.as_mut_ptr(), &raw mut length);
            CStr::from_ptr(text.as_ptr())
        };
        let line = written.to_string_lossy().lines().next().unwrap_or_default().to_owned();
        // MPICH puts a tab before its number.
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn checked(&self, what: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let (mut text, mut length) = ([0 as c_char; TEXT], 0);
        // SAFETY: as in `text`; a code that the library does not know leaves the zeros.
        let said = unsafe {
            (self.functions.error_string)(code, text.as_mut_ptr(), &raw mut length);
            CStr::from_ptr(text.as_ptr())
        };
        Err(Error::Comm(format!("{what} failed: {} (code {code})", said.to_string_lossy().trim())))
    }

    /// Sums as the library does.
    pub fn all_reduce(&self, data: &mut [Elem]) -> Result<()> {
        let Ok(count) = c_int::try_from(data.len()) else {
            return Err(Error::Comm(format!("{} elements are too many for one MPI_Allreduce", data.len())));
        };
        let (own, Family { elem, sum, world, .. }) = (data.to_vec(), self.family);
        // SAFETY: both buffers have so many elements of this type, lie apart, and stay until the call returns.
        let code = unsafe {
            let (from, to) = (own.as_ptr().cast(), data.as_mut_ptr().cast());
            (self.functions.allreduce)(from, to, count, elem, sum, world)
        };
        self.checked("MPI_Allreduce", code)
    }

    /// Ends all ranks.
    pub fn abort(&self, code: c_int) -> ! {
        // SAFETY: MPI is initialised; whatever is under way, this call may be made.
        unsafe { (self.functions.abort)(self.family.world, code) };
        std::process::exit(code)
    }

    /// Ends MPI; nothing may be under way.
    pub fn finalize(&self) -> Result<()> {
        // SAFETY: MPI is initialised, and whoever calls this has taken all that was under way.
        self.checked("MPI_Finalize", unsafe { (self.functions.finalize)() })
    }
}

/// The family of a library, by what it exports.
fn family(shared: &Shared) -> Family {
    // SAFETY: only the addresses of the symbols are taken; they are not read here.
    let address =
        |name: &[u8]| unsafe { shared.get::<*mut c_void>(name).ok().map(|s| s.as_raw_ptr() as usize) };
    let open = || {
        Some(Family {
            name: "Open MPI",
            world: address(b"ompi_mpi_comm_world\0")?,
            byte: address(b"ompi_mpi_byte\0")?,
            elem: address(if DOUBLE { b"ompi_mpi_double\0" } else { b"ompi_mpi_float\0" })?,
            sum: address(b"ompi_mpi_op_sum\0")?,
            errors_return: address(b"ompi_mpi_errors_return\0")?,
            serialized: 2,
        })
    };
    if let Some(family) = open() {
        return family;
    }
    // SAFETY: MPI 5 gives the name this signature, and it may be called before MPI is initialised.
    let version = unsafe {
        shared.get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(b"MPI_Abi_get_version\0").map(
            |ask| {
                let (mut major, mut minor) = (0, 0);
                ask(&raw mut major, &raw mut minor);
                major
            },
        )
    };
    if version.is_ok_and(|major| major >= 1) { ABI } else { MPICH }
}

/// What the loader itself says, which names the file.
fn innermost(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// Memory that messages leave from, or arrive in. What is under way keeps it: it can be looked at when all has come,
/// and is given up, not freed, when it is dropped before.
#[derive(Debug)]
pub struct Area<T: Pod> {
    data: Vec<T>,
    under_way: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    request: Handle,
    peer: usize,
    /// Elements.
    part: Range<usize>,
    arrives: bool,
}

impl<T: Pod> Area<T> {
    pub fn new(data: Vec<T>) -> Self {
        Self { data, under_way: Vec::new() }
    }

    /// Begins to send a part. Messages to one rank with one tag arrive in their order.
    pub fn send(&mut self, library: &Library, part: Range<usize>, to: usize, tag: i32) -> Result<()> {
        self.begin(library, part, to, tag, false)
    }

    /// Begins to receive into a part, which may stay longer than what comes.
    pub fn receive(&mut self, library: &Library, part: Range<usize>, from: usize, tag: i32) -> Result<()> {
        self.begin(library, part, from, tag, true)
    }

    fn begin(
        &mut self,
        library: &Library,
        part: Range<usize>,
        peer: usize,
        tag: i32,
        arrives: bool,
    ) -> Result<()> {
        let overlaps = |m: &Message| m.part.start < part.end && part.start < m.part.end;
        let in_use = self.under_way.iter().any(|m| (arrives || m.arrives) && overlaps(m));
        if part.start > part.end || part.end > self.data.len() || in_use || peer >= library.world {
            return Err(Error::Comm(format!("no message of {part:?} with rank {peer} can begin")));
        }
        let each = (PIECE / size_of::<T>()).max(1);
        let (Library { functions, family, .. }, start) = (library, self.data.as_mut_ptr());
        for first in part.clone().step_by(each) {
            let piece = first..part.end.min(first + each);
            let (bytes, peer_number) = (piece.len() * size_of::<T>(), peer as c_int);
            let mut request = 0;
            // SAFETY: the piece lies within `data`, whose memory stays where it is: no method takes or frees it while
            // a message is under way, and `drop` leaks it then. Nobody else reads or writes a part that a message
            // arrives in, or writes one that a message leaves from.
            let code = unsafe {
                let at = start.add(piece.start).cast::<c_void>();
                let (byte, world) = (family.byte, family.world);
                match arrives {
                    true => {
                        (functions.irecv)(at, bytes as c_int, byte, peer_number, tag, world, &raw mut request)
                    }
                    false => {
                        (functions.isend)(at, bytes as c_int, byte, peer_number, tag, world, &raw mut request)
                    }
                }
            };
            library.checked(if arrives { "MPI_Irecv" } else { "MPI_Isend" }, code)?;
            self.under_way.push(Message { request, peer, part: piece, arrives });
        }
        Ok(())
    }

    /// Whether all has come and gone.
    pub fn is_done(&mut self, library: &Library) -> Result<bool> {
        let mut at = 0;
        while let Some(message) = self.under_way.get_mut(at) {
            let (mut done, mut status) = (0, Status::default());
            // SAFETY: the request is one that the library gave and has not completed; `status` has room for any.
            let code =
                unsafe { (library.functions.test)(&raw mut message.request, &raw mut done, &raw mut status) };
            library.checked("MPI_Test", code)?;
            match done {
                0 => at += 1,
                _ => {
                    library.completed.fetch_add(1, Relaxed);
                    self.under_way.swap_remove(at);
                }
            }
        }
        Ok(self.under_way.is_empty())
    }

    /// The ranks whose messages are yet to come or to go, ascending.
    pub fn awaited(&self) -> Vec<usize> {
        let mut peers: Vec<_> = self.under_way.iter().map(|message| message.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The memory, when nothing is under way.
    pub fn data(&mut self) -> Result<&mut Vec<T>> {
        match self.under_way.is_empty() {
            true => Ok(&mut self.data),
            false => Err(Error::Comm("messages are still under way".into())),
        }
    }
}

impl<T: Pod> Drop for Area<T> {
    fn drop(&mut self) {
        if !self.under_way.is_empty() {
            // The library may still write to it.
            std::mem::forget(std::mem::take(&mut self.data));
        }
    }
}
