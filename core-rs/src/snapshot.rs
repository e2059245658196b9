//! A snapshot: the state as a sequence of small MessagePack values, so that it can be written and
//! read in pieces.
//!
//! A map is a token: the first one has number 0, the next one number 1, and so on. Records name
//! tokens by number, so a token that lies in several places is written and kept once. An array is
//! a record, whose first item is its kind. ABI.md has the table of kinds.

use crate::error::{Error, Result, code};
use crate::sections::{
    Agent, Agents, At, Inventory, Limits, Map, Pile, Placement, Section, Source, SourceStack, Unordered, agent_bytes,
    map_of_entries, weight,
};
use crate::state::State;
use crate::state_writer::digest;
use crate::token::Token;
use crate::value::{ScanError, Value, scan};
use crate::walk::{Sec, Visit, Walk};
use crate::write::Writer;
use std::cell::Cell;
use std::rc::Rc;

/// The version of the format. A core opens only the versions that it knows.
pub const VERSION: i64 = 1;

const MAGIC: &str = "hypertoken";
/// The most token numbers in one record.
const RUN: usize = 1024;
/// How much deeper than MaxDepth a record may be, because it contains values.
const RECORD_DEPTH: usize = 8;

/// The first item of a record.
mod kind {
    pub const HEADER: u64 = 0;
    pub const PILE: u64 = 1;
    pub const STACK: u64 = 2;
    pub const RESET: u64 = 3;
    pub const SOURCE: u64 = 4;
    pub const SOURCE_STACK: u64 = 5;
    pub const SOURCE_TOKENS: u64 = 6;
    pub const RULES: u64 = 7;
    pub const ENTRY: u64 = 8;
    pub const LOCK: u64 = 9;
    pub const ZONE: u64 = 10;
    pub const PLACEMENT: u64 = 11;
    pub const AGENT: u64 = 12;
    pub const INVENTORY: u64 = 13;
    pub const AGENT_ORDER: u64 = 14;
    pub const TRANSACTION: u64 = 15;
    pub const ZONES: u64 = 16;
    pub const END: u64 = 17;
}

/// The built-in fields of an agent and of a placement. The further fields must have other names.
const AGENT_FIELDS: [&str; 6] = ["id", "name", "active", "meta", "resources", "inventory"];
const PLACEMENT_FIELDS: [&str; 8] = ["id", "tokenSnapshot", "x", "y", "faceUp", "reversed", "ts", "label"];

const ENTRY_MAPS: [At; 5] = [At::GameState, At::GameLoop, At::Fired, At::Rules, At::Extra];

thread_local! {
    static GENERATION: Cell<u32> = const { Cell::new(0) };
}

/// Writes a snapshot piece by piece.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    pub(crate) out: Writer,
    generation: u32,
    tokens: u32,
    /// The kind, and the pile if it has one, of the record whose token numbers are being
    /// collected.
    run: Option<(u64, Option<Pile>)>,
    /// The token numbers of that record.
    numbers: Vec<u32>,
    walk: Option<Walk>,
}

impl SnapshotWriter {
    pub(crate) fn new(s: &State) -> SnapshotWriter {
        let generation = GENERATION.with(|g| {
            g.set(g.get().wrapping_add(1).max(1));
            g.get()
        });
        let mut w = SnapshotWriter {
            out: Writer::default(),
            generation,
            tokens: 0,
            run: None,
            numbers: Vec::new(),
            walk: Some(Walk::new(s, true)),
        };
        w.record(kind::HEADER, 6);
        w.out.str(MAGIC);
        w.out.int(VERSION);
        w.out.int(s.limits.max_state as i64);
        w.out.int(s.limits.max_result as i64);
        w.out.int(s.limits.max_depth as i64);
        w
    }

    /// Takes the next step. Returns false if the snapshot is complete.
    pub(crate) fn step(&mut self, s: &State) -> bool {
        let Some(mut walk) = self.walk.take() else { return false };
        if walk.step(s, self) {
            self.walk = Some(walk);
        } else {
            self.record(kind::END, 2);
            self.out.str(&format!("{:016x}", digest(s)));
        }
        true
    }

    fn record(&mut self, kind: u64, items: usize) {
        self.flush();
        self.out.array(items);
        self.out.int(kind as i64);
    }

