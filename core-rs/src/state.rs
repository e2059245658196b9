//! The state of one engine: its sections, and all methods that change them.
//!
//! Each method of [`State`] that changes something writes the inverse of the change into the undo
//! log. So an action that fails at any point leaves the state as it was, and no copy of a state is
//! needed.

use crate::error::{Error, Result, code};
use crate::rng::Rng;
use crate::sections::*;
use crate::token::Token;
use crate::undo::Undo;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// The state of one engine.
#[derive(Debug)]
pub struct State {
    pub limits: Limits,
    pub(crate) piles: [VecDeque<Token>; 5],
    /// The tokens that stack:reset goes back to; None if no stack is attached.
    pub(crate) stack: Option<Rc<[Token]>>,
    pub(crate) source: Option<Box<Source>>,
    pub(crate) zones: Zones,
    pub(crate) locked: BTreeSet<Box<str>>,
    pub(crate) agents: Agents,
    pub(crate) transactions: Vec<Box<[u8]>>,
    pub(crate) game_state: Map,
    pub(crate) game_loop: Map,
    pub(crate) rules: Option<Rules>,
    pub(crate) extra: Map,
    /// The logical bytes; see [`State::logical_bytes`].
    pub(crate) bytes: u64,
    pub(crate) undo: Vec<Undo>,
}

/// A point that [`State::rollback`] can go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    undo: usize,
    bytes: u64,
}

impl State {
    /// Returns an empty state, without a stack and without a source.
    pub fn new(limits: Limits) -> State {
        let mut s = State {
            limits,
            piles: Default::default(),
            stack: None,
            source: None,
            zones: Zones::default(),
            locked: BTreeSet::new(),
            agents: Agents::default(),
            transactions: Vec::new(),
            game_state: Map::new(),
            game_loop: Map::new(),
            rules: None,
            extra: Map::new(),
            bytes: 0,
            undo: Vec::new(),
        };
        let number = |i: i64| {
            let mut w = crate::write::Writer::default();
            w.num(i as f64);
            w.into_bytes()
        };
        for (k, v) in [
            ("activeAgentIndex", number(-1)),
            ("maxTurns", number(100)),
            ("phase", b"\xa5setup".to_vec()),
            ("running", vec![0xc2]),
            ("turn", number(0)),
        ] {
            s.bytes += entry_bytes(k, &v);
            s.game_loop.insert(k.into(), v.into());
        }
        s
    }

    /// Returns the logical bytes of the state, which MaxStateBytes bounds. They are the bytes of
    /// every value and name, counted at each place that holds it, and a weight for each thing, as
    /// ABI.md lists them. They depend on the state alone, so a restored engine has the same
    /// number.
    pub fn logical_bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the current point, for [`State::rollback`].
    pub fn mark(&self) -> Mark {
        Mark { undo: self.undo.len(), bytes: self.bytes }
    }

    /// Takes back every change since the mark.
    pub fn rollback(&mut self, m: Mark) {
        while self.undo.len() > m.undo {
            let u = self.undo.pop().expect("longer than the mark");
            u.apply(self);
        }
        self.bytes = m.bytes;
    }

    /// Empties the undo log: all changes so far are permanent.
    pub fn commit(&mut self) {
        self.undo.clear();
        if self.undo.capacity() > 1024 {
            self.undo.shrink_to(64);
        }
    }

    /// Whether anything has changed since the mark.
    pub fn changed_since(&self, m: Mark) -> bool {
        self.undo.len() > m.undo
    }

    /// Fails if the state has more logical bytes than MaxStateBytes.
    pub fn check_size(&self) -> Result {
        if self.bytes > self.limits.max_state {
            return Err(Error::too_large(format!(
                "the state would hold {} logical bytes, {} are allowed (MaxStateBytes)",
                self.bytes, self.limits.max_state
            )));
        }
        Ok(())
    }

    // Piles

    pub fn pile(&self, p: Pile) -> &VecDeque<Token> {
        &self.piles[p as usize]
    }

