//! What a failed action returns: a stable code for programs and a message for people.

use std::borrow::Cow;
use std::fmt;

/// A stable, machine-readable error code. A core of your own may return any other string.
pub mod code {
    /// No handler is registered under the action's name.
    pub const UNKNOWN_ACTION: &str = "unknown_action";
    /// A field is missing, of the wrong type, or not a value of this core.
    pub const BAD_PAYLOAD: &str = "bad_payload";
    /// A number lies outside its range.
    pub const OUT_OF_RANGE: &str = "out_of_range";
    /// What the payload names does not exist.
    pub const NOT_FOUND: &str = "not_found";
    /// A name is taken.
    pub const EXISTS: &str = "exists";
    /// There is less than the action needs.
    pub const INSUFFICIENT: &str = "insufficient";
    /// A limit in bytes would be exceeded.
    pub const TOO_LARGE: &str = "too_large";
    /// A value is nested more deeply than MaxDepth.
    pub const TOO_DEEP: &str = "too_deep";
    /// A built-in section of the state would be malformed.
    pub const BAD_STATE: &str = "bad_state";
    /// A snapshot that this core can't open.
    pub const BAD_SNAPSHOT: &str = "bad_snapshot";
    /// A request that breaks the ABI (a bug of the host).
    pub const BAD_REQUEST: &str = "bad_request";
}

/// The error of an action. The state is as it was before the action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One of [`code`], or a code of your own.
    pub code: Cow<'static, str>,
    /// Names the field, the value and the limit.
    pub message: String,
}

impl Error {
    /// An error with a code of your own.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Error {
        Error { code: code.into(), message: message.into() }
    }
    /// [`code::BAD_PAYLOAD`].
    pub fn bad_payload(message: impl Into<String>) -> Error {
        Error::new(code::BAD_PAYLOAD, message)
    }
    /// [`code::OUT_OF_RANGE`].
    pub fn out_of_range(message: impl Into<String>) -> Error {
        Error::new(code::OUT_OF_RANGE, message)
    }
    /// [`code::NOT_FOUND`].
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(code::NOT_FOUND, message)
    }
    /// [`code::TOO_LARGE`].
    pub fn too_large(message: impl Into<String>) -> Error {
        Error::new(code::TOO_LARGE, message)
    }
    /// [`code::BAD_STATE`].
    pub fn bad_state(message: impl Into<String>) -> Error {
        Error::new(code::BAD_STATE, message)
    }
    /// [`code::INSUFFICIENT`].
    pub fn insufficient(message: impl Into<String>) -> Error {
        Error::new(code::INSUFFICIENT, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// The result of a handler.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// The first characters of a string, for a message; never more than 64 of them.
pub(crate) fn clip(s: &str) -> Cow<'_, str> {
    match s.char_indices().nth(64) {
        None => Cow::Borrowed(s),
        Some((at, _)) => Cow::Owned(format!("{}...", &s[..at])),
    }
}
