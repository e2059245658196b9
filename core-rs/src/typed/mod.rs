//! Payloads, results and the state as types of your own, by serde.
//!
//! ```
//! use hypertoken_core::{Action, Context, Error, Kind, Registry, Result, handler, payload, required};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Deal {
//!     player: String,
//!     count: u8,
//! }
//!
//! #[derive(Deserialize, Serialize)]
//! struct Card {
//!     id: String,
//! }
//!
//! fn deal(cx: &mut Context<'_>, deal: Deal) -> Result<Vec<Card>> {
//!     if deal.count > 5 {
//!         return Err(Error::new("too_many", format!("field count: {} is above 5, the size of a hand", deal.count)));
//!     }
//!     cx.run("agent:create", &payload! { name: deal.player })?;
//!     cx.call("agent:drawCards", &payload! { name: deal.player, count: deal.count })
//! }
//!
//! fn registry() -> Registry {
//!     let mut r = Registry::builtin();
//!     r.register(Action {
//!         name: "game:deal",
//!         about: "Seats a player and deals a hand of count cards; returns the hand.",
//!         fields: &[required("player", Kind::String), required("count", Kind::Count)],
//!         handler: handler!(deal),
//!     });
//!     r
//! }
//! # registry();
//! ```

mod de;
mod fault;
mod keys;
mod raw;
mod ser;

pub use raw::{Fields, Raw};

use crate::engine::Context;
use crate::error::{Error, Result, clip, code};
use crate::payload::Payload;
use crate::sections::{At, Pile};
use crate::token::Token;
use crate::value::{Value, scan_all};
use crate::write::Writer;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

/// The code of an error if a handler's return value can't be written, or if a result does not have
/// the type that the caller wants.
pub const BAD_RESULT: &str = "bad_result";

/// An empty map. A missing payload counts as this.
const EMPTY: &[u8] = &[0x80];

/// Makes a handler of a function that takes a context and a payload of a type of its own, and
/// returns a result of a type of its own: `fn(&mut Context<'_>, P) -> Result<R, E>`, where P is
/// [`serde::Deserialize`], R is [`serde::Serialize`] and E converts into [`Error`]. A function for
/// an action without fields takes `()`.
#[macro_export]
macro_rules! handler {
    ($function:expr) => {
        |cx, payload| $crate::run_typed(cx, payload, $function)
    };
}

/// Makes a payload: `payload! { name: "ann", count: 2 }`. Each value must be [`serde::Serialize`].
#[macro_export]
macro_rules! payload {
    ($($key:ident: $value:expr),* $(,)?) => {
        $crate::Fields($crate::payload!(@list $($key: $value,)*))
    };
    (@list) => { () };
    (@list $key:ident: $value:expr, $($rest:tt)*) => {
        (stringify!($key), &$value, $crate::payload!(@list $($rest)*))
    };
}

/// Decodes the payload, runs the function, and writes its result. [`handler!`] expands to a call
/// of it.
pub fn run_typed<'p, P, R, E>(
    cx: &mut Context<'_>,
    payload: &Payload<'p>,
    function: impl FnOnce(&mut Context<'_>, P) -> std::result::Result<R, E>,
) -> Result
where
    P: Deserialize<'p>,
    R: Serialize,
    E: Into<Error>,
{
    let value = payload.value();
    let value = if value.is_nil() { Value::trusted(EMPTY) } else { value };
    let payload = P::deserialize(de::Decoder(value)).map_err(|f| f.error("the payload", None))?;
    let start = cx.out.len();
    let result = function(cx, payload).map_err(Into::into)?;
    cx.out.truncate(start);
    result.serialize(ser::Encoder(cx.out)).map_err(|f| f.error("the result", Some(BAD_RESULT)))?;
    if !cx.out.overflown() {
        let written = &cx.out.bytes()[start..];
        scan_all(written, cx.state.limits.max_depth as usize)
            .map_err(|e| Error { message: format!("the result: {}", e.message), ..e })?;
    }
    Ok(())
}

/// Returns a value as MessagePack. Fails if it is more than `max_depth` containers deep.
pub(crate) fn encode(what: &str, value: &(impl Serialize + ?Sized), max_depth: usize) -> Result<Vec<u8>> {
    let mut out = Writer::default();
    value.serialize(ser::Encoder(&mut out)).map_err(|f| f.error(what, None))?;
    scan_all(out.bytes(), max_depth).map_err(|e| Error { message: format!("{what}: {}", e.message), ..e })?;
    Ok(out.into_bytes())
}