    fn pile_mut(&mut self, p: Pile) -> &mut VecDeque<Token> {
        &mut self.piles[p as usize]
    }

    /// Attaches a stack. A reset of the stack goes back to `tokens`. The caller puts the tokens
    /// that are on the stack now into [`Pile::Stack`]. This can't be taken back, so it is only for
    /// an engine that is being opened.
    pub(crate) fn attach_stack(&mut self, tokens: Vec<Token>) {
        self.bytes += weight::RESET * tokens.len() as u64;
        self.stack = Some(tokens.into());
    }

    /// Attaches a source. This can't be taken back, so it is only for an engine that is being
    /// opened.
    pub(crate) fn attach_source(&mut self, s: Source) {
        self.bytes += source_bytes(&s);
        self.source = Some(Box::new(s));
    }

    /// Returns the tokens that a reset of the stack goes back to. Fails if no stack is attached.
    pub fn need_stack(&self) -> Result<&Rc<[Token]>> {
        self.stack.as_ref().ok_or_else(|| Error::not_found("no stack is attached to this engine (setup.stack)"))
    }

    /// Returns the source. Fails if none is attached.
    pub fn need_source(&self) -> Result<&Source> {
        self.source.as_deref().ok_or_else(|| Error::not_found("no source is attached to this engine (setup.source)"))
    }

    /// Puts a token on top of a pile.
    pub fn push(&mut self, p: Pile, t: Token) {
        self.insert(p, self.pile(p).len(), t);
    }

    /// Puts a token into a pile at an index, which is at most the pile's length.
    pub fn insert(&mut self, p: Pile, i: usize, t: Token) {
        self.bytes += token_bytes(&t);
        self.pile_mut(p).insert(i, t);
        self.undo.push(Undo::Insert(p, i));
    }

    /// Takes the token at an index out of a pile. The caller has checked the index.
    pub fn remove(&mut self, p: Pile, i: usize) -> Token {
        let t = self.pile_mut(p).remove(i).expect("the caller checked the index");
        self.bytes -= token_bytes(&t);
        self.undo.push(Undo::Remove(p, i, t.clone()));
        t
    }

    /// Moves the top `n` tokens from one pile to another. They keep their order.
    pub fn move_top(&mut self, from: Pile, to: Pile, n: usize) {
        if n > 0 {
            self.move_top_raw(from, to, n);
            self.undo.push(Undo::MoveTop { from: to, to: from, n });
        }
    }

    pub(crate) fn move_top_raw(&mut self, from: Pile, to: Pile, n: usize) {
        let [a, b] = self.piles.get_disjoint_mut([from as usize, to as usize]).expect("two different piles");
        let at = a.len() - n;
        b.extend(a.drain(at..));
    }

    pub fn swap(&mut self, p: Pile, i: usize, j: usize) {
        if i != j {
            self.pile_mut(p).swap(i, j);
            self.undo.push(Undo::Swap(p, i, j));
        }
    }

    /// Puts the lowest `n` tokens of a pile on top. They keep their order.
    pub fn rotate(&mut self, p: Pile, n: usize) {
        let len = self.pile(p).len();
        if n > 0 && n < len {
            self.pile_mut(p).rotate_left(n);
            self.undo.push(Undo::Rotate(p, len - n));
        }
    }

    pub fn reverse(&mut self, p: Pile) {
        self.pile_mut(p).make_contiguous().reverse();
        self.undo.push(Undo::Reverse(p));
    }

    pub fn shuffle(&mut self, p: Pile, rng: Rng) {
        if self.pile(p).len() > 1 {
            self.undo.push(Undo::Shuffle(p, rng.clone()));
            shuffle(self.pile_mut(p).make_contiguous(), rng);
        }
    }

    // Whole sections

    /// Replaces a whole section.
    pub fn replace(&mut self, s: Section) {
        self.bytes += section_bytes(&s);
        let old = self.swap_section(s);
        self.bytes -= section_bytes(&old);
        self.undo.push(Undo::Section(Box::new(old)));
    }

