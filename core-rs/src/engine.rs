//! An engine: a state, the actions registered for it, and the one path that runs them.

use crate::actions::shapes;
use crate::error::{Error, Result, clip, code};
use crate::payload::Payload;
use crate::rng::Rng;
use crate::shape::Record;
use crate::state::State;
use crate::value::{Value, scan_all};
use crate::write::Writer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an action's handler gets: the state, the clock, the entropy, and where the result goes.
#[derive(Debug)]
pub struct Context<'a> {
    /// The state. What a handler changes is taken back when it fails.
    pub state: &'a mut State,
    /// The result, one value. A handler that writes nothing returns nil.
    pub out: &'a mut Writer,
    /// Milliseconds since the epoch, as the host says.
    pub now: i64,
    entropy: &'a [u8; 16],
    ids: Option<Rng>,
    events: &'a mut Events,
}

impl Context<'_> {
    /// The generator of the action's own entropy.
    pub fn rng(&self) -> Rng {
        Rng::from_entropy(self.entropy, 0)
    }

    /// A fresh identifier. It depends on the entropy alone.
    pub fn identifier(&mut self) -> String {
        self.ids.get_or_insert_with(|| Rng::from_entropy(self.entropy, 1)).identifier()
    }

    /// Raises an event, for the host to hand to listeners once the action is acknowledged. `payload` is one value.
    pub fn emit(&mut self, name: &str, payload: Value<'_>) {
        self.events.out.array(2);
        self.events.out.str(name);
        self.events.out.raw(payload.bytes());
        self.events.count += 1;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The events, [name, payload] each, one after the other.
    pub(crate) out: Writer,
    pub(crate) count: usize,
}

/// Runs an action. An error takes back what it changed.
pub type Handler = fn(&mut Context<'_>, &Payload<'_>) -> Result;

/// What a field of a payload may be, for the list of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Any,
    Bool,
    Number,
    Whole,
    Count,
    Amount,
    String,
    Strings,
    Map,
    Token,
    Tokens,
    Decks,
    Array,
    Seed,
    /// A string, a map and an array of a shape; see [`shape`](crate::shape) for how shapes are written.
    StringOf(&'static str),
    MapOf(&'static str),
    ArrayOf(&'static str),
}

impl Kind {
    /// Its name in the list of actions.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Any => "any",
            Kind::Bool => "bool",
            Kind::Number => "number",
            Kind::Whole => "whole number",
            Kind::Count => "count",
            Kind::Amount => "amount",
            Kind::String | Kind::StringOf(_) => "string",
            Kind::Strings => "array of strings",
            Kind::Map | Kind::MapOf(_) => "map",
            Kind::Token => "token",
            Kind::Tokens => "array of tokens",
            Kind::Decks => "array of arrays of tokens",
            Kind::Array | Kind::ArrayOf(_) => "array",
            Kind::Seed => "number or string",
        }
    }

    /// Its shape in the list of actions.
    pub fn shape(self) -> &'static str {
        match self {
            Kind::Any => "any",
            Kind::Bool => "bool",
            Kind::Number | Kind::Amount => "number",
            Kind::Whole | Kind::Count => "int",
            Kind::String => "string",
            Kind::Strings => "string[]",
            Kind::Map => "map<any>",
            Kind::Token => "Token",
            Kind::Tokens => "Token[]",
            Kind::Decks => "Token[][]",
            Kind::Array => "any[]",
            Kind::Seed => "number|string|null",
            Kind::StringOf(shape) | Kind::MapOf(shape) | Kind::ArrayOf(shape) => shape,
        }
    }
}

/// A field of an action's payload.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
}

/// Whether a field has to be there, and what stands for it where it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
    /// The default, as JSON.
    Default(&'static str),
}

/// A field that has to be there.
pub const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, need: Need::Required }
}

/// A field that may be missing.
pub const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, need: Need::Optional }
}

/// A field with a default, as JSON.
pub const fn default(name: &'static str, kind: Kind, json: &'static str) -> Field {
    Field { name, kind, need: Need::Default(json) }
}

/// The name of the field that stands for all others.
pub(crate) const REST: &str = "*";

