//! Values: MessagePack that was checked once and is read in place afterwards.
//!
//! A value is nil, a bool, an integer within ±(2^53 - 1), a finite float, a UTF-8 string, an
//! array, or a map with unique string keys. [`scan`] checks that bytes are such a value. It does
//! not use recursion, and it checks each length before it uses it. Everything else here reads only
//! bytes that `scan` has accepted.

use crate::error::{Error, Result, clip, code};
use crate::sort::sort_names;
use crate::write::int_code;
use smallvec::SmallVec;

/// The largest integer that a value may hold, 2^53 - 1. The smallest one is -MAX_INT.
pub const MAX_INT: i64 = (1 << 53) - 1;

/// The content of one MessagePack header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Head {
    Nil,
    Bool(bool),
    Int(i64),
    /// An unsigned integer above `i64::MAX`.
    Huge(u64),
    Float(f64),
    Str(usize),
    Array(usize),
    Map(usize),
    /// The first byte of bin or ext, or the byte that MessagePack never uses.
    Other(u8),
}

/// Reads the header at the start of `b`. Returns the header and its length in bytes; None if `b`
/// ends within the header.
pub(crate) fn head(b: &[u8]) -> Option<(Head, usize)> {
    read_head(b)
}

#[inline(always)]
fn read_head(b: &[u8]) -> Option<(Head, usize)> {
    fn be<const N: usize>(b: &[u8]) -> Option<[u8; N]> {
        b.get(1..1 + N)?.try_into().ok()
    }
    let unsigned = |v: u64| i64::try_from(v).map_or(Head::Huge(v), Head::Int);
    let first = *b.first()?;
    Some(match first {
        0x00..=0x7f => (Head::Int(first as i64), 1),
        0x80..=0x8f => (Head::Map((first & 15) as usize), 1),
        0x90..=0x9f => (Head::Array((first & 15) as usize), 1),
        0xa0..=0xbf => (Head::Str((first & 31) as usize), 1),
        0xc0 => (Head::Nil, 1),
        0xc2 => (Head::Bool(false), 1),
        0xc3 => (Head::Bool(true), 1),
        0xca => (Head::Float(f32::from_be_bytes(be(b)?) as f64), 5),
        0xcb => (Head::Float(f64::from_be_bytes(be(b)?)), 9),
        0xcc => (Head::Int(be::<1>(b)?[0] as i64), 2),
        0xcd => (Head::Int(u16::from_be_bytes(be(b)?) as i64), 3),
        0xce => (Head::Int(u32::from_be_bytes(be(b)?) as i64), 5),
        0xcf => (unsigned(u64::from_be_bytes(be(b)?)), 9),
        0xd0 => (Head::Int(i8::from_be_bytes(be(b)?) as i64), 2),
        0xd1 => (Head::Int(i16::from_be_bytes(be(b)?) as i64), 3),
        0xd2 => (Head::Int(i32::from_be_bytes(be(b)?) as i64), 5),
        0xd3 => (Head::Int(i64::from_be_bytes(be(b)?)), 9),
        0xd9 => (Head::Str(be::<1>(b)?[0] as usize), 2),
        0xda => (Head::Str(u16::from_be_bytes(be(b)?) as usize), 3),
        0xdb => (Head::Str(u32::from_be_bytes(be(b)?) as usize), 5),
        0xdc => (Head::Array(u16::from_be_bytes(be(b)?) as usize), 3),
        0xdd => (Head::Array(u32::from_be_bytes(be(b)?) as usize), 5),
        0xde => (Head::Map(u16::from_be_bytes(be(b)?) as usize), 3),
        0xdf => (Head::Map(u32::from_be_bytes(be(b)?) as usize), 5),
        0xe0..=0xff => (Head::Int(first as i8 as i64), 1),
        other => (Head::Other(other), 1),
    })
}

/// The result of [`scan`] for one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The length of the value in bytes.
    pub len: usize,
    /// Whether the bytes are in canonical form (see [`canonical`]).
    pub canonical: bool,
}

/// The reason why [`scan`] did not accept bytes.
#[derive(Debug)]
pub enum ScanError {
    /// The bytes end within the value. With more bytes it may become valid.
    Incomplete,
    /// The value is not valid, whatever bytes follow.
    Invalid(Error),
}

