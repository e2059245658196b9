//! Tokens: cards, pieces, chips. A token is any map with a string `id`. Its bytes are kept as they
//! came.

use crate::error::{Error, Result};
use crate::value::{Value, scan_all};
use crate::write::{Writer, canonical};
use std::cell::Cell;
use triomphe::ThinArc;

#[derive(Debug)]
struct Head {
    id: (u32, u32),
    canonical: bool,
    /// The generation of the last snapshot that has this token, and the token's number there. See
    /// snapshot.rs.
    mark: Cell<(u32, u32)>,
}

/// A token. Clones share its bytes, so moving a token from pile to pile moves a pointer.
#[derive(Clone, Debug)]
pub struct Token(ThinArc<Head, u8>);

impl Token {
    /// Makes a token of a checked value. Fails if the value is no map with a string `id`. `field`
    /// names the value in the error.
    pub fn new(v: Value<'_>, field: &str) -> Result<Token> {
        let b = v.bytes();
        let id = v.get("id").and_then(Value::as_str).ok_or_else(|| match v.entries() {
            None => Error::bad_payload(format!("{field}: want a token (a map with a string id), got {}", v.describe())),
            Some(_) => Error::bad_payload(format!(
                "{field}.id: want a string, got {}",
                v.get("id").map_or("nothing".into(), Value::describe)
            )),
        })?;
        // `id` lies within `b`. Offsets of u32 are enough, because no request is as long as 4 GiB.
        let at = (id.as_ptr() as usize - b.as_ptr() as usize) as u32;
        let head = Head {
            id: (at, at + id.len() as u32),
            canonical: scan_all(b, usize::MAX).is_ok_and(|s| s.canonical),
            mark: Cell::new((0, 0)),
        };
        Ok(Token(ThinArc::from_header_and_slice(head, b)))
    }

    /// Returns the token's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// Returns the token as a value.
    pub fn value(&self) -> Value<'_> {
        Value::trusted(self.bytes())
    }

    /// Returns the token's id. Ids need not be unique: a token may be copied.
    pub fn id(&self) -> &str {
        let (from, to) = self.0.header.header.id;
        // SAFETY: the range is that of a str within these bytes; `new` found it.
        unsafe { std::str::from_utf8_unchecked(&self.bytes()[from as usize..to as usize]) }
    }

    pub(crate) fn canonical(&self, out: &mut Writer) {
        if self.0.header.header.canonical { out.raw(self.bytes()) } else { canonical(self.value(), out) }
    }

    pub(crate) fn mark(&self) -> &Cell<(u32, u32)> {
        &self.0.header.header.mark
    }
}
