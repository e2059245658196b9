//! The error of an action: a stable code for programs and a message for people.

use std::borrow::Cow;
use std::fmt;

/// A stable, machine-readable error code. A core of your own may return any other string.
pub mod code {
    /// No handler is registered under the action's name.
    pub const UNKNOWN_ACTION: &str = "unknown_action";
    /// A field is missing, has the wrong type, or is not a value that this core can hold.
    pub const BAD_PAYLOAD: &str = "bad_payload";
    /// A number lies outside its range.
    pub const OUT_OF_RANGE: &str = "out_of_range";
    /// The payload names something that does not exist.
    pub const NOT_FOUND: &str = "not_found";
    /// The name is taken already.
    pub const EXISTS: &str = "exists";
    /// There is less than the action needs.
    pub const INSUFFICIENT: &str = "insufficient";
    /// A limit in bytes would be exceeded.
    pub const TOO_LARGE: &str = "too_large";
    /// A value is nested more deeply than MaxDepth.
    pub const TOO_DEEP: &str = "too_deep";
    /// A built-in section of the state would be malformed.
    pub const BAD_STATE: &str = "bad_state";
    /// This core can't open the snapshot.
    pub const BAD_SNAPSHOT: &str = "bad_snapshot";
    /// The request breaks the ABI: the host has a bug.
    pub const BAD_REQUEST: &str = "bad_request";
}

/// The error of an action. The state is as it was before the action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One of [`code`], or a code of your own.
    pub code: Cow<'static, str>,
    /// A text for people. It names the field, the value and the limit.
    pub message: String,
}

// None of these is inlined: a place that makes an error is then a call and not a copy of it.
impl Error {
    /// Returns an error with any code.
    #[cold]
    #[inline(never)]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Error {
        Error { code: code.into(), message: message.into() }
    }
    /// Returns an error with [`code::BAD_PAYLOAD`].
    #[cold]
    #[inline(never)]
    pub fn bad_payload(message: impl Into<String>) -> Error {
        Error::new(code::BAD_PAYLOAD, message)
    }
    /// Returns an error with [`code::OUT_OF_RANGE`].
    #[cold]
    #[inline(never)]
    pub fn out_of_range(message: impl Into<String>) -> Error {
        Error::new(code::OUT_OF_RANGE, message)
    }
    /// Returns an error with [`code::NOT_FOUND`].
    #[cold]
    #[inline(never)]
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(code::NOT_FOUND, message)
    }
    /// Returns an error with [`code::TOO_LARGE`].
    #[cold]
    #[inline(never)]
    pub fn too_large(message: impl Into<String>) -> Error {
        Error::new(code::TOO_LARGE, message)
    }
    /// Returns an error with [`code::BAD_STATE`].
    #[cold]
    #[inline(never)]
    pub fn bad_state(message: impl Into<String>) -> Error {
        Error::new(code::BAD_STATE, message)
    }
    /// Returns an error with [`code::INSUFFICIENT`].
    #[cold]
    #[inline(never)]
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

/// Returns the first 64 characters of a string, for a message. Three dots follow if there are
/// more.
pub(crate) fn clip(s: &str) -> Cow<'_, str> {
    match s.char_indices().nth(64) {
        None => Cow::Borrowed(s),
        Some((at, _)) => Cow::Owned(format!("{}...", &s[..at])),
    }
}