impl ScanError {
    /// Returns the error of an action, for bytes that nothing follows.
    pub fn into_error(self) -> Error {
        match self {
            ScanError::Incomplete => Error::bad_payload("the MessagePack ends in the middle of a value"),
            ScanError::Invalid(e) => e,
        }
    }
}

/// A container that is being scanned.
struct Open {
    /// The number of items still to come. Each key and each value of a map is one item.
    left: u64,
    map: bool,
    /// The offset of the first item.
    body: usize,
    items: u64,
    /// The last key, as a range of the input.
    key: (usize, usize),
    /// Whether the keys so far came in strictly ascending order.
    ascending: bool,
}

impl Open {
    fn new(items: u64, map: bool, body: usize) -> Open {
        Open { left: items, map, body, items, key: (body, body), ascending: true }
    }
}

/// Checks the value at the start of `b`. Fails if it is more than `max_depth` containers deep. The
/// time is linear in the value's length, except for maps whose keys are not in ascending order:
/// those keys are sorted once, to find two that are equal.
pub fn scan(b: &[u8], max_depth: usize) -> std::result::Result<Scanned, ScanError> {
    let invalid = |e: Error| Err(ScanError::Invalid(e));
    // The innermost open container, and those around it. The value itself is the one item of a
    // container that has no bytes.
    let mut inner = Open::new(1, false, 0);
    let mut outer: SmallVec<[Open; 8]> = SmallVec::new();
    let mut canonical = true;
    let mut at = 0;
    loop {
        let (h, n) = read_head(&b[at..]).ok_or(ScanError::Incomplete)?;
        let start = at;
        at += n;
        let key_wanted = inner.map && inner.left.is_multiple_of(2);
        if key_wanted && !matches!(h, Head::Str(_)) {
            return invalid(Error::bad_payload(format!("a map key must be a string, not {}", describe(h))));
        }
        match h {
            Head::Nil | Head::Bool(_) => {}
            Head::Int(i) => {
                if !(-MAX_INT..=MAX_INT).contains(&i) {
                    return invalid(int_range(i as i128));
                }
                canonical &= n == 1 || b[start] == int_code(i);
            }
            Head::Huge(u) => return invalid(int_range(u as i128)),
            Head::Float(f) => {
                if !f.is_finite() {
                    return invalid(Error::bad_payload(format!("a number must be finite, not {f}")));
                }
                canonical &= n == 9 && as_int(f).is_none();
            }
            Head::Str(len) => {
                let end = at.checked_add(len).filter(|&e| e <= b.len()).ok_or(ScanError::Incomplete)?;
                if !is_utf8(&b[at..end]) {
                    return invalid(Error::bad_payload("a string is not valid UTF-8"));
                }
                canonical &= n == str_head_len(len);
                if key_wanted {
                    if inner.left < inner.items && b[inner.key.0..inner.key.1] >= b[at..end] {
                        inner.ascending = false;
                        canonical = false;
                    }
                    inner.key = (at, end);
                }
                at = end;
            }
            Head::Array(len) | Head::Map(len) => {
                let map = matches!(h, Head::Map(_));
                if outer.len() >= max_depth {
                    return invalid(Error::new(
                        code::TOO_DEEP,
                        format!("a value is nested more than {max_depth} levels deep (MaxDepth {max_depth})"),
                    ));
                }
                canonical &= n == seq_head_len(len);
                let items = len as u64 * if map { 2 } else { 1 };
                outer.push(std::mem::replace(&mut inner, Open::new(items, map, at)));
                if items > 0 {
                    continue;
                }
            }
            Head::Other(x) => {
                return invalid(Error::bad_payload(format!(
                    "{} (byte 0x{x:02x}) is not a value: only nil, bool, number, string, array and map are",
                    describe(h)
                )));
            }
        }
        // An item has ended. If it was the last one of its container, the container ends, too, and
        // is itself an item that has ended. An empty container is counted in the loop below.
        if !matches!(h, Head::Array(_) | Head::Map(_)) {
            inner.left -= 1;
        }
        while inner.left == 0 {
            let Some(parent) = outer.pop() else { return Ok(Scanned { len: at, canonical }) };
            let o = std::mem::replace(&mut inner, parent);
            if !o.ascending {
                unique_keys(&b[o.body..at], o.items / 2)?;
            }
            inner.left -= 1;
        }
    }
}

