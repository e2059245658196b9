//! One walk over the whole state, in steps, so that what it writes can be sent in chunks.
//!
//! The order is that of the state as a map: sections by the bytes of their keys. What a state holds but does not
//! show (the order of agents, what a reset goes back to) comes last.

use crate::sections::{Agent, At, Pile, Placement, Source, SourceStack};
use crate::state::State;
use crate::token::Token;
use crate::value::Value;
use crate::write::{Writer, canonical};
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;

/// Steps are cut after so many tokens, entries or placements.
const RUN: usize = 256;

/// What a walk meets, in its order. Every method has a section's name, a length or an item to write.
pub(crate) trait Visit {
    fn begin(&mut self, sections: usize);
    /// A built-in section opens. Those that are maps of fixed fields write their header here.
    fn section(&mut self, s: Sec);
    fn entries(&mut self, at: At, n: usize);
    fn entry(&mut self, at: At, key: &str, value: &[u8]);
    fn agents(&mut self, n: usize);
    fn agent(&mut self, a: &Agent);
    fn held(&mut self, t: &Token);
    fn agent_end(&mut self, a: &Agent);
    fn locked(&mut self, n: usize);
    fn lock(&mut self, zone: &str);
    fn pile(&mut self, p: Pile, n: usize);
    fn token(&mut self, p: Pile, t: &Token);
    fn source(&mut self, s: &Source);
    fn transactions(&mut self, n: usize);
    fn transaction(&mut self, t: &[u8]);
    fn zones(&mut self, n: usize);
    fn zone(&mut self, name: &str, n: usize);
    fn placement(&mut self, p: &Placement);
    // What the state does not show.
    fn zones_made(&mut self, made: bool);
    fn agent_order(&mut self, n: usize);
    fn agent_name(&mut self, name: &str);
    fn reset(&mut self, n: Option<usize>);
    fn reset_token(&mut self, t: &Token);
    fn source_stacks(&mut self, n: usize, next: u64);
    fn source_stack(&mut self, s: &SourceStack);
    fn source_token(&mut self, t: &Token);
}

/// A section of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sec {
    Agents,
    GameLoop,
    GameState,
    Locked,
    Rules,
    Source,
    Stack,
    Transactions,
    Zones,
    Extra(Box<str>),
    AgentOrder,
    Reset,
    SourceStacks,
}

impl Sec {
    /// The built-in section under a top-level key.
    pub(crate) fn of(key: &str) -> Option<Sec> {
        Some(match key {
            "agents" => Sec::Agents,
            "gameLoop" => Sec::GameLoop,
            "gameState" => Sec::GameState,
            "locked" => Sec::Locked,
            "rules" => Sec::Rules,
            "source" => Sec::Source,
            "stack" => Sec::Stack,
            "transactions" => Sec::Transactions,
            "zones" => Sec::Zones,
            _ => return None,
        })
    }

    pub(crate) fn key(&self) -> &str {
        match self {
            Sec::Agents => "agents",
            Sec::GameLoop => "gameLoop",
            Sec::GameState => "gameState",
            Sec::Locked => "locked",
            Sec::Rules => "rules",
            Sec::Source => "source",
            Sec::Stack => "stack",
            Sec::Transactions => "transactions",
            Sec::Zones => "zones",
            Sec::Extra(k) => k,
            Sec::AgentOrder | Sec::Reset | Sec::SourceStacks => "",
        }
    }
}

/// Where a walk stands. The state must not change between its steps.
#[derive(Debug)]
pub(crate) struct Walk {
    sections: Vec<Sec>,
    shown: usize,
    i: usize,
    begun: bool,
    /// Where in the section: a stage, then whichever of these the stage counts with.
    stage: usize,
    at: u64,
    name: Option<Rc<str>>,
    key: Option<Box<str>>,
}

impl Walk {
    /// Over the state as a map; with `hidden`, over what it does not show too.
    pub(crate) fn new(s: &State, hidden: bool) -> Walk {
        use Sec::*;
        let mut sections = vec![Agents, GameLoop, GameState, Locked, Transactions, Zones];
        sections.extend(s.rules.is_some().then_some(Rules));
        sections.extend(s.source.is_some().then_some(Source));
        sections.extend(s.stack.is_some().then_some(Stack));
        sections.extend(s.extra.keys().cloned().map(Extra));
        sections.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        let shown = sections.len();
        if hidden {
            sections.extend([AgentOrder, Reset, SourceStacks]);
        }
        Walk { sections, shown, i: 0, begun: false, stage: 0, at: 0, name: None, key: None }
    }