/// The last field of an action whose payload may have members beside its fields. Without it such a member is an error.
pub const fn rest() -> Field {
    Field { name: REST, kind: Kind::Any, need: Need::Optional }
}

/// An action: its name, the fields of its payload for the list of actions, and its handler.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub name: &'static str,
    /// One line on what it does and returns.
    pub about: &'static str,
    pub fields: &'static [Field],
    pub handler: Handler,
}

/// The actions of a core, by name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// In the order they came.
    actions: Vec<Action>,
    /// A hash table with open addressing: indices of `actions` plus 1, and 0 where it is free. Its length is a power of
    /// two, and at most half of it is taken.
    slots: Vec<u32>,
    /// What only the description of the core reads. It is shared, because each engine has a registry.
    shapes: Arc<Shapes>,
}

/// The shapes of a core; the last of two for one name counts.
#[derive(Clone, Debug, Default)]
struct Shapes {
    results: Vec<(&'static str, &'static str)>,
    records: Vec<Record>,
}

impl Registry {
    /// No actions.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// The built-in actions, all of them.
    pub fn builtin() -> Registry {
        let mut r = Registry::new();
        r.rehash(256);
        crate::actions::ALL.iter().flat_map(|family| family.iter()).for_each(|a| r.register(*a));
        r.shapes = Arc::new(Shapes { results: shapes::RESULTS.to_vec(), records: shapes::RECORDS.to_vec() });
        r
    }

    /// Says what an action returns: a shape, for those who read the list of actions. Nothing checks it. An action
    /// without one returns "any".
    pub fn result(&mut self, action: &'static str, shape: &'static str) {
        Arc::make_mut(&mut self.shapes).results.push((action, shape));
    }

    /// Adds a record that shapes may name; a name that is taken goes to the newer record.
    pub fn record(&mut self, r: Record) {
        Arc::make_mut(&mut self.shapes).records.push(r);
    }