    /// Returns the number of a token. If it has none yet, the token is written first.
    fn number(&mut self, t: &Token) -> u32 {
        let (generation, number) = t.mark().get();
        if generation == self.generation {
            return number;
        }
        self.out.raw(t.bytes());
        t.mark().set((self.generation, self.tokens));
        self.tokens += 1;
        self.tokens - 1
    }

    fn list(&mut self, kind: u64, pile: Option<Pile>, t: &Token) {
        if self.run != Some((kind, pile)) || self.numbers.len() == RUN {
            self.flush();
        }
        let n = self.number(t);
        self.run = Some((kind, pile));
        self.numbers.push(n);
    }

    fn flush(&mut self) {
        let Some((kind, pile)) = self.run.take() else { return };
        let numbers = std::mem::take(&mut self.numbers);
        self.out.array(1 + pile.is_some() as usize + numbers.len());
        self.out.int(kind as i64);
        if let Some(p) = pile {
            self.out.int(p as i64);
        }
        numbers.iter().for_each(|n| self.out.int(*n as i64));
        self.numbers = numbers;
        self.numbers.clear();
    }

    fn map(&mut self, m: &Map) {
        self.out.map(m.len());
        for (k, v) in m {
            self.out.str(k);
            self.out.raw(v);
        }
    }
}

impl Visit for SnapshotWriter {
    fn begin(&mut self, _: usize) {}
    fn section(&mut self, s: Sec) {
        match s {
            Sec::Stack => self.record(kind::STACK, 1),
            Sec::Rules => self.record(kind::RULES, 1),
            _ => {}
        }
    }
    fn entries(&mut self, _: At, _: usize) {}
    fn entry(&mut self, at: At, key: &str, value: &[u8]) {
        let which = ENTRY_MAPS.iter().position(|m| *m == at).expect("an agent's maps are in its record");
        self.record(kind::ENTRY, 4);
        self.out.int(which as i64);
        self.out.str(key);
        self.out.raw(value);
    }
    fn agents(&mut self, _: usize) {}
    fn agent(&mut self, a: &Agent) {
        self.record(kind::AGENT, 7);
        self.out.str(&a.name);
        self.out.str(&a.id);
        self.out.bool(a.active);
        self.map(&a.meta);
        self.map(&a.resources);
        self.map(&a.extra);
    }
    fn held(&mut self, t: &Token) {
        self.list(kind::INVENTORY, None, t);
    }
    fn agent_end(&mut self, _: &Agent) {
        self.flush();
    }
    fn locked(&mut self, _: usize) {}
    fn lock(&mut self, zone: &str) {
        self.record(kind::LOCK, 2);
        self.out.str(zone);
    }
    fn pile(&mut self, _: Pile, _: usize) {}
    fn token(&mut self, p: Pile, t: &Token) {
        self.list(kind::PILE, Some(p), t);
    }
    fn source(&mut self, s: &Source) {
        self.record(kind::SOURCE, 4);
        self.out.raw(&s.seed);
        self.out.raw(&s.threshold);
        self.out.raw(&s.mode);
    }
    fn transactions(&mut self, _: usize) {}
    fn transaction(&mut self, t: &[u8]) {
        self.record(kind::TRANSACTION, 2);
        self.out.raw(t);
    }
    fn zones(&mut self, _: usize) {}
    fn zone(&mut self, name: &str, _: usize) {
        self.record(kind::ZONE, 2);
        self.out.str(name);
    }
    fn placement(&mut self, p: &Placement) {
        self.flush();
        let token = self.number(&p.token);
        self.record(kind::PLACEMENT, 10);
        self.out.str(&p.id);
        self.out.int(token as i64);
        self.out.num(p.x);
        self.out.num(p.y);
        self.out.bool(p.face_up);
        self.out.bool(p.reversed);
        self.out.num(p.ts);
        self.out.raw(&p.label);
        self.map(&p.extra);
    }
    fn zones_made(&mut self, made: bool) {
        if made {
            self.record(kind::ZONES, 1);
        }
    }
    fn agent_order(&mut self, _: usize) {}
    fn agent_name(&mut self, name: &str) {
        self.record(kind::AGENT_ORDER, 2);
        self.out.str(name);
    }
    fn reset(&mut self, _: Option<usize>) {}
    fn reset_token(&mut self, t: &Token) {
        self.list(kind::RESET, None, t);
    }
    fn source_stacks(&mut self, _: usize, next: u64) {
        self.record(kind::SOURCE_STACK, 2);
        self.out.int(next as i64);
    }
    fn source_stack(&mut self, s: &SourceStack) {
        self.record(kind::SOURCE_STACK, 3);
        self.out.str(&s.id);
        self.out.bool(s.added);
    }
    fn source_token(&mut self, t: &Token) {
        self.list(kind::SOURCE_TOKENS, None, t);
    }
}