    /// Over one built-in section alone, without the map around it.
    pub(crate) fn section(sec: Sec) -> Walk {
        Walk { sections: vec![sec], shown: 0, i: 0, begun: true, stage: 0, at: 0, name: None, key: None }
    }

    /// Takes the next step; false where there is none.
    pub(crate) fn step<V: Visit>(&mut self, s: &State, v: &mut V) -> bool {
        if !self.begun {
            self.begun = true;
            v.begin(self.shown);
        }
        let Some(sec) = self.sections.get(self.i).cloned() else { return false };
        if self.run(&sec, s, v) {
            (self.i, self.stage, self.at, self.name, self.key) = (self.i + 1, 0, 0, None, None);
        }
        true
    }

    fn next_stage(&mut self) -> bool {
        (self.stage, self.at, self.key) = (self.stage + 1, 0, None);
        false
    }

    /// One step within a section; true where that ends it.
    fn run<V: Visit>(&mut self, sec: &Sec, s: &State, v: &mut V) -> bool {
        if self.stage == 0 {
            v.section(sec.clone());
            return self.next_stage();
        }
        match (sec, self.stage) {
            (Sec::GameLoop, _) => self.map(At::GameLoop, 0, s, v),
            (Sec::GameState, _) => self.map(At::GameState, 0, s, v),
            (Sec::Extra(key), _) => {
                v.entry(At::Extra, key, &s.extra[key]);
                true
            }
            (Sec::Rules, 1) => {
                // `fired` stands among the others by its key; game:setState alone writes others.
                v.entries(At::Rules, s.map(At::Rules).len() + 1);
                self.next_stage()
            }
            (Sec::Rules, 2) => {
                s.map(At::Rules).iter().filter(|(k, _)| &***k < "fired").for_each(|(k, x)| v.entry(At::Rules, k, x));
                self.next_stage()
            }
            (Sec::Rules, 3 | 4) => {
                if self.map(At::Fired, 2, s, v) {
                    self.stage = 4;
                    return self.next_stage();
                }
                false
            }
            (Sec::Rules, _) => {
                s.map(At::Rules).iter().filter(|(k, _)| &***k > "fired").for_each(|(k, x)| v.entry(At::Rules, k, x));
                true
            }
            (Sec::Locked, 1) => {
                v.locked(s.locked.len());
                self.next_stage()
            }
            (Sec::Locked, _) => {
                s.locked.iter().for_each(|z| v.lock(z));
                true
            }
            (Sec::Stack, stage) => {
                let p = [Pile::Discards, Pile::Drawn, Pile::Stack][(stage - 1) / 2];
                self.pile(p, stage % 2 == 1, s, v) && stage == 6
            }
            (Sec::Source, 1 | 2) => {
                self.pile(Pile::Burned, self.stage == 1, s, v);
                false
            }
            (Sec::Source, 3) => {
                if let Some(src) = &s.source {
                    v.source(src);
                }
                self.next_stage()
            }
            (Sec::Source, stage) => self.pile(Pile::Source, stage == 4, s, v) && stage == 5,
            (Sec::Transactions, 1) => {
                v.transactions(s.transactions.len());
                self.next_stage()
            }
            (Sec::Transactions, _) => {
                let from = self.at as usize;
                s.transactions.iter().skip(from).take(RUN).for_each(|t| v.transaction(t));
                self.at += RUN as u64;
                self.at as usize >= s.transactions.len()
            }
            (Sec::Zones, 1) => {
                v.zones(s.zones.items.len());
                self.next_stage()
            }
            (Sec::Zones, 2) => {
                let from = self.name.as_ref().map_or(Unbounded, Excluded);
                let Some((name, z)) = s.zones.items.range::<Rc<str>, _>((from, Unbounded)).next() else { return true };
                v.zone(name, z.items.len());
                self.name = Some(name.clone());
                self.next_stage()
            }
            (Sec::Zones, _) => {
                let z = self.name.as_ref().and_then(|n| s.zones.items.get(n)).expect("the zone of the last step");
                let mut n = 0;
                for (order, p) in z.items.range(self.at..).take(RUN) {
                    v.placement(p);
                    (n, self.at) = (n + 1, order + 1);
                }
                if n < RUN {
                    self.stage = 2;
                }
                false
            }
            (Sec::Agents, 1) => {
                v.agents(s.agents.items.len());
                self.next_stage()
            }
            (Sec::Agents, 2) => {
                let from = self.name.as_ref().map_or(Unbounded, Excluded);
                let next = s.agents.index.range::<Rc<str>, _>((from, Unbounded)).next();
                let Some((name, order)) = next else { return true };
                v.agent(s.agent(*order));
                self.name = Some(name.clone());
                self.next_stage()
            }
            (Sec::Agents, _) => {
                let order = self.name.as_ref().and_then(|n| s.agents.index.get(n)).expect("the agent of the last step");
                let a = s.agent(*order);
                let mut n = 0;
                for (order, t) in a.inventory.starting_at(self.at).take(RUN) {
                    v.held(t);
                    (n, self.at) = (n + 1, order + 1);
                }
                if n < RUN {
                    v.agent_end(a);
                    self.stage = 2;
                }
                false
            }
            (Sec::AgentOrder, _) => {
                v.zones_made(s.zones.made);
                v.agent_order(s.agents.items.len());
                s.agents().for_each(|a| v.agent_name(&a.name));
                true
            }
            (Sec::Reset, 1) => {
                v.reset(s.stack.as_ref().map(|t| t.len()));
                self.next_stage()
            }
            (Sec::Reset, _) => {
                let tokens: &[Token] = s.stack.as_deref().unwrap_or_default();
                tokens.iter().skip(self.at as usize).take(RUN).for_each(|t| v.reset_token(t));
                self.at += RUN as u64;
                self.at as usize >= tokens.len()
            }
            (Sec::SourceStacks, 1) => {
                let (n, next) = s.source.as_ref().map_or((0, 0), |x| (x.stacks.len(), x.next_stack));
                v.source_stacks(n, next);
                self.next_stage()
            }
            (Sec::SourceStacks, stage) => {
                let Some(st) = s.source.as_ref().and_then(|x| x.stacks.get(stage - 2)) else { return true };
                if self.at == 0 {
                    v.source_stack(st);
                }
                st.tokens.iter().skip(self.at as usize).take(RUN).for_each(|t| v.source_token(t));
                self.at += RUN as u64;
                if self.at as usize >= st.tokens.len() {
                    self.next_stage();
                }
                false
            }
        }
    }

