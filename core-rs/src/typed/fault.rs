//! The error of the serializer and of the deserializer: the path of a field, and what is wrong
//! there.

use crate::error::{Error, clip, code};
use crate::near::nearest;
use crate::value::Value;
use serde::de::{Expected, Unexpected};
use std::fmt::{self, Display};

#[derive(Debug)]
pub(crate) struct Fault {
    code: &'static str,
    /// The path of the field, such as `hand[2].rank`. It is empty for the value as a whole.
    path: String,
    text: String,
}

impl Fault {
    pub(crate) fn new(code: &'static str, text: impl Into<String>) -> Fault {
        Fault { code, path: String::new(), text: text.into() }
    }

    pub(crate) fn bad(text: impl Into<String>) -> Fault {
        Fault::new(code::BAD_PAYLOAD, text)
    }

    pub(crate) fn wrong(want: impl Display, got: Value<'_>) -> Fault {
        Fault::bad(format!("want {want}, got {}", got.describe()))
    }

    /// Returns the fault with a key before its path. A payload may have any key, so characters
    /// that can't be printed are escaped.
    pub(crate) fn under(mut self, key: &str) -> Fault {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        let mut path = String::new();
        for c in clip(key).chars() {
            match c {
                '"' | '\'' | '\\' => path.push(c),
                c => path.extend(c.escape_debug()),
            }
        }
        self.path = format!("{path}{dot}{}", self.path);
        self
    }

    /// Returns the fault with an index before its path.
    pub(crate) fn under_index(mut self, index: usize) -> Fault {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }

    /// Returns the error of an action for this fault. `whole` names the value; it is left out for
    /// a field of a payload. `code` replaces the fault's own code.
    pub(crate) fn error(self, whole: &str, code: Option<&'static str>) -> Error {
        let message = match (whole, &*self.path) {
            (_, "") => format!("{whole}: {}", self.text),
            ("the payload", path) => format!("field {path}: {}", self.text),
            (_, path) => format!("{whole}: field {path}: {}", self.text),
        };
        Error::new(code.unwrap_or(self.code), message)
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl serde::ser::Error for Fault {
    fn custom<T: Display>(message: T) -> Fault {
        Fault::bad(message.to_string())
    }
}

fn describe(u: Unexpected<'_>) -> String {
    match u {
        Unexpected::Bool(b) => b.to_string(),
        Unexpected::Unsigned(n) => n.to_string(),
        Unexpected::Signed(n) => n.to_string(),
        Unexpected::Float(n) => n.to_string(),
        Unexpected::Char(c) => format!("the string {:?}", c.to_string()),
        Unexpected::Str(s) => format!("the string {:?}", clip(s)),
        Unexpected::Unit | Unexpected::Option => "nil".to_string(),
        Unexpected::Seq => "an array".to_string(),
        Unexpected::Map => "a map".to_string(),
        other => other.to_string(),
    }
}

impl serde::de::Error for Fault {
    fn custom<T: Display>(message: T) -> Fault {
        Fault::bad(message.to_string())
    }

    fn invalid_type(got: Unexpected<'_>, want: &dyn Expected) -> Fault {
        Fault::bad(format!("want {want}, got {}", describe(got)))
    }

    fn invalid_value(got: Unexpected<'_>, want: &dyn Expected) -> Fault {
        Fault::bad(format!("want {want}, got {}", describe(got)))
    }

    fn invalid_length(len: usize, want: &dyn Expected) -> Fault {
        Fault::bad(format!("want {want}, got {len} items"))
    }

    fn unknown_variant(got: &str, known: &'static [&'static str]) -> Fault {
        Fault::bad(format!("want {}, got the string {:?}", one_of(known), clip(got)))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Fault {
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => "there are none".to_string(),
            None => format!("want {}", one_of(known)),
        };
        Fault::bad(format!("there is no such field; {hint}")).under(name)
    }

    fn missing_field(name: &'static str) -> Fault {
        Fault::bad("want a value, got nothing").under(name)
    }

    fn duplicate_field(name: &'static str) -> Fault {
        Fault::bad("it stands twice").under(name)
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_string(),
        [one] => (*one).to_string(),
        many => format!("one of {}", many.join(", ")),
    }
}
