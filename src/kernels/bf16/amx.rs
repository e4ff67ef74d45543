//! The micro-kernel by AMX-BF16: two by two tiles of sums.
#![allow(unsafe_code)]

use super::microkernel::{Bf16Kernel, TILE};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::cell::Cell;

/// Whether the CPU has AMX-BF16 and the system lets this process use it: asked for once.
pub(in crate::kernels) fn may_be_used() -> bool {
    has_instructions() && system_saves_tiles() && permitted()
}

/// By CPUID: leaf 7 has AMX-BF16 in EDX bit 22 and AMX-TILE in bit 24.
fn has_instructions() -> bool {
    let needed = 1 << 22 | 1 << 24;
    __cpuid_count(0, 0).eax >= 0x1d
        && __cpuid_count(7, 0).edx & needed == needed
        // Palette 1 has 8 tiles of 16 rows of 64 bytes.
        && __cpuid_count(0x1d, 0).eax >= 1
        && __cpuid_count(0x1d, 1).ebx == 8 << 16 | 64
        && __cpuid_count(0x1d, 1).ecx & 0xffff == 16
}

/// By XCR0: the system saves the configuration (bit 17) and the tiles (bit 18) of a thread.
fn system_saves_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return false;
    }
    let low: u32;
    // SAFETY: the system has made XGETBV available (OSXSAVE); it reads a register.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags))
    };
    low & 0x60000 == 0x60000
}

/// Linux gives the room for tiles to processes that ask for it.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: `arch_prctl` with this code reads no memory of the process; a system that does not know it answers with an
    // error. The kernel overwrites RCX and R11.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA, out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

thread_local! {
    /// Rows and columns of the block that the tile registers of this thread are set up for; none: they are free.
    static SET_UP: Cell<Option<(u8, u8)>> = const { Cell::new(None) };
}

/// The memory that LDTILECFG reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_a_row: [u16; 16],
    rows: [u8; 16],
}

/// Whether tiles that are set up for a block of size `have` serve one of size `want`, which may leave the second ones
/// out.
fn serves(have: u8, want: u8) -> bool {
    have == want || have.min(16) == want
}

/// Sets up the tiles for a block: 0 to 3 are C, row by row; 4 and 5 are A; 6 and 7 are B.
fn set_up(rows: usize, cols: usize) {
    let want = (rows as u8, cols as u8);
    if SET_UP.get().is_some_and(|have| serves(have.0, want.0) && serves(have.1, want.1)) {
        return;
    }
    let mut config =
        Config { palette: 1, start_row: 0, reserved: [0; 14], bytes_of_a_row: [0; 16], rows: [0; 16] };
    let (down, across) = ([rows.min(16), rows.saturating_sub(16)], [cols.min(16), cols.saturating_sub(16)]);
    let c = [0, 1, 2, 3].map(|t| (down[t / 2], 4 * across[t % 2]));
    let (a, b) = (down.map(|rows| (rows, 64)), across.map(|cols| (16, 4 * cols)));
    for (t, (rows, bytes)) in c.into_iter().chain(a).chain(b).enumerate() {
        // A tile without rows or columns is not there.
        if rows > 0 && bytes > 0 {
            (config.rows[t], config.bytes_of_a_row[t]) = (rows as u8, bytes as u16);
        }
    }
    // SAFETY: the process may use tiles (`may_be_used`), and the configuration is one of palette 1: at most 16 rows of 64
    // bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, preserves_flags, readonly)) };
    SET_UP.set(Some(want));
}