    /// The stages `base + 1` (its length) and `base + 2` (its entries) of a map.
    fn map<V: Visit>(&mut self, at: At, base: usize, s: &State, v: &mut V) -> bool {
        let m = s.map(at);
        if self.stage == base + 1 {
            v.entries(at, m.len());
            return self.next_stage();
        }
        let from = self.key.as_ref().map_or(Unbounded, Excluded);
        let mut n = 0;
        for (k, x) in m.range::<Box<str>, _>((from, Unbounded)).take(RUN) {
            v.entry(at, k, x);
            n += 1;
            if n == RUN {
                self.key = Some(k.clone());
            }
        }
        n < RUN
    }

    /// A pile's length where `first`, else its next tokens; true, and on to the next stage, where that ends it.
    fn pile<V: Visit>(&mut self, p: Pile, first: bool, s: &State, v: &mut V) -> bool {
        let pile = s.pile(p);
        if first {
            v.pile(p, pile.len());
            return self.next_stage();
        }
        let (from, to) = (self.at as usize, (self.at as usize + RUN).min(pile.len()));
        pile.range(from..to).for_each(|t| v.token(p, t));
        self.at = to as u64;
        if to == pile.len() {
            self.next_stage();
            return true;
        }
        false
    }
}

/// Writes the state as a map; in canonical form, with what it does not show behind it, for the digest.
#[derive(Debug, Default)]
pub(crate) struct StateWriter {
    pub(crate) out: Writer,
    pub(crate) canonical: bool,
    /// Whether sections are written under their keys.
    pub(crate) bare: bool,
}

