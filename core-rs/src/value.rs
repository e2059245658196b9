//! Values: MessagePack that was checked once and is read in place afterwards.
//!
//! A value is nil, a bool, an integer within ±(2^53 - 1), a finite float, a UTF-8 string, an array, or a map
//! with unique string keys. [`scan`] checks bytes against that without recursion and without trusting a length;
//! everything else here reads bytes that `scan` has accepted.

use crate::error::{Error, Result, clip, code};
use crate::write::int_code;
use smallvec::SmallVec;

/// The largest integer that a value may hold, 2^53 - 1; the smallest is its negative.
pub const MAX_INT: i64 = (1 << 53) - 1;

/// What one MessagePack header says.
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
    /// bin, ext and the byte that MessagePack never uses.
    Other(u8),
}

/// Reads the header at the start of `b`: what it says, and its length. None where `b` ends before it does.
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

/// What [`scan`] found out about one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes of the value.
    pub len: usize,
    /// Whether the bytes are the canonical form already (see [`canonical`]).
    pub canonical: bool,
}

/// Why [`scan`] did not accept the bytes.
#[derive(Debug)]
pub enum ScanError {
    /// The bytes end before the value does: more of them may make it valid.
    Incomplete,
    /// No bytes behind these make it valid.
    Invalid(Error),
}

impl ScanError {
    /// The error where no more bytes will come.
    pub fn into_error(self) -> Error {
        match self {
            ScanError::Incomplete => Error::bad_payload("the MessagePack ends in the middle of a value"),
            ScanError::Invalid(e) => e,
        }
    }
}

/// A container that is open.
struct Open {
    /// Items still to come; a map's keys and values count one each.
    left: u64,
    map: bool,
    /// Where the first item starts.
    body: usize,
    items: u64,
    /// The last key, as a range of the input, and whether keys came in strictly ascending order so far.
    key: (usize, usize),
    ascending: bool,
}

impl Open {
    fn new(items: u64, map: bool, body: usize) -> Open {
        Open { left: items, map, body, items, key: (body, body), ascending: true }
    }
}

/// Checks the value at the start of `b`, at most `max_depth` containers deep. Time is linear in its length but
/// for maps whose keys are not in ascending order, which are sorted once to find a double.
pub fn scan(b: &[u8], max_depth: usize) -> std::result::Result<Scanned, ScanError> {
    let invalid = |e: Error| Err(ScanError::Invalid(e));
    // The innermost container, and those around it. The value itself counts as the item of one that has no bytes.
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
        // An item has ended, and with it those containers that it was the last item of. A container that opened empty
        // owes nothing: it is the item.
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

/// Whether the bytes are UTF-8. Most strings are short and ASCII, which is seen eight bytes at a time.
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
    let mut keys: Vec<&str> = Entries { rest: body, left: n as usize }.map(|(k, _)| k).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|w| w[0] == w[1]) {
        None => Ok(()),
        Some(w) => {
            Err(ScanError::Invalid(Error::bad_payload(format!("the key {:?} stands twice in a map", clip(w[0])))))
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

/// The integer that a float is, where it is one within ±[`MAX_INT`].
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
    /// nil
    pub const NIL: Value<'static> = Value(&[0xc0]);

    /// A value from bytes that are known to be one. Bytes that are not make later reads answer nonsense, or panic.
    pub(crate) fn trusted(b: &'a [u8]) -> Value<'a> {
        Value(b)
    }

    /// Checks `b` and wraps it.
    pub fn parse(b: &'a [u8], max_depth: usize) -> Result<Value<'a>> {
        scan_all(b, max_depth).map(|_| Value(b))
    }

    /// The bytes of the value, as they came.
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

    /// The number, whichever way it is written. Integers within ±[`MAX_INT`] are exact.
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

    /// The items of an array.
    pub fn items(self) -> Option<Items<'a>> {
        match self.head() {
            (Head::Array(left), at) => Some(Items { rest: &self.0[at..], left }),
            _ => None,
        }
    }

    /// The entries of a map, in the order they came.
    pub fn entries(self) -> Option<Entries<'a>> {
        match self.head() {
            (Head::Map(left), at) => Some(Entries { rest: &self.0[at..], left }),
            _ => None,
        }
    }

    /// The value under a key; None where it is missing or this is no map.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.entries()?.find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Where the entries of a map, or the items of an array, begin within [`Value::bytes`]; nothing for other values.
    /// u32 suffices because no request is as long as 4 GiB.
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

    /// The key of the entry that begins at an offset.
    pub(crate) fn key_at(self, at: u32) -> &'a str {
        let rest = &self.0[at as usize..];
        let (from, to) = str_range(rest).expect("a checked map has string keys");
        str_at(&rest[from..to])
    }

    /// The entry that begins at an offset.
    pub(crate) fn entry_at(self, at: u32) -> (&'a str, Value<'a>) {
        Entries { rest: &self.0[at as usize..], left: 1 }.next().expect("an offset of this map")
    }

    /// The item that begins at an offset.
    pub(crate) fn item_at(self, at: u32) -> Value<'a> {
        Items { rest: &self.0[at as usize..], left: 1 }.next().expect("an offset of this array")
    }

    /// nil, false, 0 and the empty string.
    pub(crate) fn is_falsy(self) -> bool {
        match self.head().0 {
            Head::Nil | Head::Bool(false) | Head::Str(0) => true,
            Head::Int(i) => i == 0,
            Head::Float(f) => f == 0.0,
            _ => false,
        }
    }

    /// What it is and, where it is short, its text: for messages.
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
    // SAFETY: only bytes that `scan` has accepted, or that `Writer` wrote from a str, get here.
    unsafe { std::str::from_utf8_unchecked(b) }
}

/// The length of the checked value at the start of `b`.
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

/// The checked string at the start of `b`: where it begins, and where it ends.
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