/// Gives the tile registers of this thread free.
pub(super) fn release() {
    if SET_UP.take().is_some() {
        // SAFETY: tiles were set up by this process, so it may use them.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// What the loop below reads, in bytes.
#[repr(C)]
struct Operands {
    a: *const u8,
    /// From the first tile of A to the second.
    next_a: usize,
    steps: *const u32,
    inner: usize,
    outer: usize,
    stride: usize,
    b: *const u8,
    rs_b: usize,
    c: *mut u8,
    next_c: usize,
    accumulate: usize,
}

/// The loop over all steps as one block of assembly, since the compiler knows of no values in tile registers.
macro_rules! block {
    ($o:expr, $rs_a:expr, $rs_c:expr, [$($zero:literal)*], [$($load:literal)*], [$($step:literal)*], [$($store:literal)*]) => {
        asm!(
            "mov {c}, [{o} + 64]",
            "mov {c1}, [{o} + 72]",
            "add {c1}, {c}",
            "cmp qword ptr [{o} + 80], 0",
            "jne 2f",
            $($zero,)*
            "jmp 3f",
            "2:",
            $($load,)*
            "3:",
            "mov {a}, [{o}]",
            "mov {b}, [{o} + 48]",
            "mov {outer}, [{o} + 32]",
            "4:",
            "mov {at}, [{o} + 16]",
            "mov {inner}, [{o} + 24]",
            "5:",
            "mov {p:e}, dword ptr [{at}]",
            "add {at}, 4",
            "lea {p}, [{a} + 2 * {p}]",
            "mov {q}, [{o} + 8]",
            "add {q}, {p}",
            $($step,)*
            "add {b}, [{o} + 56]",
            "dec {inner}",
            "jnz 5b",
            "add {a}, [{o} + 40]",
            "dec {outer}",
            "jnz 4b",
            $($store,)*
            o = in(reg) $o, rs_a = in(reg) $rs_a, rs_c = in(reg) $rs_c, rs_b = in(reg) 64_usize,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, c1 = out(reg) _, at = out(reg) _,
            inner = out(reg) _, outer = out(reg) _, p = out(reg) _, q = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// Computes a block that has passed its check.
pub(super) fn run(t: &Bf16Kernel<'_>) {
    set_up(t.rows, t.cols);
    if t.k.len() == 0 {
        return no_steps(t);
    }
    let operands = Operands {
        a: t.a.as_ptr().cast(),
        next_a: 32 * t.rs_a,
        steps: t.k.inner.as_ptr(),
        inner: t.k.inner.len(),
        outer: t.k.outer,
        stride: 2 * t.k.stride,
        b: t.b.as_ptr().cast(),
        rs_b: 2 * t.rs_b,
        c: t.c.ptr.cast(),
        next_c: 64 * t.rs_c,
        accumulate: usize::from(t.accumulate),
    };
    let (o, rs_a, rs_c) = (&raw const operands, 2 * t.rs_a, 4 * t.rs_c);
    const { assert!(2 * TILE == 1024) };
    // SAFETY: `Bf16Kernel::check` has compared the largest index of each operand with its length, tiles have the rows and
    // columns of the block, and there is a step.
    unsafe {
        match (t.rows > 16, t.cols > 16) {
            (true, true) => block!(o, rs_a, rs_c,
                ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"],
                ["tileloadd tmm0, [{c} + {rs_c}]" "tileloadd tmm1, [{c} + {rs_c} + 64]"
                 "tileloadd tmm2, [{c1} + {rs_c}]" "tileloadd tmm3, [{c1} + {rs_c} + 64]"],
                ["tileloadd tmm6, [{b} + {rs_b}]" "tileloadd tmm4, [{p} + {rs_a}]"
                 "tdpbf16ps tmm0, tmm4, tmm6"
                 "tileloadd tmm7, [{b} + {rs_b} + 1024]"
                 "tdpbf16ps tmm1, tmm4, tmm7"
                 "tileloadd tmm5, [{q} + {rs_a}]"
                 "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"],
                ["tilestored [{c} + {rs_c}], tmm0" "tilestored [{c} + {rs_c} + 64], tmm1"
                 "tilestored [{c1} + {rs_c}], tmm2" "tilestored [{c1} + {rs_c} + 64], tmm3"]),
            (true, false) => block!(o, rs_a, rs_c,
                ["tilezero tmm0" "tilezero tmm2"],
                ["tileloadd tmm0, [{c} + {rs_c}]" "tileloadd tmm2, [{c1} + {rs_c}]"],
                ["tileloadd tmm6, [{b} + {rs_b}]" "tileloadd tmm4, [{p} + {rs_a}]"
                 "tdpbf16ps tmm0, tmm4, tmm6"
                 "tileloadd tmm5, [{q} + {rs_a}]" "tdpbf16ps tmm2, tmm5, tmm6"],
                ["tilestored [{c} + {rs_c}], tmm0" "tilestored [{c1} + {rs_c}], tmm2"]),
            (false, true) => block!(o, rs_a, rs_c,
                ["tilezero tmm0" "tilezero tmm1"],
                ["tileloadd tmm0, [{c} + {rs_c}]" "tileloadd tmm1, [{c} + {rs_c} + 64]"],
                ["tileloadd tmm6, [{b} + {rs_b}]" "tileloadd tmm4, [{p} + {rs_a}]"
                 "tdpbf16ps tmm0, tmm4, tmm6"
                 "tileloadd tmm7, [{b} + {rs_b} + 1024]" "tdpbf16ps tmm1, tmm4, tmm7"],
                ["tilestored [{c} + {rs_c}], tmm0" "tilestored [{c} + {rs_c} + 64], tmm1"]),
            (false, false) => block!(o, rs_a, rs_c,
                ["tilezero tmm0"],
                ["tileloadd tmm0, [{c} + {rs_c}]"],
                ["tileloadd tmm6, [{b} + {rs_b}]" "tileloadd tmm4, [{p} + {rs_a}]"
                 "tdpbf16ps tmm0, tmm4, tmm6"],
                ["tilestored [{c} + {rs_c}], tmm0"]),
        }
    }
}

/// Sums of nothing.
fn no_steps(t: &Bf16Kernel<'_>) {
    if !t.accumulate {
        // SAFETY: `Bf16Kernel::check` has compared the largest index with the length; the caller owns the block.
        (0..t.rows).for_each(|i| unsafe { t.c.slice(i * t.rs_c, t.cols) }.fill(0.0));
    }
}
