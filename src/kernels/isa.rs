//! Which instruction set the process uses, decided once.

use std::sync::OnceLock;

/// The classes of CPU that have their own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    /// Plain Rust for the baseline of the target.
    Portable,
    /// AVX2 with FMA: 256-bit vectors.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: 512-bit vectors.
    Avx512,
}

/// What multiplies bf16 numbers, beside the class of [`isa`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bf16Isa {
    /// Multiplications of f32.
    Portable,
    /// AVX512-BF16: two products a lane.
    Avx512,
    /// AMX-BF16 as well: 512 products of tiles a step.
    Amx,
}

/// The classes that the environment allows: `SHANTY_SIMD` is `off`, `avx2`, `avx512` or `avx512bf16`; unset: the best.
fn allowed() -> (Isa, Bf16Isa) {
    match std::env::var("SHANTY_SIMD").as_deref() {
        Ok("off") => (Isa::Portable, Bf16Isa::Portable),
        Ok("avx2") => (Isa::Avx2, Bf16Isa::Portable),
        Ok("avx512") => (Isa::Avx512, Bf16Isa::Portable),
        Ok("avx512bf16") => (Isa::Avx512, Bf16Isa::Avx512),
        _ => (Isa::Avx512, Bf16Isa::Amx),
    }
}

/// The best class that the CPU has and `SHANTY_SIMD` allows.
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| best().min(allowed().0))
}

/// The best class for bf16 that the CPU and the system have and `SHANTY_SIMD` allows.
pub(crate) fn bf16_isa() -> Bf16Isa {
    static ISA: OnceLock<Bf16Isa> = OnceLock::new();
    *ISA.get_or_init(|| match allowed().1 {
        Bf16Isa::Portable => Bf16Isa::Portable,
        allowed => best_bf16().min(allowed),
    })
}

/// The features of the CPU that the kernels use.
pub fn cpu_features() -> &'static str {
    match isa() {
        Isa::Portable => "those of every CPU of its kind",
        Isa::Avx2 => "AVX2, FMA",
        Isa::Avx512 => match bf16_isa() {
            Bf16Isa::Portable => "AVX-512 F, BW, DQ, VL",
            Bf16Isa::Avx512 => "AVX-512 F, BW, DQ, VL, BF16",
            Bf16Isa::Amx => "AVX-512 F, BW, DQ, VL, BF16, AMX-BF16",
        },
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Isa {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        _ => Isa::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best() -> Isa {
    Isa::Portable
}

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
fn best_bf16() -> Bf16Isa {
    if best() < Isa::Avx512 || !is_x86_feature_detected!("avx512bf16") {
        Bf16Isa::Portable
    } else if super::bf16::amx::may_be_used() {
        Bf16Isa::Amx
    } else {
        Bf16Isa::Avx512
    }
}

#[cfg(not(all(target_arch = "x86_64", not(shanty_f64))))]
fn best_bf16() -> Bf16Isa {
    Bf16Isa::Portable
}

/// Compiles one plain function three times, for the baseline, AVX2 and AVX-512, and picks one at each call.
///
/// The body must not call anything that is not inlined: a call leaves the widened code. Rust never contracts `a * b +
/// c` to one instruction, so the results are the same bits in all three. A function that is generic over `const FMA:
/// bool` is told whether `mul_add` is one instruction; the bits of its results may differ then. A function may
/// be generic over one type instead.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<const $fma:ident: bool>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body<const $fma: bool>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) { body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { body::<true>($($arg),*) }
                match $crate::kernels::isa::isa() {
                    // SAFETY: `isa` returns this class only if the CPU has the features.
                    $crate::kernels::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `isa` returns this class only if the CPU has the features.
                    $crate::kernels::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::isa::Isa::Portable => {}
                }
            }
            body::<false>($($arg),*)
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident$(<$t:ident: $bound:path>)?($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name$(<$t: $bound>)?($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body$(<$t: $bound>)?($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512$(<$t: $bound>)?($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2$(<$t: $bound>)?($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::kernels::isa::isa() {
                    // SAFETY: `isa` returns this class only if the CPU has the features.
                    $crate::kernels::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `isa` returns this class only if the CPU has the features.
                    $crate::kernels::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::isa::Isa::Portable => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;
