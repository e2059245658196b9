//! Writes values, and the canonical form of a value.

use crate::sort::sort_names;
use crate::value::{Head, Value, as_int};

/// The most memory that a reused buffer keeps, in bytes. So one large result does not take up
/// memory for the engine's whole life.
pub(crate) const KEPT: usize = 256 << 10;

/// Returns the first byte of an integer's shortest form. If it is not negative, that is an
/// unsigned form.
pub(crate) fn int_code(i: i64) -> u8 {
    match i {
        -32..=127 => i as u8,
        128..=255 => 0xcc,
        256..=65535 => 0xcd,
        65536..=4294967295 => 0xce,
        4294967296.. => 0xcf,
        -128..=-33 => 0xd0,
        -32768..=-129 => 0xd1,
        -2147483648..=-32769 => 0xd2,
        _ => 0xd3,
    }
}

/// Writes MessagePack in canonical form. Only the bytes given to [`Writer::raw`] may be in another
/// form.
///
/// A writer has a limit in bytes. If a write would exceed it, nothing more is written, and
/// [`Writer::overflown`] returns true. So the memory of a result is bounded while it is made.
#[derive(Debug)]
pub struct Writer {
    buf: Vec<u8>,
    limit: usize,
    overflown: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Writer::new(usize::MAX)
    }
}

impl Writer {
    pub fn new(limit: usize) -> Writer {
        Writer { buf: Vec::new(), limit, overflown: false }
    }
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }
    pub fn into_bytes(self) -> Vec<u8> {
        self.buf
    }
    pub fn len(&self) -> usize {
        self.buf.len()
    }
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }
    /// Returns whether something was not written because of the limit.
    pub fn overflown(&self) -> bool {
        self.overflown
    }
    pub(crate) fn reset(&mut self, limit: usize) {
        self.buf.clear();
        self.buf.shrink_to(KEPT);
        self.limit = limit;
        self.overflown = false;
    }
    /// Drops the first `n` bytes. The caller has sent them.
    pub(crate) fn drop_front(&mut self, n: usize) {
        self.buf.drain(..n);
    }
    /// Raises the limit by `n` bytes.
    pub(crate) fn raise(&mut self, n: usize) {
        self.limit = self.limit.saturating_add(n);
    }
    pub(crate) fn truncate(&mut self, len: usize) {
        self.buf.truncate(len);
        self.overflown = false;
    }
    /// Returns whether `n` more bytes may be written. Once it has returned false, it returns false
    /// until the writer is reset or truncated.
    #[inline]
    fn fits(&mut self, n: usize) -> bool {
        self.overflown |= n > self.limit.saturating_sub(self.buf.len());
        !self.overflown
    }
    #[inline]
    fn put(&mut self, b: &[u8]) {
        if self.fits(b.len()) {
            self.buf.extend_from_slice(b);
        }
    }
    #[inline]
    fn put_byte(&mut self, b: u8) {
        if self.fits(1) {
            self.buf.push(b);
        }
    }
    fn put_head(&mut self, first: u8, n: u64, width: usize) {
        let mut b = [0; 9];
        b[0] = first;
        b[1..=width].copy_from_slice(&n.to_be_bytes()[8 - width..]);
        self.put(&b[..=width]);
    }
    pub fn nil(&mut self) {
        self.put_byte(0xc0);
    }
    pub fn bool(&mut self, v: bool) {
        self.put_byte(0xc2 | v as u8);
    }
    /// Writes an integer. The caller has checked that it is within ±[`MAX_INT`].
    pub fn int(&mut self, v: i64) {
        match (int_code(v), v) {
            (first, -32..=127) => self.put_byte(first),
            (first @ (0xcc | 0xd0), _) => self.put_head(first, v as u64, 1),
            (first @ (0xcd | 0xd1), _) => self.put_head(first, v as u64, 2),
            (first @ (0xce | 0xd2), _) => self.put_head(first, v as u64, 4),
            (first, _) => self.put_head(first, v as u64, 8),
        }
    }
    /// Writes a number: as an integer if it is whole and within ±[`MAX_INT`], else as a float of
    /// 64 bits.
    pub fn num(&mut self, v: f64) {
        match as_int(v) {
            Some(i) => self.int(i),
            None => self.put_head(0xcb, v.to_bits(), 8),
        }
    }
    pub fn str(&mut self, s: &str) {
        let n = s.len();
        match n {
            0..=31 => {
                if self.fits(1 + n) {
                    self.buf.reserve(32);
                    self.buf.push(0xa0 | n as u8);
                    self.buf.extend_from_slice(s.as_bytes());
                }
                return;
            }
            32..=255 => self.put_head(0xd9, n as u64, 1),
            256..=65535 => self.put_head(0xda, n as u64, 2),
            _ => self.put_head(0xdb, n as u64, 4),
        }
        self.put(s.as_bytes());
    }
    /// Writes a key of at most 15 bytes that is a constant. It is faster than [`Writer::str`]: a
    /// few stores instead of a copy.
    #[inline(always)]
    pub(crate) fn key(&mut self, s: &'static str) {
        let n = s.len();
        let mut b = [0; 16];
        b[0] = 0xa0 | n as u8;
        b[1..=n].copy_from_slice(s.as_bytes());
        self.put(&b[..=n]);
    }
    /// Writes the header of an array of `n` items. The caller writes the items next.
    pub fn array(&mut self, n: usize) {
        match n {
            0..=15 => self.put_byte(0x90 | n as u8),
            16..=65535 => self.put_head(0xdc, n as u64, 2),
            _ => self.put_head(0xdd, n as u64, 4),
        }
    }
    /// Writes the header of a map of `n` entries. The caller writes the entries next, each a key
    /// and its value, sorted by the keys' bytes.
    pub fn map(&mut self, n: usize) {
        match n {
            0..=15 => self.put_byte(0x80 | n as u8),
            16..=65535 => self.put_head(0xde, n as u64, 2),
            _ => self.put_head(0xdf, n as u64, 4),
        }
    }
    /// Writes a value, byte for byte.
    pub fn raw(&mut self, v: &[u8]) {
        self.put(v);
    }
}

/// Appends the canonical form of a value: map keys sorted by bytes, whole floats within
/// ±[`MAX_INT`] as integers, other floats in 64 bits, each header in its shortest form. The
/// recursion is as deep as the value.
pub fn canonical(v: Value<'_>, out: &mut Writer) {
    match v.head().0 {
        Head::Int(_) | Head::Float(_) => out.num(v.as_f64().unwrap_or_default()),
        Head::Str(_) => out.str(v.as_str().unwrap_or_default()),
        Head::Array(n) => {
            out.array(n);
            v.items().into_iter().flatten().for_each(|i| canonical(i, out));
        }
        Head::Map(n) => {
            out.map(n);
            let mut entries: Vec<(&str, u32)> = v.offsets().map(|at| (v.key_at(at), at)).collect();
            sort_names(&mut entries);
            for (k, at) in entries {
                out.str(k);
                canonical(v.entry_at(at).1, out);
            }
        }
        _ => out.raw(v.bytes()),
    }
}