/// Reads a snapshot in pieces, which may be cut at any byte.
#[derive(Debug)]
pub(crate) struct Restorer {
    state: State,
    tail: Vec<u8>,
    tokens: Vec<Token>,
    token_bytes: u64,
    /// The logical bytes of everything that has been read, but joins the state only at the end.
    held_bytes: u64,
    header: bool,
    ended: bool,
    reset: Option<Vec<Token>>,
    stacks: Vec<(Box<str>, bool, Vec<Token>)>,
    source: Option<Source>,
    agents: Vec<Agent>,
    order: Vec<Box<str>>,
    zone: Option<Box<str>>,
}

#[cold]
#[inline(never)]
fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(code::BAD_SNAPSHOT, format!("the snapshot is damaged or not one: {what}"))
}

/// The items of a record after its kind, in order.
struct Record<'a>(crate::value::Items<'a>);

impl<'a> Record<'a> {
    fn value(&mut self) -> Result<Value<'a>> {
        self.0.next().ok_or_else(|| bad("a record is too short"))
    }
    fn str(&mut self) -> Result<&'a str> {
        self.value()?.as_str().ok_or_else(|| bad("a record wants a string"))
    }
    fn bool(&mut self) -> Result<bool> {
        self.value()?.as_bool().ok_or_else(|| bad("a record wants a bool"))
    }
    fn f64(&mut self) -> Result<f64> {
        self.value()?.as_f64().ok_or_else(|| bad("a record wants a number"))
    }
    fn uint(&mut self) -> Result<u64> {
        let f = self.f64()?;
        crate::value::as_int(f).and_then(|i| u64::try_from(i).ok()).ok_or_else(|| bad("a record wants a whole number"))
    }
    fn map(&mut self) -> Result<Map> {
        let mut entries = self.value()?.entries().ok_or_else(|| bad("a record wants a map"))?;
        Ok(map_of_entries(&mut entries))
    }
}

impl Restorer {
    pub(crate) fn new() -> Restorer {
        Restorer {
            state: State::new(Limits::default()),
            tail: Vec::new(),
            tokens: Vec::new(),
            token_bytes: 0,
            held_bytes: 0,
            header: false,
            ended: false,
            reset: None,
            stacks: Vec::new(),
            source: None,
            agents: Vec::new(),
            order: Vec::new(),
            zone: None,
        }
    }