impl StateWriter {
    fn kept(&mut self, b: &[u8]) {
        if let [0xc0] = b {
            return self.out.nil();
        }
        if self.canonical { canonical(Value::trusted(b), &mut self.out) } else { self.out.raw(b) }
    }
    fn kept_token(&mut self, t: &Token) {
        if self.canonical { t.canonical(&mut self.out) } else { self.out.raw(t.bytes()) }
    }
    fn kept_map<'a>(&mut self, n: usize, m: impl Iterator<Item = (&'a str, &'a [u8])>) {
        self.out.map(n);
        for (k, v) in m {
            self.out.str(k);
            self.kept(v);
        }
    }
    fn map_of(&mut self, m: &crate::sections::Map) {
        self.kept_map(m.len(), m.iter().map(|(k, v)| (&**k, &**v)));
    }

    /// An agent's fields before or behind its inventory, its own ones among them.
    fn agent_fields(&mut self, a: &Agent, behind: bool) {
        let own: &[&str] = if behind { &["meta", "name", "resources"] } else { &["active", "id"] };
        let mut keys: Vec<&str> = a.extra.keys().map(|k| &**k).filter(|k| (*k > "inventory") == behind).collect();
        keys.extend(own);
        keys.sort_unstable();
        for k in keys {
            self.out.str(k);
            match k {
                "active" => self.out.bool(a.active),
                "id" => self.out.str(&a.id),
                "meta" => self.map_of(&a.meta),
                "name" => self.out.str(&a.name),
                "resources" => self.map_of(&a.resources),
                _ => self.kept(&a.extra[k]),
            }
        }
    }

    fn agent_head(&mut self, a: &Agent) {
        self.out.map(6 + a.extra.len());
        self.agent_fields(a, false);
        self.out.str("inventory");
        self.out.array(a.inventory.len());
    }

    /// A placement that has its own fields only, as almost all do.
    fn plain_placement(&mut self, p: &Placement) {
        self.out.map(PLACEMENT.len());
        self.out.key("faceUp");
        self.out.bool(p.face_up);
        self.out.key("id");
        self.out.str(&p.id);
        self.out.key("label");
        self.kept(&p.label);
        self.out.key("reversed");
        self.out.bool(p.reversed);
        self.out.key("tags");
        self.out.array(0);
        self.out.key("tokenId");
        self.out.str(p.token.id());
        self.out.key("tokenSnapshot");
        self.kept_token(&p.token);
        self.out.key("ts");
        self.out.num(p.ts);
        self.out.key("x");
        self.out.num(p.x);
        self.out.key("y");
        self.out.num(p.y);
    }

    /// One of a placement's own fields.
    fn placement_field(&mut self, p: &Placement, key: &str) {
        self.out.str(key);
        match key {
            "faceUp" => self.out.bool(p.face_up),
            "id" => self.out.str(&p.id),
            "label" => self.kept(&p.label),
            "reversed" => self.out.bool(p.reversed),
            "tags" => self.out.array(0),
            "tokenId" => self.out.str(p.token.id()),
            "tokenSnapshot" => self.kept_token(&p.token),
            "ts" => self.out.num(p.ts),
            "x" => self.out.num(p.x),
            _ => self.out.num(p.y),
        }
    }

    /// A whole agent.
    pub(crate) fn whole_agent(&mut self, a: &Agent) {
        self.agent_head(a);
        a.inventory.iter().for_each(|t| self.held(t));
        self.agent_end(a);
    }
}

/// A placement's own fields, sorted.
const PLACEMENT: [&str; 10] = ["faceUp", "id", "label", "reversed", "tags", "tokenId", "tokenSnapshot", "ts", "x", "y"];

