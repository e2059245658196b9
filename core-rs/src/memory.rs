//! Compares bytes in WebAssembly, eight at a time. The compiler's own functions compare one byte
//! at a time, and names and identifiers are compared often. These functions replace them for all
//! slices and strings.

use std::cmp::Ordering;
use std::ptr::read_unaligned;

/// Compares bytes, as the function `memcmp` of C does.
///
/// # Safety
/// `n` bytes can be read at `a` and at `b`.
#[unsafe(no_mangle)]
#[inline(never)] // inlined, it would make every sort of strings several times as large
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // The first byte that differs decides the order. Read as big-endian, the first byte in memory
    // is the highest one of the number. SAFETY: the offset and the eight bytes after it lie within
    // the n bytes. No alignment is needed.
    let eight = |i: usize| unsafe {
        let (x, y) = (read_unaligned(a.add(i).cast::<u64>()), read_unaligned(b.add(i).cast::<u64>()));
        if x == y { Ordering::Equal } else { u64::from_be(x).cmp(&u64::from_be(y)) }
    };
    // SAFETY: the same holds for four bytes.
    let four = |i: usize| unsafe {
        u32::from_be(read_unaligned(a.add(i).cast())).cmp(&u32::from_be(read_unaligned(b.add(i).cast())))
    };
    // SAFETY: the same holds for one byte.
    let one = |i: usize| unsafe { (*a.add(i)).cmp(&*b.add(i)) };
    // The last piece may overlap the one before it: those bytes are known to be equal.
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

/// Returns 0 if the bytes are equal, as the function `bcmp` of C does.
///
/// # Safety
/// `n` bytes can be read at `a` and at `b`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: memcmp has the same condition as this function.
    unsafe { memcmp(a, b, n) }
}
