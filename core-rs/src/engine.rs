//! An engine: a state and the registered actions. Every action is run by `Context::run_action`.

use crate::actions::shapes;
use crate::error::{Error, Result, clip, code};
use crate::payload::{Payload, refuse_member};
use crate::rng::Rng;
use crate::shape::Record;
use crate::sort::sorted_indexes;
use crate::state::State;
use crate::value::{Value, scan_all};
use crate::write::Writer;
use std::sync::Arc;

/// The first argument of a handler: the state, the clock, the entropy, and the writer of the
/// result.
#[derive(Debug)]
pub struct Context<'a> {
    /// The state. If the handler fails, its changes are taken back.
    pub state: &'a mut State,
    /// The writer of the result, which is one value. If a handler writes nothing, the result is
    /// nil.
    pub out: &'a mut Writer,
    /// The action's clock, in milliseconds since the epoch. The host gives it.
    pub now: i64,
    pub(crate) entropy: &'a [u8; 16],
    pub(crate) ids: Option<Rng>,
    pub(crate) events: &'a mut Events,
    pub(crate) registry: &'a Registry,
    /// The stream of the entropy that [`Context::rng`] reads.
    pub(crate) stream: u64,
    /// The number of calls so far within the action that the host dispatched, at any depth.
    pub(crate) calls: u64,
    /// The depth of this call: 0 for the action that the host dispatched.
    pub(crate) depth: u32,
}

impl Context<'_> {
    /// Returns a generator over the action's entropy. Each call returns the same generator, at its
    /// beginning. An action that another action called has a generator of its own.
    pub fn rng(&self) -> Rng {
        Rng::from_entropy(self.entropy, self.stream)
    }

    /// Returns a new identifier. It depends only on the entropy and on how many identifiers came
    /// before.
    pub fn identifier(&mut self) -> String {
        self.ids.get_or_insert_with(|| Rng::from_entropy(self.entropy, 1)).identifier()
    }

    /// Raises an event. The host hands it to listeners once the action is acknowledged. `payload`
    /// is one value.
    pub fn emit(&mut self, name: &str, payload: Value<'_>) {
        self.events.out.array(2);
        self.events.out.str(name);
        self.events.out.raw(payload.bytes());
        self.events.count += 1;
    }
}

impl Context<'_> {
    /// Runs an action and appends its result to `out`. If the action fails, the state, `out` and
    /// the events are as they were before.
    pub(crate) fn run_action(&mut self, action: &str, payload: &[u8]) -> Result {
        let mark = self.state.mark();
        let (start, events, count) = (self.out.len(), self.events.out.len(), self.events.count);
        let result = self.run_inner(action, payload, start);
        if result.is_err() {
            self.state.rollback(mark);
            self.out.truncate(start);
            self.events.out.truncate(events);
            self.events.count = count;
        }
        result
    }

    fn run_inner(&mut self, name: &str, payload: &[u8], start: usize) -> Result {
        let Some(action) = self.registry.get(name) else {
            return Err(Error::new(
                code::UNKNOWN_ACTION,
                format!("there is no action {:?}; `hypertoken actions` lists them", clip(name)),
            ));
        };
        let (handler, fields) = (action.handler, action.fields);
        let max_depth = self.state.limits.max_depth as usize;
        let payload = match payload {
            [] => Value::NIL,
            b => scan_all(b, max_depth).map(|_| Value::trusted(b))?,
        };
        let payload = Payload::new(payload)?;
        if let Some(key) = payload.find_unknown(fields) {
            refuse_member(key, fields, name)?;
        }
        handler(self, &payload)?;
        if self.out.len() == start && !self.out.overflown() {
            self.out.nil();
        }
        if self.out.overflown() || self.events.out.overflown() {
            return Err(Error::too_large(format!(
                "the result of {name} is larger than {} bytes (MaxResult)",
                self.state.limits.max_result
            )));
        }
        self.state.check_size()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The events, one after the other, each as [name, payload].
    pub(crate) out: Writer,
    pub(crate) count: usize,
}

/// The function that runs an action. If it returns an error, its changes are taken back.
pub type Handler = fn(&mut Context<'_>, &Payload<'_>) -> Result;

/// The kinds of fields of a payload, for the list of actions.
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
    /// A string with this shape. The module [`shape`](crate::shape) says how shapes are written.
    StringOf(&'static str),
    /// A map with this shape.
    MapOf(&'static str),
    /// An array with this shape.
    ArrayOf(&'static str),
}

impl Kind {
    /// Returns the kind's name in the list of actions.
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

    /// Returns the kind's shape in the list of actions.
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

/// Whether a payload must have a field, and which value counts if it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
    /// The default, as JSON.
    Default(&'static str),
}

/// Returns a field that a payload must have.
pub const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, need: Need::Required }
}

/// Returns a field that may be missing.
pub const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, need: Need::Optional }
}

/// Returns a field that may be missing, and has this default. The default is written as JSON.
pub const fn default(name: &'static str, kind: Kind, json: &'static str) -> Field {
    Field { name, kind, need: Need::Default(json) }
}

/// The name of the field that [`rest`] returns.
pub(crate) const REST: &str = "*";

/// Returns the field that allows members beside the action's fields. It must be the last field.
/// Without it, a payload with another member is an error.
pub const fn rest() -> Field {
    Field { name: REST, kind: Kind::Any, need: Need::Optional }
}

/// An action: its name, the fields of its payload for the list of actions, and its handler.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    pub name: &'static str,
    /// One line that says what the action does and returns.
    pub about: &'static str,
    pub fields: &'a [Field],
    pub handler: Handler,
}