/// Makes a value of a type from checked MessagePack.
pub(crate) fn decode<'v, T: Deserialize<'v>>(what: &str, code: &'static str, bytes: &'v [u8]) -> Result<T> {
    T::deserialize(de::Decoder(Value::trusted(bytes))).map_err(|f| f.error(what, Some(code)))
}

/// A token in a zone, as a type of your own.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The placement's id. The actions space:move and space:remove take it.
    pub id: String,
    pub token: T,
    pub x: f64,
    pub y: f64,
    pub face_up: bool,
}

impl Context<'_> {
    /// Runs another action of this core, a built-in one or one of yours, and returns its result.
    /// See [`Context::call_raw`] for what happens if either fails.
    pub fn call<R: DeserializeOwned>(&mut self, action: &str, payload: &(impl Serialize + ?Sized)) -> Result<R> {
        let payload = encode("the payload", payload, self.state.limits.max_depth as usize)?;
        let result = self.call_raw(action, &payload)?;
        decode(&format!("the result of {}", clip(action)), BAD_RESULT, &result)
    }

    /// Does the same as [`Context::call`], for an action whose result does not matter.
    pub fn run(&mut self, action: &str, payload: &(impl Serialize + ?Sized)) -> Result {
        let payload = encode("the payload", payload, self.state.limits.max_depth as usize)?;
        self.call_raw(action, &payload).map(drop)
    }

    /// Returns an entry of one of the state's maps; None if it is missing or nil. Fails with
    /// [`code::BAD_STATE`] if it is not a T.
    pub fn read<T: DeserializeOwned>(&self, at: At, key: &str) -> Result<Option<T>> {
        match self.state.map(at).get(key) {
            None => Ok(None),
            Some(v) => decode(&format!("the state's {}", clip(key)), code::BAD_STATE, v),
        }
    }

    /// Sets an entry of one of the state's maps. Fails if the value can't be written, or is nested
    /// too deep.
    pub fn write(&mut self, at: At, key: &str, value: &(impl Serialize + ?Sized)) -> Result {
        let max_depth = self.state.limits.max_depth as usize - 1;
        let bytes = encode(&format!("the state's {}", clip(key)), value, max_depth)?;
        self.state.set(at, key, &bytes);
        Ok(())
    }

    /// Returns an entry of gameState, in which a game keeps its own data; None if it is missing or
    /// nil.
    pub fn game<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.read(At::GameState, key)
    }

    /// Sets an entry of gameState.
    pub fn set_game(&mut self, key: &str, value: &(impl Serialize + ?Sized)) -> Result {
        self.write(At::GameState, key, value)
    }

    /// Returns the names of the agents, in the order in which they were created.
    pub fn agents(&self) -> Vec<String> {
        self.state.agents().map(|a| a.name.to_string()).collect()
    }

    /// Returns the tokens that an agent holds, in the order in which they came.
    pub fn hand<T: DeserializeOwned>(&self, agent: &str) -> Result<Vec<T>> {
        let order = self.state.agent_order(agent)?;
        self.state.agent(order).inventory.iter().map(|t| token(t, &format!("a token of {}", clip(agent)))).collect()
    }

    /// Returns the tokens in a zone, in their order; nothing if there is no such zone.
    pub fn zone<T: DeserializeOwned>(&self, zone: &str) -> Result<Vec<Placed<T>>> {
        let placed = |p: &crate::sections::Placement| {
            let token = token(&p.token, &format!("a token in the zone {}", clip(zone)))?;
            Ok(Placed { id: p.id.to_string(), token, x: p.x, y: p.y, face_up: p.face_up })
        };
        self.state.zone(zone).into_iter().flat_map(|z| z.items.values()).map(placed).collect()
    }

    /// Returns the tokens of a pile. The top comes last.
    pub fn pile<T: DeserializeOwned>(&self, pile: Pile) -> Result<Vec<T>> {
        self.state.pile(pile).iter().map(|t| token(t, "a token of a pile")).collect()
    }

    /// Returns the token on top of a pile; None if the pile is empty.
    pub fn top<T: DeserializeOwned>(&self, pile: Pile) -> Result<Option<T>> {
        self.state.pile(pile).back().map(|t| token(t, "the top of a pile")).transpose()
    }

    /// Raises an event. The host hands it to listeners once the action is acknowledged.
    pub fn raise(&mut self, name: &str, payload: &(impl Serialize + ?Sized)) -> Result {
        let what = format!("the event {}", clip(name));
        let payload = encode(&what, payload, self.state.limits.max_depth as usize)?;
        self.emit(name, Value::trusted(&payload));
        Ok(())
    }
}

fn token<T: DeserializeOwned>(t: &Token, what: &str) -> Result<T> {
    decode(what, code::BAD_STATE, t.bytes())
}
