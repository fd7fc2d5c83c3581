//! Instruction sets, found at run time.

use std::sync::OnceLock;

/// An instruction set that this processor has.
///
/// A value can only be obtained by detection ([`Isa::active`], [`Isa::available`]), so holding one is the proof that
/// its instructions may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(pub(crate) Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Isa {
    /// Plain Rust, on every processor.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// Every instruction set of this processor that has kernels, best first; ends with [`Isa::PORTABLE`].
    pub fn available() -> &'static [Isa] {
        static FOUND: OnceLock<Vec<Isa>> = OnceLock::new();
        FOUND.get_or_init(|| {
            let mut found = Vec::new();
            #[cfg(target_arch = "x86_64")]
            {
                let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if avx2
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    found.push(Isa(Kind::Avx512));
                }
                if avx2 {
                    found.push(Isa(Kind::Avx2));
                }
            }
            #[cfg(target_arch = "aarch64")]
            if std::arch::is_aarch64_feature_detected!("neon") {
                found.push(Isa(Kind::Neon));
            }
            found.push(Isa::PORTABLE);
            found
        })
    }

    /// The instruction set in use: the best one, or the one that `DENSENET_ISA` names.
    ///
    /// # Errors
    /// `DENSENET_ISA` names one that does not exist or that this processor lacks.
    pub fn active() -> Result<Isa, String> {
        static ACTIVE: OnceLock<Result<Isa, String>> = OnceLock::new();
        ACTIVE
            .get_or_init(|| match std::env::var("DENSENET_ISA") {
                Ok(name) if !name.is_empty() => Isa::named(&name),
                _ => Ok(Isa::available()[0]),
            })
            .clone()
    }

    /// The instruction set called `name` (`avx512`, `avx2`, `neon`, `portable`).
    ///
    /// # Errors
    /// This processor lacks it, or there is none of that name.
    pub fn named(name: &str) -> Result<Isa, String> {
        let found = Isa::available().iter().find(|i| i.name() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Isa::available().iter().map(|i| i.name()).collect();
            format!(
                "DENSENET_ISA = {name}: not an instruction set of this processor — use one of {}",
                names.join(", ")
            )
        })
    }

    /// Whether it multiplies bf16 by itself; otherwise bf16 is widened, and no faster than f32.
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Kind::Avx512 {
            return is_x86_feature_detected!("avx512bf16");
        }
        false
    }

    /// The name in kernel ids, logs and `DENSENET_ISA`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            Kind::Portable => "portable",
        }
    }
}

/// Makes `fn name(isa, …)` run `body::<S>(…)` compiled for the instruction set that `isa` stands for.
///
/// The body is inlined into one thin shell per instruction set, so that plain loops are vectorised with its width.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "a shell repeats its body's arguments")]
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            use $crate::isa::Kind;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "a shell repeats its body's arguments")]
            fn avx512($($arg: $ty),*) $(-> $ret)? { $body::<$crate::simd::Avx512>($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "a shell repeats its body's arguments")]
            fn avx2($($arg: $ty),*) $(-> $ret)? { $body::<$crate::simd::Avx2>($($arg),*) }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            #[allow(clippy::too_many_arguments, reason = "a shell repeats its body's arguments")]
            fn neon($($arg: $ty),*) $(-> $ret)? { $body::<$crate::simd::Neon>($($arg),*) }
            match isa.0 {
                // SAFETY: an `Isa` is only made by `Isa::available`, which detected these features.
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Kind::Neon => unsafe { neon($($arg),*) },
                Kind::Portable => $body::<$crate::simd::Portable>($($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_there_and_strangers_are_named() {
        assert_eq!(Isa::named("portable"), Ok(Isa::PORTABLE));
        assert!(Isa::named("sse9").unwrap_err().contains("portable"));
        assert_eq!(Isa::available().last(), Some(&Isa::PORTABLE));
    }
}
