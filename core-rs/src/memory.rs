//! Comparing bytes in WebAssembly. What the compiler brings compares one byte at a time, and names and identifiers are
//! compared all the time; this takes eight. It stands for theirs wherever slices or strings are compared.

use std::cmp::Ordering;
use std::ptr::read_unaligned;

/// Compares bytes as C's function does.
///
/// # Safety
/// `n` bytes can be read at both.
#[unsafe(no_mangle)]
#[inline(never)] // it would make every sort of strings several times as large
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // The first byte that differs decides: the first in memory is made the highest.
    // SAFETY: each is called with an offset from which that many bytes lie within the n; any alignment will do.
    let eight = |i: usize| unsafe {
        let (x, y) = (read_unaligned(a.add(i).cast::<u64>()), read_unaligned(b.add(i).cast::<u64>()));
        if x == y { Ordering::Equal } else { u64::from_be(x).cmp(&u64::from_be(y)) }
    };
    // SAFETY: as above.
    let four = |i: usize| unsafe {
        u32::from_be(read_unaligned(a.add(i).cast())).cmp(&u32::from_be(read_unaligned(b.add(i).cast())))
    };
    // SAFETY: as above.
    let one = |i: usize| unsafe { (*a.add(i)).cmp(&*b.add(i)) };
    // The last piece may begin among bytes that are equal already.
    let order = match n {
        0 => Ordering::Equal,
        1..=3 => one(0).then_with(|| one(n / 2)).then_with(|| one(n - 1)),
        4..=7 => four(0).then_with(|| four(n - 4)),
        _ => {
            let mut i = 0;
            loop {
                let order = eight(i);
                if order.is_ne() || i == n - 8 {
                    break order;
                }
                i = (i + 8).min(n - 8);
            }
        }
    };
    order as i32
}

/// Whether bytes differ, as C's function has it.
///
/// # Safety
/// `n` bytes can be read at both.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: it asks for the same.
    unsafe { memcmp(a, b, n) }
}