/// The actions of a core, by name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// In the order in which they were registered.
    actions: Vec<Action<'static>>,
    /// A hash table with open addressing. A slot has an index of `actions` plus 1, or 0 if it is
    /// free. The length is a power of two, and at most half of the slots are taken.
    slots: Vec<u32>,
    /// The shapes are read only when the core describes itself. They are shared, because each
    /// engine has a registry of its own.
    shapes: Arc<Shapes>,
}

/// The shapes of a core. If two have the same name, the last one counts.
#[derive(Clone, Debug, Default)]
struct Shapes {
    results: Vec<(&'static str, &'static str)>,
    records: Vec<Record>,
}

impl Registry {
    /// Returns a registry without actions.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Returns a registry of all built-in actions.
    pub fn builtin() -> Registry {
        let mut r = Registry::new();
        r.rehash(256);
        crate::actions::ALL.iter().flat_map(|family| family.iter()).for_each(|a| r.insert(*a));
        r.shapes = Arc::new(Shapes { results: shapes::RESULTS.to_vec(), records: shapes::RECORDS.to_vec() });
        r
    }

    /// Sets the shape of an action's result in the list of actions. Results are not compared with
    /// it. An action without a shape has "any".
    pub fn result(&mut self, action: &'static str, shape: &'static str) {
        Arc::make_mut(&mut self.shapes).results.push((action, shape));
    }

    /// Adds a record that shapes may name. It replaces a record of the same name.
    pub fn record(&mut self, r: Record) {
        Arc::make_mut(&mut self.shapes).records.push(r);
    }

    /// Returns the records, sorted by name.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let all = &self.shapes.records;
        sorted_indexes(all.iter().map(|r| r.name)).into_iter().map(|(_, i)| &all[i as usize])
    }

    fn result_of(&self, action: &str) -> &'static str {
        self.shapes.results.iter().rfind(|(name, _)| *name == action).map_or("any", |(_, shape)| shape)
    }

    /// Registers an action. It replaces an action of the same name. The fields need not be a
    /// constant: they are copied, and the copy is kept for the life of the process.
    pub fn register(&mut self, a: Action<'_>) {
        let fields: &'static [Field] = if a.fields.is_empty() { &[] } else { Vec::leak(a.fields.to_vec()) };
        self.insert(Action { name: a.name, about: a.about, fields, handler: a.handler });
    }

    /// Registers actions that are constants. Nothing is copied.
    pub fn register_all(&mut self, actions: &'static [Action<'static>]) {
        actions.iter().for_each(|a| self.insert(*a));
    }

    fn insert(&mut self, a: Action<'static>) {
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

    /// Returns the slot of a name: the slot that has it, or the free slot that it would get. The
    /// table must have at least one free slot.
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

    /// Returns the actions, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Action<'static>> {
        sorted_indexes(self.actions.iter().map(|a| a.name)).into_iter().map(|(_, i)| &self.actions[i as usize])
    }

    pub fn get(&self, name: &str) -> Option<&Action<'static>> {
        if self.slots.is_empty() {
            return None;
        }
        let i = self.slots[self.slot(name)] as usize;
        self.actions.get(i.checked_sub(1)?)
    }

    /// Writes the list of actions as MessagePack: an array of {about, fields: [{default?, kind,
    /// name, required, shape}], name, result}.
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

    /// Writes the records as MessagePack: an array of {about, fields: [{about, name, optional,
    /// shape}], name, rest?}.
    pub fn list_records(&self, out: &mut Writer) {
        let all: Vec<&Record> = self.records().collect();
        out.array(all.len());
        for r in all {
            r.write(out);
        }
    }
}

/// Returns a hash of a name. It is made of the name's length and of its first and last eight
/// bytes, which are enough to tell the names of actions apart.
fn hash(name: &[u8]) -> u32 {
    let (head, tail) = match (name.first_chunk(), name.last_chunk()) {
        (Some(h), Some(t)) => (u64::from_le_bytes(*h), u64::from_le_bytes(*t)),
        _ => (name.iter().fold(0, |h, b| h << 8 | *b as u64), 0),
    };
    let mixed = (head ^ tail.rotate_left(31) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

/// One dispatch, as the host sends it.
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

    /// Returns the digest of the state.
    pub fn digest(&self) -> u64 {
        crate::state_writer::digest(&self.state)
    }

    /// Empties `out` and the events, and limits each to MaxResult bytes. Called before a dispatch
    /// or a batch.
    pub(crate) fn begin(&mut self, out: &mut Writer) {
        let limit = self.state.limits.max_result as usize;
        out.reset(limit);
        self.events.out.reset(limit);
        self.events.count = 0;
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Makes all changes since the last commit permanent.
    pub(crate) fn commit(&mut self) {
        self.state.commit();
    }

    /// Runs one action and appends its result to `out`. Returns whether the action changed the
    /// state. If it fails, the state, `out` and the events are as they were before. The caller
    /// commits.
    pub fn run(&mut self, r: &Request<'_>, out: &mut Writer) -> Result<bool> {
        let mark = self.state.mark();
        let mut cx = Context {
            state: &mut self.state,
            out,
            now: r.now,
            entropy: r.entropy,
            ids: None,
            events: &mut self.events,
            registry: &self.registry,
            stream: 0,
            calls: 0,
            depth: 0,
        };
        cx.run_action(r.action, r.payload)?;
        Ok(self.state.changed_since(mark))
    }

    /// Takes back all changes since the mark.
    pub(crate) fn abort(&mut self, mark: crate::state::Mark) {
        self.state.rollback(mark);
    }
}
