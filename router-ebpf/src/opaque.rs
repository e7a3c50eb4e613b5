//! Arithmetic that the compiler cannot see through.
//!
//! The verifier knows a bound by the very register that was compared or masked. The compiler, which
//! knows more, drops comparisons that it finds needless and computes sums twice.

/// `base + offset`.
#[inline(always)]
pub fn sum(base: usize, offset: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut sum = base as u64;
        // SAFETY: an addition.
        unsafe {
            core::arch::asm!(
                "{sum} += {offset}",
                sum = inout(reg) sum,
                offset = in(reg) offset as u64,
                options(pure, nomem, nostack),
            );
        }
        sum as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        base + offset
    }
}

/// `number & MASK`.
#[inline(always)]
pub fn masked<const MASK: u32>(number: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut masked = u64::from(number);
        // SAFETY: a conjunction.
        unsafe {
            core::arch::asm!(
                "{masked} &= {mask}",
                masked = inout(reg) masked,
                mask = const MASK,
                options(pure, nomem, nostack),
            );
        }
        masked as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number & MASK
    }
}
