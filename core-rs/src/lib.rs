//! The core of HyperToken: a pure function from a state, an action, a clock and entropy to a new state and a
//! result. It reads no clock, draws no randomness of its own, imports nothing and never panics on what it is sent.
//!
//! The crate `hypertoken-builtin` is the core with the built-in actions. To make one with actions of your own,
//! write a `cdylib` crate like `example/` in this workspace:
//!
//! ```
//! use hypertoken_core::{Action, Field, Kind, Registry, required};
//!
//! const FIELDS: &[Field] = &[required("n", Kind::Number)];
//!
//! fn registry() -> Registry {
//!     let mut r = Registry::builtin();
//!     r.register(Action {
//!         name: "my:double",
//!         about: "Returns twice n.",
//!         fields: FIELDS,
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
//! A payload with members that are none of the action's fields is refused before the handler runs; [`rest`] as the last
//! field allows any. [`Registry::result`] and [`Registry::record`] say what the actions return, from which `hypertoken
//! actions --go` and `--typescript` make types.
//!
//! What a handler changes through [`Context::state`] is taken back when it fails, so it may fail at any point.

pub mod abi;
mod actions;
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
mod state;
mod token;
mod undo;
mod value;
mod walk;
mod write;

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
pub use value::{Entries, Items, MAX_INT, ScanError, Scanned, Value, as_int, scan, scan_all};
pub use write::{Writer, canonical};