    /// Reads the next piece.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result {
        let mut tail = std::mem::take(&mut self.tail);
        tail.extend_from_slice(piece);
        let mut at = 0;
        while at < tail.len() {
            let depth = self.state.limits.max_depth as usize + RECORD_DEPTH;
            match scan(&tail[at..], depth) {
                Ok(s) => {
                    self.item(Value::trusted(&tail[at..at + s.len]))?;
                    at += s.len;
                }
                Err(ScanError::Incomplete) => break,
                Err(ScanError::Invalid(e)) => return Err(bad(e.message)),
            }
        }
        tail.drain(..at);
        if tail.len() as u64 > 2 * self.state.limits.max_state + (64 << 20) {
            return Err(bad("one record is larger than the whole state may be"));
        }
        self.tail = tail;
        Ok(())
    }

    /// Returns the restored state, once everything has been fed.
    pub(crate) fn finish(mut self) -> Result<State> {
        if !self.ended || !self.tail.is_empty() {
            return Err(bad("it ends too early"));
        }
        self.state.commit();
        Ok(self.state)
    }

    fn item(&mut self, v: Value<'_>) -> Result {
        if self.ended {
            return Err(bad("something follows its end"));
        }
        if v.entries().is_some() {
            if !self.header {
                return Err(bad("it has no header"));
            }
            let t = Token::new(v, "token").map_err(|e| bad(e.message))?;
            // The table of tokens may hold tokens that no record names. So it is bounded by
            // itself.
            self.token_bytes += t.bytes().len() as u64 + weight::SLOT;
            if self.token_bytes > 4 * self.state.limits.max_state {
                return Err(bad("its tokens are larger than the state may be"));
            }
            self.tokens.push(t);
            return Ok(());
        }
        let mut r = Record(v.items().ok_or_else(|| bad("neither a token nor a record"))?);
        let kind = r.uint()?;
        if self.header == (kind == kind::HEADER) {
            return Err(bad("its header is missing, or not first"));
        }
        self.record(kind, &mut r)?;
        self.state.commit();
        // The size is checked exactly at the end. Until then the state may be larger, for example
        // because an entry of gameLoop is not replaced yet.
        if self.held_bytes.max(self.state.bytes) > 2 * self.state.limits.max_state + (4 << 10) {
            return Err(bad("it is larger than the state may be"));
        }
        Ok(())
    }

    fn token(&self, n: u64) -> Result<Token> {
        self.tokens.get(n as usize).cloned().ok_or_else(|| bad(format_args!("there is no token {n}")))
    }

    fn tokens(&mut self, r: &mut Record<'_>) -> Result<Vec<Token>> {
        let n = r.0.len();
        self.held_bytes += n as u64 * weight::RESET;
        (0..n).map(|_| self.token(r.uint()?)).collect()
    }

    fn record(&mut self, kind: u64, r: &mut Record<'_>) -> Result {
        match kind {
            kind::HEADER => {
                if r.str()? != MAGIC {
                    return Err(bad("it does not begin as one"));
                }
                let version = r.uint()?;
                if version != VERSION as u64 {
                    return Err(Error::new(
                        code::BAD_SNAPSHOT,
                        format!("the snapshot has format version {version}; this core opens version {VERSION}"),
                    ));
                }
                let (state, result, depth) = (r.uint()?, r.uint()?, r.uint()?);
                let limits = Limits { max_state: state, max_result: result as u32, max_depth: depth as u32 };
                if result > u32::MAX as u64 || depth == 0 || depth > Limits::MAX_DEPTH as u64 {
                    return Err(bad("its limits are out of range"));
                }
                self.state = State::new(limits);
                self.header = true;
            }
            kind::PILE => {
                // These tokens join the state at once, and the state counts them.
                let held = self.held_bytes;
                let p = r.uint()?;
                let p = *Pile::ALL.get(p as usize).ok_or_else(|| bad(format_args!("there is no pile {p}")))?;
                for t in self.tokens(r)? {
                    self.state.push(p, t);
                }
                self.held_bytes = held;
            }
            kind::STACK => self.reset = Some(Vec::new()),
            kind::RESET => {
                let tokens = self.tokens(r)?;
                self.reset.as_mut().ok_or_else(|| bad("it has no stack to reset"))?.extend(tokens);
            }
            kind::SOURCE => {
                let seed = r.value()?.bytes().into();
                let threshold = r.value()?.bytes().into();
                let mode = r.value()?.bytes().into();
                self.source = Some(Source { stacks: Vec::new(), next_stack: 0, seed, threshold, mode });
            }
            kind::SOURCE_STACK => {
                let v = r.value()?;
                match (v.as_str(), v.as_f64().and_then(crate::value::as_int), &mut self.source) {
                    (Some(id), _, Some(_)) => self.stacks.push((id.into(), r.bool()?, Vec::new())),
                    (_, Some(next @ 0..), Some(s)) => s.next_stack = next as u64,
                    // Without a source there is no next stack: the number is 0.
                    (_, Some(0), None) => {}
                    _ => return Err(bad("a stack of no source")),
                }
            }
            kind::SOURCE_TOKENS => {
                let tokens = self.tokens(r)?;
                self.stacks.last_mut().ok_or_else(|| bad("tokens of no stack"))?.2.extend(tokens);
            }
            kind::RULES => self.state.replace(Section::Rules(Some(Default::default()))),
            kind::ENTRY => {
                let which = r.uint()?;
                let at = *ENTRY_MAPS.get(which as usize).ok_or_else(|| bad("an entry of no map"))?;
                let (key, value) = (r.str()?, r.value()?);
                if (at == At::Extra && Sec::of(key).is_some()) || (at == At::Rules && key == "fired") {
                    return Err(bad(format_args!("{key} is a built-in section")));
                }
                if matches!(at, At::Fired | At::Rules) && self.state.rules.is_none() {
                    return Err(bad("an entry of rules that are not there"));
                }
                self.state.set(at, key, value.bytes());
            }
            kind::LOCK => self.state.lock(r.str()?, true),
            kind::ZONE => {
                let name = r.str()?;
                if !self.state.create_zone(name) {
                    return Err(bad(format_args!("the zone {name} stands in it twice")));
                }
                self.zone = Some(name.into());
            }
            kind::PLACEMENT => {
                let id = r.str()?.into();
                let token = r.uint()?;
                let p = Placement {
                    id,
                    token: self.token(token)?,
                    x: r.f64()?,
                    y: r.f64()?,
                    face_up: r.bool()?,
                    reversed: r.bool()?,
                    ts: r.f64()?,
                    label: r.value()?.bytes().into(),
                    extra: r.map()?,
                };
                if let Some(k) = p.extra.keys().find(|k| PLACEMENT_FIELDS.contains(&&***k)) {
                    return Err(bad(format_args!("{k} is a placement's own field")));
                }
                if self.state.has_placement(&p.id) {
                    return Err(bad(format_args!("the placement {} stands in it twice", p.id)));
                }
                let zone = self.zone.as_deref().ok_or_else(|| bad("a placement in no zone"))?;
                self.state.place(zone, p);
            }
            kind::AGENT => {
                let a = Agent {
                    name: r.str()?.into(),
                    id: r.str()?.into(),
                    active: r.bool()?,
                    meta: r.map()?,
                    resources: r.map()?,
                    extra: r.map()?,
                    inventory: Inventory::default(),
                };
                if let Some(k) = a.extra.keys().find(|k| AGENT_FIELDS.contains(&&***k)) {
                    return Err(bad(format_args!("{k} is an agent's own field")));
                }
                self.held_bytes += agent_bytes(&a);
                self.agents.push(a);
            }
            kind::INVENTORY => {
                for t in self.tokens(r)? {
                    self.held_bytes += weight::HELD;
                    let a = self.agents.last_mut().ok_or_else(|| bad("an inventory of no agent"))?;
                    a.inventory.push(t);
                }
            }
            kind::AGENT_ORDER => self.order.push(r.str()?.into()),
            kind::TRANSACTION => self.state.add_transaction(r.value()?.bytes().into()),
            kind::ZONES => self.state.zones.made = true,
            kind::END => return self.end(r.str()?),
            _ => return Err(bad(format_args!("there is no record of kind {kind}"))),
        }
        Ok(())
    }

    fn end(&mut self, wanted: &str) -> Result {
        if let Some(mut s) = self.source.take() {
            s.stacks =
                self.stacks.drain(..).map(|(id, added, t)| SourceStack { id, added, tokens: t.into() }).collect();
            self.state.attach_source(s);
        }
        if let Some(tokens) = self.reset.take() {
            self.state.attach_stack(tokens);
        }
        for (attached, piles) in [
            (self.state.stack.is_some(), &[Pile::Stack, Pile::Drawn, Pile::Discards][..]),
            (self.state.source.is_some(), &[Pile::Source, Pile::Burned]),
        ] {
            if !attached && piles.iter().any(|p| !self.state.pile(*p).is_empty()) {
                return Err(bad("it has tokens of a stack or a source that is not there"));
            }
        }
        let names: Vec<Rc<str>> = self.agents.iter().map(|a| a.name.clone()).collect();
        let mut by_name = Unordered::new(names.iter().map(|name| &**name), self.agents.drain(..).map(Some).collect());
        let mut agents = Agents::default();
        for name in &self.order {
            agents.push(by_name.take(name).ok_or_else(|| bad(format_args!("there is no agent {name}")))?);
        }
        if by_name.rest().next().is_some() {
            return Err(bad("an agent has no place in the order"));
        }
        self.state.replace(Section::Agents(agents));
        let found = format!("{:016x}", digest(&self.state));
        if found != wanted {
            return Err(bad(format_args!("its state has the digest {found}, it says {wanted}")));
        }
        self.ended = true;
        self.state.check_size()
    }
}
