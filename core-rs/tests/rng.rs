//! The core's generator, held against another implementation of ChaCha8.

use hypertoken_core::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

#[test]
fn entropy_draws_what_chacha8_draws() {
    for seed in 0..64u8 {
        let entropy: [u8; 16] = std::array::from_fn(|i| seed.wrapping_mul(31).wrapping_add(i as u8 * 7));
        for stream in [0, 1, u64::MAX] {
            let mut key = [0; 32];
            key[..16].copy_from_slice(&entropy);
            let mut want = ChaCha8Rng::from_seed(key);
            want.set_stream(stream);
            let mut got = Rng::from_entropy(&entropy, stream);
            for i in 0..100 {
                let want = (want.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                assert_eq!(got.unit(), want, "number {i} of stream {stream}");
            }
        }
    }
}
