//! Random numbers. All of them come from the host's entropy or from a seed in the payload.

use crate::chacha::ChaCha8;
use xxhash_rust::xxh64::xxh64;

/// A generator. A clone gives the same numbers again; a shuffle is undone with such a clone.
#[derive(Clone, Debug)]
pub enum Rng {
    /// The generator for a numeric seed. It is mulberry32, as in the reference implementation.
    Mulberry32(u32),
    /// The generator for a string seed, and for entropy.
    ChaCha8(Box<ChaCha8>),
}

impl Rng {
    /// Returns the generator for a number, which is truncated towards zero and taken modulo 2^32.
    pub fn from_number(seed: f64) -> Rng {
        Rng::Mulberry32(seed.trunc().rem_euclid(4294967296.0) as u32)
    }

    /// Returns the generator for a string. The ChaCha8 key is the XXH64 of the string's bytes with
    /// the seeds 0, 1, 2 and 3, each little-endian.
    pub fn from_string(seed: &str) -> Rng {
        let mut key = [0; 32];
        for (i, part) in key.chunks_mut(8).enumerate() {
            part.copy_from_slice(&xxh64(seed.as_bytes(), i as u64).to_le_bytes());
        }
        Rng::ChaCha8(Box::new(ChaCha8::new(&key, 0)))
    }

    /// Returns a generator for an action's entropy. The ChaCha8 key is the entropy followed by 16
    /// zero bytes. Streams are independent of each other. Stream 0 is for the shuffles of the
    /// dispatched action, stream 1 for identifiers, and streams from 2 on for the shuffles of
    /// called actions.
    pub fn from_entropy(entropy: &[u8; 16], stream: u64) -> Rng {
        let mut key = [0; 32];
        key[..16].copy_from_slice(entropy);
        Rng::ChaCha8(Box::new(ChaCha8::new(&key, stream)))
    }

    /// Returns the next number in [0, 1).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        match self {
            Rng::Mulberry32(a) => {
                *a = a.wrapping_add(0x6d2b_79f5);
                let mut t = (*a ^ (*a >> 15)).wrapping_mul(*a | 1);
                t = t.wrapping_add((t ^ (t >> 7)).wrapping_mul(t | 61)) ^ t;
                (t ^ (t >> 14)) as f64 / 4294967296.0
            }
            Rng::ChaCha8(r) => (r.next_u64() >> 11) as f64 / (1u64 << 53) as f64,
        }
    }

    fn bits(&mut self) -> u64 {
        match self {
            Rng::Mulberry32(_) => (self.unit() * 4294967296.0) as u64,
            Rng::ChaCha8(r) => r.next_u64(),
        }
    }

    /// Returns an identifier of 24 characters, which is 120 bits. The characters are digits and
    /// lower-case letters without i, l, o and u.
    pub fn identifier(&mut self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut id = String::with_capacity(24);
        for _ in 0..2 {
            let mut bits = self.bits();
            for _ in 0..12 {
                id.push(ALPHABET[(bits & 31) as usize] as char);
                bits >>= 5;
            }
        }
        id
    }

    /// Returns the swaps of a Fisher-Yates shuffle of `n` items, from the last item down. For a
    /// random number r in [0, 1), a swap is (i, j) with j = floor(r·(i + 1)).
    pub fn swaps(mut self, n: usize) -> impl Iterator<Item = (usize, usize)> {
        (1..n).rev().map(move |i| (i, (self.unit() * (i + 1) as f64) as usize))
    }
}

/// Returns the 32-bit hash that `tokens:shuffle` makes of a string: h = 31·h + c over its UTF-16
/// code units.
pub fn string_hash(s: &str) -> u32 {
    s.encode_utf16().fold(0u32, |h, c| h.wrapping_mul(31).wrapping_add(c as u32))
}
