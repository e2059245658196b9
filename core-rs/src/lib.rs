//! The core of HyperToken: a pure function from a state, an action, a clock and entropy to a new
//! state and a result. It reads no clock, draws no randomness of its own, imports no function of
//! the host, and does not panic, whatever its input is.
//!
//! The crate `hypertoken-builtin` is the core with the built-in actions. To make one with actions
//! of your own, begin with `hypertoken core new NAME`; docs/cores.md builds a whole game. A core
//! is a `cdylib` crate such as this:
//!
//! ```
//! use hypertoken_core::{Action, Kind, Registry, required};
//!
//! fn registry() -> Registry {
//!     let mut r = Registry::builtin();
//!     r.register(Action {
//!         name: "my:double",
//!         about: "Returns twice n.",
//!         fields: &[required("n", Kind::Number)],
//!         handler: |cx, p| {
//!             cx.out.num(2.0 * p.num("n", 0.0)?);
//!             Ok(())
//!         },
//!     });
//!     r
//! }
//!
//! hypertoken_core::export!(registry);
//! # fn main() {}
//! ```
//!
//! With the feature `typed`, handlers take and return types of your own (see [`handler!`]), and
//! read the state as types of your own. The feature also has a harness for native tests,
//! [`testing`].
//!
//! If a payload has a member that is none of the action's fields, it is refused before the handler
//! runs. [`rest`] as the last field allows any members. [`Registry::result`] and
//! [`Registry::record`] say what the actions return; `hypertoken actions --go` and `--typescript`
//! make types of that.
//!
//! If a handler fails, its changes through [`Context::state`] are taken back. So it may fail at
//! any point. It may run other actions with [`Context::call_raw`]; to the host, all of them
//! together are one action.

pub mod abi;
mod actions;
mod call;
mod chacha;
mod engine;
mod error;
#[cfg(target_arch = "wasm32")]
mod memory;
mod near;
mod payload;
mod rng;
mod sections;
mod setup;
pub mod shape;
mod snapshot;
mod sort;
mod state;
mod state_writer;
#[cfg(all(feature = "typed", not(target_arch = "wasm32")))]
pub mod testing;
mod token;
#[cfg(feature = "typed")]
mod typed;
mod undo;
mod value;
mod walk;
mod write;

pub use call::MAX_CALL_DEPTH;
pub use chacha::ChaCha8;
pub use engine::{
    Action, Context, Engine, Field, Handler, Kind, Need, Registry, Request, default, optional, required, rest,
};
pub use error::{Error, Result, code};
pub use payload::Payload;
pub use rng::Rng;
pub use sections::{
    Agent, Agents, At, Inventory, Limits, Map, Pile, Placement, Rules, Section, Source, SourceStack, Spot, Zone, Zones,
};
pub use shape::{Member, Record, member, optional_member};
pub use state::{Mark, State, shuffle};
pub use token::Token;
#[cfg(feature = "typed")]
pub use typed::{BAD_RESULT, Fields, Placed, Raw, run_typed};
pub use value::{Entries, Items, MAX_INT, ScanError, Scanned, Value, as_int, scan, scan_all};
pub use write::{Writer, canonical};