impl Visit for StateWriter {
    fn begin(&mut self, sections: usize) {
        self.out.map(sections);
    }
    fn section(&mut self, s: Sec) {
        if !self.bare && !matches!(s, Sec::Extra(_) | Sec::AgentOrder | Sec::Reset | Sec::SourceStacks) {
            self.out.str(s.key());
        }
        match s {
            Sec::Stack => self.out.map(3),
            Sec::Source => self.out.map(5),
            _ => {}
        }
    }
    fn entries(&mut self, at: At, n: usize) {
        if at == At::Fired {
            self.out.str("fired");
        }
        self.out.map(n);
    }
    fn entry(&mut self, _: At, key: &str, value: &[u8]) {
        self.out.str(key);
        self.kept(value);
    }
    fn agents(&mut self, n: usize) {
        self.out.map(n);
    }
    fn agent(&mut self, a: &Agent) {
        self.out.str(&a.name);
        self.agent_head(a);
    }
    fn held(&mut self, t: &Token) {
        self.kept_token(t);
    }
    fn agent_end(&mut self, a: &Agent) {
        self.agent_fields(a, true);
    }
    fn locked(&mut self, n: usize) {
        self.out.array(n);
    }
    fn lock(&mut self, zone: &str) {
        self.out.str(zone);
    }
    fn pile(&mut self, p: Pile, n: usize) {
        self.out.str(match p {
            Pile::Stack => "stack",
            Pile::Drawn => "drawn",
            Pile::Discards => "discards",
            Pile::Source => "tokens",
            Pile::Burned => "burned",
        });
        self.out.array(n);
    }
    fn token(&mut self, _: Pile, t: &Token) {
        self.kept_token(t);
    }
    fn source(&mut self, s: &Source) {
        self.out.str("reshufflePolicy");
        self.out.map(2);
        self.out.str("mode");
        self.kept(&s.mode);
        self.out.str("threshold");
        self.kept(&s.threshold);
        self.out.str("seed");
        self.kept(&s.seed);
        self.out.str("stackIds");
        self.out.array(s.stacks.len());
        s.stacks.iter().for_each(|s| self.out.str(&s.id));
    }
    fn transactions(&mut self, n: usize) {
        self.out.array(n);
    }
    fn transaction(&mut self, t: &[u8]) {
        self.kept(t);
    }
    fn zones(&mut self, n: usize) {
        self.out.map(n);
    }
    fn zone(&mut self, name: &str, n: usize) {
        self.out.str(name);
        self.out.array(n);
    }
    fn placement(&mut self, p: &Placement) {
        if p.extra.is_empty() {
            self.plain_placement(p);
            return;
        }
        let mut keys: Vec<&str> = PLACEMENT.to_vec();
        keys.extend(p.extra.keys().map(|k| &**k));
        keys.sort_unstable();
        keys.dedup();
        self.out.map(keys.len());
        for k in keys {
            match p.extra.get(k) {
                None => self.placement_field(p, k),
                Some(v) => {
                    self.out.str(k);
                    self.kept(v);
                }
            }
        }
    }
    fn zones_made(&mut self, made: bool) {
        self.out.bool(made);
    }
    fn agent_order(&mut self, n: usize) {
        self.out.array(n);
    }
    fn agent_name(&mut self, name: &str) {
        self.out.str(name);
    }
    fn reset(&mut self, n: Option<usize>) {
        match n {
            None => self.out.nil(),
            Some(n) => self.out.array(n),
        }
    }
    fn reset_token(&mut self, t: &Token) {
        self.kept_token(t);
    }
    fn source_stacks(&mut self, n: usize, next: u64) {
        self.out.array(n + 1);
        self.out.int(next as i64);
    }
    fn source_stack(&mut self, s: &SourceStack) {
        self.out.array(s.tokens.len() + 2);
        self.out.str(&s.id);
        self.out.bool(s.added);
    }
    fn source_token(&mut self, t: &Token) {
        self.kept_token(t);
    }
}

/// The digest: XXH64 over the canonical state with what it does not show behind it.
pub(crate) fn digest(s: &State) -> u64 {
    let mut hash = xxhash_rust::xxh64::Xxh64::new(0);
    let mut w = StateWriter { canonical: true, ..StateWriter::default() };
    let mut walk = Walk::new(s, true);
    while walk.step(s, &mut w) {
        hash.update(w.out.bytes());
        w.out.truncate(0);
    }
    hash.digest()
}

/// One built-in section as a value.
pub(crate) fn section_bytes(s: &State, sec: Sec) -> Vec<u8> {
    let mut w = StateWriter { bare: true, ..StateWriter::default() };
    let mut walk = Walk::section(sec);
    while walk.step(s, &mut w) {}
    w.out.into_bytes()
}
