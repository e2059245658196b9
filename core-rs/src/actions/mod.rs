//! The built-in actions. Each family has a file.

mod agent;
mod game;
mod set_state;
pub(crate) mod shapes;
mod source;
mod space;
mod stack;
mod token;
mod tokens;
mod tree;

use crate::engine::{Action, Context, Field, Handler, rest};
use crate::state::State;
use crate::token::Token;
use crate::write::Writer;

/// The families of built-in actions.
pub(crate) const ALL: [&[Action]; 8] = [
    stack::ACTIONS,
    space::ACTIONS,
    source::ACTIONS,
    agent::ACTIONS,
    game::ACTIONS,
    token::ACTIONS,
    tokens::ACTIONS,
    &[action("debug:log", "Returns the payload, which may have any fields.", &[rest()], |cx, p| {
        let payload = p.value();
        if payload.is_nil() {
            cx.out.map(0)
        } else {
            cx.out.raw(payload.bytes())
        }
        Ok(())
    })],
];

const fn action(
    name: &'static str,
    about: &'static str,
    fields: &'static [Field],
    handler: Handler,
) -> Action<'static> {
    Action { name, about, fields, handler }
}

/// Writes an array of `n` tokens.
fn write_tokens<'a>(out: &mut Writer, n: usize, tokens: impl Iterator<Item = &'a Token>) {
    out.array(n);
    for t in tokens {
        out.raw(t.bytes());
        if out.overflown() {
            break;
        }
    }
}

/// Returns a number as the bytes of a value.
fn number(v: f64) -> Vec<u8> {
    let mut w = Writer::default();
    w.num(v);
    w.into_bytes()
}

/// Returns a string as the bytes of a value.
fn string(s: &str) -> Vec<u8> {
    let mut w = Writer::default();
    w.str(s);
    w.into_bytes()
}

/// Returns a bool as the bytes of a value.
fn boolean(v: bool) -> &'static [u8] {
    if v { &[0xc3] } else { &[0xc2] }
}

/// Writes a map of the state as the result.
fn write_map(out: &mut Writer, m: &crate::sections::Map) {
    out.map(m.len());
    for (k, v) in m {
        out.str(k);
        out.raw(v);
    }
}

/// Returns a new identifier that no placement has. If a host gives the same entropy twice, the
/// same identifiers come again; without this check two placements could have one id.
fn fresh_placement_id(cx: &mut Context<'_>) -> String {
    fn taken(s: &State, id: &str) -> bool {
        s.has_placement(id)
    }
    loop {
        let id = cx.identifier();
        if !taken(cx.state, &id) {
            return id;
        }
    }
}