    /// The records, sorted by name.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let sorted: BTreeMap<&str, &Record> = self.shapes.records.iter().map(|r| (r.name, r)).collect();
        sorted.into_values()
    }

    fn result_of(&self, action: &str) -> &'static str {
        self.shapes.results.iter().rfind(|(name, _)| *name == action).map_or("any", |(_, shape)| shape)
    }

    /// Registers an action; a name that is taken goes to the newer handler.
    pub fn register(&mut self, a: Action) {
        if self.slots.len() < 2 * (self.actions.len() + 1) {
            self.rehash(4 * (self.actions.len() + 1).next_power_of_two());
        }
        let slot = self.slot(a.name);
        match self.slots[slot] {
            0 => {
                self.actions.push(a);
                self.slots[slot] = self.actions.len() as u32;
            }
            taken => {
                self.actions[taken as usize - 1] = a;
                self.result(a.name, "any");
            }
        }
    }

    fn rehash(&mut self, len: usize) {
        self.slots = vec![0; len];
        for i in 0..self.actions.len() {
            let slot = self.slot(self.actions[i].name);
            self.slots[slot] = i as u32 + 1;
        }
    }

    /// Where a name is in the table, or would be. There are slots, and a free one among them.
    fn slot(&self, name: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(name.as_bytes()) as usize & mask;
        while let Some(i) = (self.slots[slot] as usize).checked_sub(1)
            && self.actions[i].name != name
        {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The actions, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Action> {
        let mut all: Vec<&Action> = self.actions.iter().collect();
        all.sort_unstable_by_key(|a| a.name);
        all.into_iter()
    }

    pub fn get(&self, name: &str) -> Option<&Action> {
        if self.slots.is_empty() {
            return None;
        }
        let i = self.slots[self.slot(name)] as usize;
        self.actions.get(i.checked_sub(1)?)
    }

    /// The list of actions as MessagePack: an array of {about, fields: [{default?, kind, name, required, shape}], name,
    /// result}.
    pub fn list(&self, out: &mut Writer) {
        out.array(self.actions.len());
        for a in self.iter() {
            out.map(4);
            out.str("about");
            out.str(a.about);
            out.str("fields");
            out.array(a.fields.len());
            for f in a.fields {
                let json = if let Need::Default(json) = f.need { Some(json) } else { None };
                out.map(4 + json.is_some() as usize);
                if let Some(json) = json {
                    out.str("default");
                    out.str(json);
                }
                out.str("kind");
                out.str(f.kind.name());
                out.str("name");
                out.str(f.name);
                out.str("required");
                out.bool(f.need == Need::Required);
                out.str("shape");
                out.str(f.kind.shape());
            }
            out.str("name");
            out.str(a.name);
            out.str("result");
            out.str(self.result_of(a.name));
        }
    }

    /// The records as MessagePack: an array of {about, fields: [{about, name, optional, shape}], name, rest?}.
    pub fn list_records(&self, out: &mut Writer) {
        let all: Vec<&Record> = self.records().collect();
        out.array(all.len());
        for r in all {
            r.write(out);
        }
    }
}

/// A hash of a name, from its length and its ends, which tell actions apart: what they share is in between.
fn hash(name: &[u8]) -> u32 {
    let (head, tail) = match (name.first_chunk(), name.last_chunk()) {
        (Some(h), Some(t)) => (u64::from_le_bytes(*h), u64::from_le_bytes(*t)),
        _ => (name.iter().fold(0, |h, b| h << 8 | *b as u64), 0),
    };
    let mixed = (head ^ tail.rotate_left(31) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

/// One action as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Milliseconds since the epoch.
    pub now: i64,
    pub entropy: &'a [u8; 16],
    pub action: &'a str,
    /// MessagePack, not yet checked.
    pub payload: &'a [u8],
}

/// An engine.
#[derive(Debug)]
pub struct Engine {
    registry: Registry,
    state: State,
    events: Events,
}

impl Engine {
    pub fn new(registry: Registry, state: State) -> Engine {
        Engine { registry, state, events: Events::default() }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// The canonical digest of the state.
    pub fn digest(&self) -> u64 {
        crate::walk::digest(&self.state)
    }

    /// Starts over with results and events of at most MaxResult bytes, before a dispatch or a batch.
    pub(crate) fn begin(&mut self, out: &mut Writer) {
        let limit = self.state.limits.max_result as usize;
        out.reset(limit);
        self.events.out.reset(limit);
        self.events.count = 0;
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Keeps what has been run since the last call.
    pub(crate) fn commit(&mut self) {
        self.state.commit();
    }

    /// Runs one action and appends its result to `out`; whether it changed the state. On an error state, result
    /// and events are as they were. The caller commits.
    pub fn run(&mut self, r: &Request<'_>, out: &mut Writer) -> Result<bool> {
        let mark = self.state.mark();
        let (start, events, count) = (out.len(), self.events.out.len(), self.events.count);
        let result = self.run_inner(r, out, start);
        if result.is_err() {
            self.state.rollback(mark);
            out.truncate(start);
            self.events.out.truncate(events);
            self.events.count = count;
        }
        result.map(|()| self.state.changed_since(mark))
    }

    fn run_inner(&mut self, r: &Request<'_>, out: &mut Writer, start: usize) -> Result {
        let Some(action) = self.registry.get(r.action) else {
            return Err(Error::new(
                code::UNKNOWN_ACTION,
                format!("there is no action {:?}; `hypertoken actions` lists them", clip(r.action)),
            ));
        };
        let (handler, fields) = (action.handler, action.fields);
        let max_depth = self.state.limits.max_depth as usize;
        let payload = match r.payload {
            [] => Value::NIL,
            b => scan_all(b, max_depth).map(|_| Value::trusted(b))?,
        };
        let payload = Payload::new(payload)?;
        payload.check_names(fields, r.action)?;
        let mut cx = Context {
            state: &mut self.state,
            out,
            now: r.now,
            entropy: r.entropy,
            ids: None,
            events: &mut self.events,
        };
        handler(&mut cx, &payload)?;
        if out.len() == start && !out.overflown() {
            out.nil();
        }
        if out.overflown() || self.events.out.overflown() {
            return Err(Error::too_large(format!(
                "the result of {} is larger than {} bytes (MaxResult)",
                r.action, self.state.limits.max_result
            )));
        }
        self.state.check_size()
    }

    /// Takes back everything since the last commit.
    pub(crate) fn abort(&mut self, mark: crate::state::Mark) {
        self.state.rollback(mark);
    }
}
