//! Writes the state as a map: for callers, and in canonical form for the digest.

use crate::sections::{Agent, At, Pile, Placement, Source, SourceStack};
use crate::sort::sort_names;
use crate::state::State;
use crate::token::Token;
use crate::value::Value;
use crate::walk::{Sec, Visit, Walk};
use crate::write::{Writer, canonical};

/// A visitor that writes the state as a map. If the walk goes over the hidden sections, they
/// follow the map.
#[derive(Debug, Default)]
pub(crate) struct StateWriter {
    pub(crate) out: Writer,
    /// Whether values are written in canonical form.
    pub(crate) canonical: bool,
    /// Whether sections are written without their keys.
    pub(crate) bare: bool,
}

impl StateWriter {
    fn put_value(&mut self, b: &[u8]) {
        if let [0xc0] = b {
            return self.out.nil();
        }
        if self.canonical { canonical(Value::trusted(b), &mut self.out) } else { self.out.raw(b) }
    }
    fn put_token(&mut self, t: &Token) {
        if self.canonical { t.canonical(&mut self.out) } else { self.out.raw(t.bytes()) }
    }
    fn put_map<'a>(&mut self, n: usize, m: impl Iterator<Item = (&'a str, &'a [u8])>) {
        self.out.map(n);
        for (k, v) in m {
            self.out.str(k);
            self.put_value(v);
        }
    }
    fn put_entries_of(&mut self, m: &crate::sections::Map) {
        self.put_map(m.len(), m.iter().map(|(k, v)| (&**k, &**v)));
    }

    /// Writes the fields of an agent that come before its inventory, or, if `behind` is true,
    /// after it.
    fn agent_fields(&mut self, a: &Agent, behind: bool) {
        let own: &[&str] = if behind { &["meta", "name", "resources"] } else { &["active", "id"] };
        let extra = a.extra.keys().map(|k| &**k).filter(|k| (*k > "inventory") == behind);
        let mut keys: Vec<(&str, u32)> = extra.chain(own.iter().copied()).map(|k| (k, 0)).collect();
        sort_names(&mut keys);
        for (k, _) in keys {
            self.out.str(k);
            match k {
                "active" => self.out.bool(a.active),
                "id" => self.out.str(&a.id),
                "meta" => self.put_entries_of(&a.meta),
                "name" => self.out.str(&a.name),
                "resources" => self.put_entries_of(&a.resources),
                _ => self.put_value(&a.extra[k]),
            }
        }
    }

    fn agent_head(&mut self, a: &Agent) {
        self.out.map(6 + a.extra.len());
        self.agent_fields(a, false);
        self.out.str("inventory");
        self.out.array(a.inventory.len());
    }

    /// Writes a placement without further fields, as almost all are.
    fn plain_placement(&mut self, p: &Placement) {
        self.out.map(PLACEMENT.len());
        self.out.key("faceUp");
        self.out.bool(p.face_up);
        self.out.key("id");
        self.out.str(&p.id);
        self.out.key("label");
        self.put_value(&p.label);
        self.out.key("reversed");
        self.out.bool(p.reversed);
        self.out.key("tags");
        self.out.array(0);
        self.out.key("tokenId");
        self.out.str(p.token.id());
        self.out.key("tokenSnapshot");
        self.put_token(&p.token);
        self.out.key("ts");
        self.out.num(p.ts);
        self.out.key("x");
        self.out.num(p.x);
        self.out.key("y");
        self.out.num(p.y);
    }

    /// Writes one of a placement's own fields.
    fn placement_field(&mut self, p: &Placement, key: &str) {
        self.out.str(key);
        match key {
            "faceUp" => self.out.bool(p.face_up),
            "id" => self.out.str(&p.id),
            "label" => self.put_value(&p.label),
            "reversed" => self.out.bool(p.reversed),
            "tags" => self.out.array(0),
            "tokenId" => self.out.str(p.token.id()),
            "tokenSnapshot" => self.put_token(&p.token),
            "ts" => self.out.num(p.ts),
            "x" => self.out.num(p.x),
            _ => self.out.num(p.y),
        }
    }

    /// Writes a whole agent.
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
        self.put_value(value);
    }
    fn agents(&mut self, n: usize) {
        self.out.map(n);
    }
    fn agent(&mut self, a: &Agent) {
        self.out.str(&a.name);
        self.agent_head(a);
    }
    fn held(&mut self, t: &Token) {
        self.put_token(t);
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
        self.put_token(t);
    }
    fn source(&mut self, s: &Source) {
        self.out.str("reshufflePolicy");
        self.out.map(2);
        self.out.str("mode");
        self.put_value(&s.mode);
        self.out.str("threshold");
        self.put_value(&s.threshold);
        self.out.str("seed");
        self.put_value(&s.seed);
        self.out.str("stackIds");
        self.out.array(s.stacks.len());
        s.stacks.iter().for_each(|s| self.out.str(&s.id));
    }
    fn transactions(&mut self, n: usize) {
        self.out.array(n);
    }
    fn transaction(&mut self, t: &[u8]) {
        self.put_value(t);
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
        let extra = p.extra.keys().map(|k| &**k);
        let mut keys: Vec<(&str, u32)> = extra.chain(PLACEMENT).map(|k| (k, 0)).collect();
        sort_names(&mut keys);
        keys.dedup();
        self.out.map(keys.len());
        for (k, _) in keys {
            match p.extra.get(k) {
                None => self.placement_field(p, k),
                Some(v) => {
                    self.out.str(k);
                    self.put_value(v);
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
        self.put_token(t);
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
        self.put_token(t);
    }
}

/// Returns the digest: the XXH64 of the canonical form of the state, with the hidden sections
/// after it.
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

/// Returns one built-in section as a value.
pub(crate) fn section_bytes(s: &State, sec: Sec) -> Vec<u8> {
    let mut w = StateWriter { bare: true, ..StateWriter::default() };
    let mut walk = Walk::section(sec);
    while walk.step(s, &mut w) {}
    w.out.into_bytes()
}
