//! ChaCha8, one block at a time. Existing crates make several blocks at once for vector units,
//! which is slow in WebAssembly.

/// The generator: D. J. Bernstein's ChaCha with 8 rounds, a counter of 64 bits and a stream of 64.
#[derive(Clone, Debug)]
pub struct ChaCha8 {
    /// Constants, key, counter, stream.
    input: [u32; 16],
    block: [u32; 16],
    /// The number of words of the block that were drawn.
    drawn: usize,
}

impl ChaCha8 {
    pub(crate) fn new(key: &[u8; 32], stream: u64) -> ChaCha8 {
        let mut input = [0; 16];
        for (word, bytes) in input.iter_mut().zip(b"expand 32-byte k".as_chunks().0.iter().chain(key.as_chunks().0)) {
            *word = u32::from_le_bytes(*bytes);
        }
        (input[14], input[15]) = (stream as u32, (stream >> 32) as u32);
        ChaCha8 { input, block: [0; 16], drawn: 16 }
    }

    /// Returns the next two words as one number. The first word is its lower half.
    #[inline]
    pub(crate) fn next_u64(&mut self) -> u64 {
        if self.drawn >= 16 {
            self.next_block();
        }
        let at = self.drawn;
        self.drawn += 2;
        self.block[at] as u64 | (self.block[at + 1] as u64) << 32
    }

    fn next_block(&mut self) {
        fn quarter(x: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
            x[a] = x[a].wrapping_add(x[b]);
            x[d] = (x[d] ^ x[a]).rotate_left(16);
            x[c] = x[c].wrapping_add(x[d]);
            x[b] = (x[b] ^ x[c]).rotate_left(12);
            x[a] = x[a].wrapping_add(x[b]);
            x[d] = (x[d] ^ x[a]).rotate_left(8);
            x[c] = x[c].wrapping_add(x[d]);
            x[b] = (x[b] ^ x[c]).rotate_left(7);
        }
        let mut x = self.input;
        for _ in 0..4 {
            for i in 0..4 {
                quarter(&mut x, i, 4 + i, 8 + i, 12 + i);
            }
            for i in 0..4 {
                quarter(&mut x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
            }
        }
        for ((word, x), input) in self.block.iter_mut().zip(x).zip(self.input) {
            *word = x.wrapping_add(input);
        }
        let counter = (self.input[12] as u64 | (self.input[13] as u64) << 32).wrapping_add(1);
        (self.input[12], self.input[13]) = (counter as u32, (counter >> 32) as u32);
        self.drawn = 0;
    }
}