    pub(crate) fn swap_section(&mut self, s: Section) -> Section {
        use std::mem::replace;
        match s {
            Section::Pile(p, v) => Section::Pile(p, replace(self.pile_mut(p), v)),
            Section::Source(v) => Section::Source(replace(&mut self.source, v)),
            Section::Zones(v) => Section::Zones(replace(&mut self.zones, v)),
            Section::Locked(v) => Section::Locked(replace(&mut self.locked, v)),
            Section::Agents(v) => Section::Agents(replace(&mut self.agents, v)),
            Section::Transactions(v) => Section::Transactions(replace(&mut self.transactions, v)),
            Section::GameState(v) => Section::GameState(replace(&mut self.game_state, v)),
            Section::GameLoop(v) => Section::GameLoop(replace(&mut self.game_loop, v)),
            Section::Rules(v) => Section::Rules(replace(&mut self.rules, v)),
        }
    }

    // The source, without its piles

    /// Changes the seed that the source shuffles with.
    pub fn set_source_seed(&mut self, seed: Box<[u8]>) {
        if let Some(s) = &mut self.source {
            self.bytes += seed.len() as u64;
            let old = std::mem::replace(&mut s.seed, seed);
            self.bytes -= old.len() as u64;
            self.undo.push(Undo::SourceSeed(old));
        }
    }

    /// Adds a stack to those that the source was made from. Its name is the next `stack-K`.
    pub fn add_source_stack(&mut self, tokens: Rc<[Token]>) {
        if let Some(s) = &mut self.source {
            let stack = SourceStack { id: format!("stack-{}", s.next_stack).into(), added: true, tokens };
            s.next_stack += 1;
            self.bytes += source_stack_bytes(&stack);
            s.stacks.push(stack);
            self.undo.push(Undo::SourceStackPop);
        }
    }

    /// Removes the stack with index `i` from those that the source was made from.
    pub fn remove_source_stack(&mut self, i: usize) {
        if let Some(s) = &mut self.source {
            let stack = s.stacks.remove(i);
            self.bytes -= source_stack_bytes(&stack);
            self.undo.push(Undo::SourceStackInsert(i, stack));
        }
    }

    // Zones

    /// Returns the zones and their names, sorted by name.
    pub fn zones(&self) -> impl Iterator<Item = (&str, &Zone)> {
        self.zones.items.iter().map(|(n, z)| (&**n, z))
    }