/// Returns whether the bytes are UTF-8. Most strings are short and ASCII: that is checked first,
/// eight bytes at a time.
fn is_utf8(b: &[u8]) -> bool {
    let (words, rest) = b.as_chunks::<8>();
    let high = words.iter().fold(0, |h, w| h | u64::from_le_bytes(*w)) & 0x8080_8080_8080_8080;
    (high == 0 && rest.is_ascii()) || std::str::from_utf8(b).is_ok()
}

/// Checks that `b` is exactly one value.
pub fn scan_all(b: &[u8], max_depth: usize) -> Result<Scanned> {
    let s = scan(b, max_depth).map_err(ScanError::into_error)?;
    if s.len != b.len() {
        return Err(Error::bad_payload(format!("{} bytes follow the value", b.len() - s.len)));
    }
    Ok(s)
}

fn unique_keys(body: &[u8], n: u64) -> std::result::Result<(), ScanError> {
    let mut keys: Vec<(&str, u32)> = Entries { rest: body, left: n as usize }.map(|(k, _)| (k, 0)).collect();
    sort_names(&mut keys);
    match keys.windows(2).find(|w| w[0] == w[1]) {
        None => Ok(()),
        Some(w) => {
            Err(ScanError::Invalid(Error::bad_payload(format!("the key {:?} stands twice in a map", clip(w[0].0)))))
        }
    }
}

fn int_range(i: i128) -> Error {
    Error::out_of_range(format!("the integer {i} is outside ±{MAX_INT}"))
}

fn describe(h: Head) -> &'static str {
    match h {
        Head::Nil => "nil",
        Head::Bool(_) => "a bool",
        Head::Int(_) | Head::Huge(_) | Head::Float(_) => "a number",
        Head::Str(_) => "a string",
        Head::Array(_) => "an array",
        Head::Map(_) => "a map",
        Head::Other(0xc4..=0xc6) => "binary data",
        Head::Other(0xc1) => "an unused MessagePack byte",
        Head::Other(_) => "a MessagePack extension",
    }
}

/// Returns a float as an integer; None if it is not whole, or outside ±[`MAX_INT`].
pub fn as_int(f: f64) -> Option<i64> {
    (f.trunc() == f && f.abs() <= MAX_INT as f64).then_some(f as i64)
}

fn str_head_len(n: usize) -> usize {
    match n {
        0..=31 => 1,
        32..=255 => 2,
        256..=65535 => 3,
        _ => 5,
    }
}

fn seq_head_len(n: usize) -> usize {
    match n {
        0..=15 => 1,
        16..=65535 => 3,
        _ => 5,
    }
}

