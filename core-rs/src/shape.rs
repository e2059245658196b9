//! Shapes describe results, payloads and the state, for tools and for people.
//!
//! A shape is a text: `any`, `null`, `bool`, `number`, `int` (a whole number), `string`, one
//! certain string such as `'arc'`, the name of a [`Record`], `map<S>` (string keys, values of the
//! shape S), `S[]` (an array), `A|B` (one of both), and parentheses. `[]` binds closest:
//! `Token|null[]` is a token or an array of nulls.

use crate::write::Writer;

/// A map with named fields. Shapes refer to it by its name.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The name: an upper-case letter, then letters and digits.
    pub name: &'static str,
    /// One line that says what the record is.
    pub about: &'static str,
    pub fields: &'static [Member],
    /// The shape of all further entries; None if there are none.
    pub rest: Option<&'static str>,
}

/// A field of a record.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub name: &'static str,
    pub shape: &'static str,
    /// Whether the field may be missing.
    pub optional: bool,
    /// One line that says what the field is, or "".
    pub about: &'static str,
}

/// Returns a field that a record always has.
pub const fn member(name: &'static str, shape: &'static str, about: &'static str) -> Member {
    Member { name, shape, optional: false, about }
}

/// Returns a field that a record may have.
pub const fn optional_member(name: &'static str, shape: &'static str, about: &'static str) -> Member {
    Member { name, shape, optional: true, about }
}

impl Record {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.map(3 + self.rest.is_some() as usize);
        out.str("about");
        out.str(self.about);
        out.str("fields");
        out.array(self.fields.len());
        for f in self.fields {
            out.map(4);
            out.str("about");
            out.str(f.about);
            out.str("name");
            out.str(f.name);
            out.str("optional");
            out.bool(f.optional);
            out.str("shape");
            out.str(f.shape);
        }
        out.str("name");
        out.str(self.name);
        if let Some(rest) = self.rest {
            out.str("rest");
            out.str(rest);
        }
    }
}