    pub fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.items.get(name)
    }

    pub fn is_locked(&self, zone: &str) -> bool {
        self.locked.contains(zone)
    }

    /// Makes the section of zones and locks, unless it exists.
    pub fn make_zones(&mut self) {
        if !self.zones.made {
            self.zones.made = true;
            self.undo.push(Undo::ZonesMade);
        }
    }

    /// Makes a zone. Returns false if it existed.
    pub fn create_zone(&mut self, name: &str) -> bool {
        if self.zones.items.contains_key(name) {
            return false;
        }
        self.make_zones();
        let name: Rc<str> = name.into();
        self.bytes += zone_bytes(&name, &Zone::default());
        self.zones.items.insert(name.clone(), Zone::default());
        self.undo.push(Undo::ZoneRemove(name));
        true
    }

    /// Removes a zone with all its placements. Does nothing if there is no such zone.
    pub fn delete_zone(&mut self, name: &str) {
        if let Some((name, zone)) = self.zones.items.remove_entry(name) {
            self.bytes -= zone_bytes(&name, &zone);
            for p in zone.items.values() {
                self.zones.index.remove(&p.id);
            }
            self.undo.push(Undo::ZoneInsert(name, zone));
        }
    }

    pub(crate) fn insert_zone_raw(&mut self, name: Rc<str>, zone: Zone) {
        for (order, p) in &zone.items {
            self.zones.index.insert(p.id.clone(), Spot { zone: name.clone(), order: *order });
        }
        self.zones.items.insert(name, zone);
    }

    pub fn lock(&mut self, zone: &str, locked: bool) {
        self.make_zones();
        let changed = if locked { self.locked.insert(zone.into()) } else { self.locked.remove(zone) };
        if changed {
            let n = lock_bytes(zone);
            self.bytes = if locked { self.bytes + n } else { self.bytes - n };
            self.undo.push(Undo::Lock(zone.into(), !locked));
        }
    }

    /// Returns the placement with this id, and its order; None if it is not in this zone.
    pub fn placement(&self, zone: &str, id: &str) -> Option<(u64, &Placement)> {
        let spot = self.zones.index.get(id).filter(|s| &*s.zone == zone)?;
        Some((spot.order, self.zones.items.get(zone)?.items.get(&spot.order)?))
    }

    /// Returns whether any zone has a placement with this id.
    pub fn has_placement(&self, id: &str) -> bool {
        self.zones.index.contains_key(id)
    }

    /// Puts a placement at the end of a zone. The zone must exist.
    pub fn place(&mut self, zone: &str, p: Placement) {
        let (name, z) = self.zones.items.get_key_value(zone).expect("the caller made the zone");
        let (name, order) = (name.clone(), z.next);
        self.bytes += placement_bytes(&p);
        let id = p.id.clone();
        self.put_placement_raw(&name, order, p);
        self.undo.push(Undo::PlacementRemove(id));
    }

    pub(crate) fn put_placement_raw(&mut self, zone: &Rc<str>, order: u64, p: Placement) {
        self.zones.index.insert(p.id.clone(), Spot { zone: zone.clone(), order });
        let z = self.zones.items.get_mut(zone).expect("a placement has a zone");
        z.items.insert(order, p);
        z.next = z.next.max(order + 1);
    }

    pub(crate) fn take_placement_raw(&mut self, id: &str) -> (Spot, Placement) {
        let spot = self.zones.index.remove(id).expect("the caller found it");
        let z = self.zones.items.get_mut(&spot.zone).expect("the index names zones that exist");
        let p = z.items.remove(&spot.order).expect("the index names placements that exist");
        (spot, p)
    }

    /// Takes a placement out of its zone. The placement must exist.
    pub fn unplace(&mut self, id: &str) -> Placement {
        let (spot, p) = self.take_placement_raw(id);
        self.bytes -= placement_bytes(&p);
        self.undo.push(Undo::PlacementInsert(spot, p.clone()));
        p
    }

    /// Changes the position of a placement within its zone, and which face it shows.
    pub fn set_placement(&mut self, zone: &str, order: u64, x: f64, y: f64, face_up: bool) {
        if let Some((name, p)) = self.placement_mut(zone, order)
            && (p.x, p.y, p.face_up) != (x, y, face_up)
        {
            let old = Undo::PlacementSet { zone: name, order, x: p.x, y: p.y, face_up: p.face_up };
            (p.x, p.y, p.face_up) = (x, y, face_up);
            self.undo.push(old);
        }
    }

    pub(crate) fn placement_mut(&mut self, zone: &str, order: u64) -> Option<(Rc<str>, &mut Placement)> {
        let name = self.zones.items.get_key_value(zone)?.0.clone();
        let p = self.zones.items.get_mut(zone)?.items.get_mut(&order)?;
        Some((name, p))
    }

    /// Shuffles the placements of a zone, if the zone exists.
    pub fn shuffle_zone(&mut self, zone: &str, rng: Rng) {
        self.make_zones();
        if self.zone(zone).is_some_and(|z| z.items.len() > 1) {
            self.undo.push(Undo::ShuffleZone(zone.into(), rng.clone()));
            self.permute_zone(zone, |v| shuffle(v, rng));
        }
    }

    /// Permutes the placements of a zone as `f` permutes a list of numbers.
    pub(crate) fn permute_zone(&mut self, zone: &str, f: impl FnOnce(&mut [u32])) {
        let z = self.zones.items.get_mut(zone).expect("the caller checked the zone");
        let mut items: Vec<&mut Placement> = z.items.values_mut().collect();
        let mut from: Vec<u32> = (0..items.len() as u32).collect();
        f(&mut from);
        // The place i gets the placement of the place from[i]. The places that hand theirs on to
        // each other form rings, and each ring is gone through once.
        for start in 0..from.len() {
            let mut to = start;
            loop {
                let source = std::mem::replace(&mut from[to], to as u32) as usize;
                if source == start {
                    break;
                }
                let [a, b] = items.get_disjoint_mut([to, source]).expect("two places of a ring");
                std::mem::swap(*a, *b);
                to = source;
            }
        }
        for (order, p) in &z.items {
            if let Some(spot) = self.zones.index.get_mut(&p.id) {
                spot.order = *order;
            }
        }
    }

    // Agents

    /// Returns the order of an agent. Fails if there is no agent of that name.
    pub fn agent_order(&self, name: &str) -> Result<u64> {
        self.agents
            .index
            .get(name)
            .copied()
            .ok_or_else(|| Error::not_found(format!("there is no agent {:?}", crate::error::clip(name))))
    }

    pub fn agent(&self, order: u64) -> &Agent {
        &self.agents.items[&order]
    }

    pub(crate) fn agent_mut(&mut self, order: u64) -> &mut Agent {
        self.agents.items.get_mut(&order).expect("the order comes from this state")
    }

    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.items.values()
    }

    /// Adds an agent, and returns its order. The agent's name must not be taken.
    pub fn add_agent(&mut self, a: Agent) -> u64 {
        self.bytes += agent_bytes(&a);
        let order = self.agents.push(a);
        self.undo.push(Undo::AgentRemove(order));
        order
    }

    pub fn remove_agent(&mut self, order: u64) {
        if let Some(a) = self.agents.items.remove(&order) {
            self.agents.index.remove(&a.name);
            self.bytes -= agent_bytes(&a);
            self.undo.push(Undo::AgentInsert(order, Box::new(a)));
        }
    }

    pub fn set_active(&mut self, order: u64, active: bool) {
        let a = self.agent_mut(order);
        if a.active != active {
            a.active = active;
            self.undo.push(Undo::Active(order, !active));
        }
    }

    /// Puts a token at the end of an agent's inventory.
    pub fn give_token(&mut self, agent: u64, t: Token) {
        self.bytes += held_bytes(&t);
        let order = self.agent_mut(agent).inventory.push(t);
        self.undo.push(Undo::TokenTake(agent, order));
    }

    /// Takes the first token with this id out of an agent's inventory; None if there is none.
    pub fn take_token(&mut self, agent: u64, id: &str) -> Option<Token> {
        let order = self.agent(agent).inventory.find(id)?.0;
        let t = self.agent_mut(agent).inventory.take(order);
        self.bytes -= held_bytes(&t);
        self.undo.push(Undo::TokenPut(agent, order, t.clone()));
        Some(t)
    }

    // Maps and transactions

    pub fn map(&self, at: At) -> &Map {
        match at {
            At::GameState => &self.game_state,
            At::GameLoop => &self.game_loop,
            At::Extra => &self.extra,
            At::Fired => self.rules.as_ref().map_or(const { &Map::new() }, |r| &r.fired),
            At::Rules => self.rules.as_ref().map_or(const { &Map::new() }, |r| &r.extra),
            At::Meta(a) => &self.agent(a).meta,
            At::Resources(a) => &self.agent(a).resources,
            At::AgentExtra(a) => &self.agent(a).extra,
        }
    }

    pub(crate) fn map_mut(&mut self, at: At) -> &mut Map {
        match at {
            At::GameState => &mut self.game_state,
            At::GameLoop => &mut self.game_loop,
            At::Extra => &mut self.extra,
            At::Fired => &mut self.rules.get_or_insert_default().fired,
            At::Rules => &mut self.rules.get_or_insert_default().extra,
            At::Meta(a) => &mut self.agent_mut(a).meta,
            At::Resources(a) => &mut self.agent_mut(a).resources,
            At::AgentExtra(a) => &mut self.agent_mut(a).extra,
        }
    }

    /// Sets an entry of a map to a value's bytes. For At::Fired and At::Rules, the caller has
    /// checked that the state has rules.
    pub fn set(&mut self, at: At, key: &str, value: &[u8]) {
        if self.map(at).get(key).is_none_or(|old| &**old != value) {
            self.replace_entry(at, key, value.into());
        }
    }

    /// Does the same as [`State::set`], with bytes that need no copy.
    pub(crate) fn put(&mut self, at: At, key: &str, value: Box<[u8]>) {
        if self.map(at).get(key).is_none_or(|old| *old != value) {
            self.replace_entry(at, key, value);
        }
    }

    fn replace_entry(&mut self, at: At, key: &str, value: Box<[u8]>) {
        self.bytes += entry_bytes(key, &value);
        let m = self.map_mut(at);
        let old = match m.get_mut(key) {
            Some(v) => Some(std::mem::replace(v, value)),
            None => m.insert(key.into(), value),
        };
        self.bytes -= old.as_ref().map_or(0, |o| entry_bytes(key, o));
        self.undo.push(Undo::Entry(at, key.into(), old));
    }

    pub fn transactions(&self) -> &[Box<[u8]>] {
        &self.transactions
    }

    pub fn add_transaction(&mut self, t: Box<[u8]>) {
        self.bytes += transaction_bytes(&t);
        self.transactions.push(t);
        self.undo.push(Undo::TransactionPop);
    }

    /// Fails with [`code::EXISTS`] if an agent has this name.
    pub fn need_free_name(&self, name: &str) -> Result {
        match self.agents.index.contains_key(name) {
            false => Ok(()),
            true => Err(Error::new(code::EXISTS, format!("an agent {:?} exists", crate::error::clip(name)))),
        }
    }
}