/// One value, borrowed from bytes that [`scan`] has accepted.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// The value nil.
    pub const NIL: Value<'static> = Value(&[0xc0]);

    /// Returns bytes as a value, without a check. The caller knows that they are exactly one
    /// value. With other bytes, later reads return nonsense or panic.
    pub(crate) fn trusted(b: &'a [u8]) -> Value<'a> {
        Value(b)
    }

    /// Returns bytes as a value. Fails if `b` is not exactly one value of at most `max_depth`
    /// containers within each other.
    pub fn parse(b: &'a [u8], max_depth: usize) -> Result<Value<'a>> {
        scan_all(b, max_depth).map(|_| Value(b))
    }

    /// Returns the bytes of the value, as they came.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn head(self) -> (Head, usize) {
        head(self.0).expect("a checked value has a header")
    }

    pub fn is_nil(self) -> bool {
        self.0[0] == 0xc0
    }

    pub fn as_bool(self) -> Option<bool> {
        match self.head().0 {
            Head::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// Returns a number, whether it is written as an integer or as a float; None for other values.
    /// Integers are exact.
    pub fn as_f64(self) -> Option<f64> {
        match self.head().0 {
            Head::Int(i) => Some(i as f64),
            Head::Float(f) => Some(f),
            _ => None,
        }
    }

    pub fn as_str(self) -> Option<&'a str> {
        str_range(self.0).map(|(from, to)| str_at(&self.0[from..to]))
    }

    /// Returns the items of an array; None for other values.
    pub fn items(self) -> Option<Items<'a>> {
        match self.head() {
            (Head::Array(left), at) => Some(Items { rest: &self.0[at..], left }),
            _ => None,
        }
    }

    /// Returns the entries of a map, in the order in which they came; None for other values.
    pub fn entries(self) -> Option<Entries<'a>> {
        match self.head() {
            (Head::Map(left), at) => Some(Entries { rest: &self.0[at..], left }),
            _ => None,
        }
    }

    /// Returns the value of a key; None if the key is missing, or if this is no map.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.entries()?.find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Returns the offsets within [`Value::bytes`] at which the entries of a map or the items of
    /// an array begin; nothing for other values. u32 is enough, because no request is as long as 4
    /// GiB.
    pub(crate) fn offsets(self) -> impl Iterator<Item = u32> {
        let (left, first, map) = match self.head() {
            (Head::Array(n), at) => (n, at, false),
            (Head::Map(n), at) => (n, at, true),
            _ => (0, 0, false),
        };
        let mut at = first;
        (0..left).map(move |_| {
            let begin = at;
            if map {
                at += str_range(&self.0[at..]).expect("a checked map has string keys").1;
            }
            at += skip(&self.0[at..]);
            begin as u32
        })
    }

    /// Returns the key of the entry that begins at an offset of [`Value::offsets`].
    pub(crate) fn key_at(self, at: u32) -> &'a str {
        let rest = &self.0[at as usize..];
        let (from, to) = str_range(rest).expect("a checked map has string keys");
        str_at(&rest[from..to])
    }

    /// Returns the entry that begins at an offset of [`Value::offsets`].
    pub(crate) fn entry_at(self, at: u32) -> (&'a str, Value<'a>) {
        Entries { rest: &self.0[at as usize..], left: 1 }.next().expect("an offset of this map")
    }

    /// Returns the item that begins at an offset of [`Value::offsets`].
    pub(crate) fn item_at(self, at: u32) -> Value<'a> {
        Items { rest: &self.0[at as usize..], left: 1 }.next().expect("an offset of this array")
    }

    /// Returns whether the value is nil, false, 0 or the empty string.
    pub(crate) fn is_falsy(self) -> bool {
        match self.head().0 {
            Head::Nil | Head::Bool(false) | Head::Str(0) => true,
            Head::Int(i) => i == 0,
            Head::Float(f) => f == 0.0,
            _ => false,
        }
    }

    /// Returns the value as a text for messages. Strings are clipped; arrays and maps are only
    /// named.
    pub fn describe(self) -> String {
        match self.head().0 {
            Head::Bool(b) => b.to_string(),
            Head::Int(i) => i.to_string(),
            Head::Float(f) => f.to_string(),
            Head::Str(_) => format!("the string {:?}", clip(self.as_str().unwrap_or_default())),
            Head::Array(n) => format!("an array of {n}"),
            h => describe(h).to_string(),
        }
    }
}

fn str_at(b: &[u8]) -> &str {
    // SAFETY: the callers pass only bytes that `scan` has accepted, or that `Writer` wrote from a
    // str.
    unsafe { std::str::from_utf8_unchecked(b) }
}

/// Returns the length of the checked value at the start of `b`.
#[inline]
fn skip(b: &[u8]) -> usize {
    match b[0] {
        0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => 1,
        short @ 0xa0..=0xbf => 1 + (short & 31) as usize,
        _ => skip_any(b),
    }
}

fn skip_any(b: &[u8]) -> usize {
    let (mut todo, mut at) = (1u64, 0);
    while todo > 0 {
        let (h, n) = read_head(&b[at..]).expect("a checked value is whole");
        at += n;
        todo -= 1;
        match h {
            Head::Str(len) => at += len,
            Head::Array(len) => todo += len as u64,
            Head::Map(len) => todo += 2 * len as u64,
            _ => {}
        }
    }
    at
}

/// Returns the range of the checked string's text at the start of `b`; None if that is no string.
#[inline]
fn str_range(b: &[u8]) -> Option<(usize, usize)> {
    match b[0] {
        short @ 0xa0..=0xbf => Some((1, 1 + (short & 31) as usize)),
        0xd9..=0xdb => match head(b) {
            Some((Head::Str(len), n)) => Some((n, n + len)),
            _ => None,
        },
        _ => None,
    }
}

/// The items of an array.
#[derive(Clone)]
pub struct Items<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;
    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (v, rest) = self.rest.split_at(skip(self.rest));
        self.rest = rest;
        Some(Value(v))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// The entries of a map.
#[derive(Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Value<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (from, to) = str_range(self.rest).expect("a checked map has string keys");
        let key = str_at(&self.rest[from..to]);
        let rest = &self.rest[to..];
        let (v, rest) = rest.split_at(skip(rest));
        self.rest = rest;
        Some((key, Value(v)))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Entries<'_> {}
