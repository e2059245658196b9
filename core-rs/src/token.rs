//! Tokens: cards, pieces, chips. Any map with a string `id`, kept as the bytes it came as.

use crate::error::{Error, Result};
use crate::value::{Value, scan_all};
use crate::write::{Writer, canonical};
use std::cell::Cell;
use triomphe::ThinArc;

#[derive(Debug)]
struct Head {
    id: (u32, u32),
    canonical: bool,
    /// (generation, index) of the last snapshot that this token was written to; see snapshot.rs.
    mark: Cell<(u32, u32)>,
}

/// A token. Cloning it shares its bytes; moving one from pile to pile costs a pointer.
#[derive(Clone, Debug)]
pub struct Token(ThinArc<Head, u8>);

impl Token {
    /// A token from a checked value. `field` names it in the error.
    pub fn new(v: Value<'_>, field: &str) -> Result<Token> {
        let b = v.bytes();
        let id = v.get("id").and_then(Value::as_str).ok_or_else(|| match v.entries() {
            None => Error::bad_payload(format!("{field}: want a token (a map with a string id), got {}", v.describe())),
            Some(_) => Error::bad_payload(format!(
                "{field}.id: want a string, got {}",
                v.get("id").map_or("nothing".into(), Value::describe)
            )),
        })?;
        // `id` lies within `b`; u32 offsets suffice because no request is as long as 4 GiB.
        let at = (id.as_ptr() as usize - b.as_ptr() as usize) as u32;
        let head = Head {
            id: (at, at + id.len() as u32),
            canonical: scan_all(b, usize::MAX).is_ok_and(|s| s.canonical),
            mark: Cell::new((0, 0)),
        };
        Ok(Token(ThinArc::from_header_and_slice(head, b)))
    }

    /// The token's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// The token as a value.
    pub fn value(&self) -> Value<'_> {
        Value::trusted(self.bytes())
    }

    /// The token's id. Nothing makes ids unique: a token may be copied.
    pub fn id(&self) -> &str {
        let (from, to) = self.0.header.header.id;
        // SAFETY: `new` took the range from a str within these bytes.
        unsafe { std::str::from_utf8_unchecked(&self.bytes()[from as usize..to as usize]) }
    }

    pub(crate) fn canonical(&self, out: &mut Writer) {
        if self.0.header.header.canonical { out.raw(self.bytes()) } else { canonical(self.value(), out) }
    }

    pub(crate) fn mark(&self) -> &Cell<(u32, u32)> {
        &self.0.header.header.mark
    }
}