/// Shuffles items: Fisher-Yates, from the last item down.
pub fn shuffle<T>(v: &mut [T], rng: Rng) {
    for (i, j) in rng.swaps(v.len()) {
        v.swap(i, j);
    }
}

/// Takes back a [`shuffle`] with the same generator.
pub(crate) fn unshuffle<T>(v: &mut [T], rng: Rng) {
    let swaps: Vec<_> = rng.swaps(v.len()).collect();
    for (i, j) in swaps.into_iter().rev() {
        v.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn zone_of(n: u64) -> State {
        let mut s = State::new(Limits::default());
        s.create_zone("z");
        for i in 0..n {
            let token = Token::new(Value::trusted(b"\x81\xa2id\xa1t"), "token").unwrap();
            let id = format!("p{i}").as_str().into();
            let (x, label) = (i as f64, [0xc0].into());
            let extra = Map::new();
            s.place("z", Placement { id, token, x, y: 0.0, face_up: true, reversed: false, ts: 0.0, label, extra });
        }
        s
    }

    fn ids(s: &State) -> Vec<(u64, String)> {
        let z = s.zone("z").unwrap();
        z.items.iter().map(|(order, p)| (*order, p.id.to_string())).collect()
    }

    #[test]
    fn a_zone_is_permuted_as_a_list_is() {
        for n in 0..40 {
            let mut s = zone_of(n);
            if n > 3 {
                s.unplace("p1"); // the orders have a gap
            }
            let before = ids(&s);
            let rng = || Rng::from_number(n as f64);
            let mut names: Vec<String> = before.iter().map(|(_, id)| id.clone()).collect();
            shuffle(&mut names, rng());
            let mark = s.mark();
            s.shuffle_zone("z", rng());
            let orders = before.iter().map(|(order, _)| *order);
            assert_eq!(ids(&s), orders.zip(names).collect::<Vec<_>>());
            for (order, id) in ids(&s) {
                assert_eq!(s.placement("z", &id).map(|(o, p)| (o, p.id.to_string())), Some((order, id)));
            }
            s.rollback(mark);
            assert_eq!(ids(&s), before);
            for (order, id) in before {
                assert_eq!(s.placement("z", &id).map(|(o, _)| o), Some(order));
            }
        }
    }
}
