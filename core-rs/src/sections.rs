//! The sections of a state as they are kept in memory, and how many logical bytes each part
//! counts.

use crate::sort::sorted_indexes;
use crate::token::Token;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// A map. Its values are kept as the bytes that came. It is sorted by the bytes of its keys.
pub type Map = BTreeMap<Box<str>, Box<[u8]>>;

/// Makes a map of entries. If a key comes twice, its last value counts. The iterator is no type
/// parameter, because each copy of this function takes some 6 KB of the module.
pub(crate) fn map_of_entries(entries: &mut dyn Iterator<Item = (&str, Value<'_>)>) -> Map {
    entries.map(|(k, v)| (k.into(), v.bytes().into())).collect()
}

/// The logical bytes that things count, in addition to the bytes of their values and names. A
/// weight is about the memory that a thing takes, so MaxStateBytes bounds memory, too.
pub(crate) mod weight {
    /// A token in a pile, and a transaction.
    pub const SLOT: u64 = 32;
    /// A token that a reset of the stack or of the setup's source goes back to. Its bytes were
    /// counted when it came.
    pub const RESET: u64 = 8;
    /// An entry of a map, and a lock.
    pub const ENTRY: u64 = 64;
    /// A token in an inventory.
    pub const HELD: u64 = 128;
    /// A zone, and one of a source's stacks.
    pub const ZONE: u64 = 128;
    /// A placement with its token.
    pub const PLACEMENT: u64 = 192;
    pub const AGENT: u64 = 320;
}

/// The piles of tokens that an engine has. The top of a pile is its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pile {
    Stack = 0,
    Drawn = 1,
    Discards = 2,
    Source = 3,
    Burned = 4,
}

impl Pile {
    pub(crate) const ALL: [Pile; 5] = [Pile::Stack, Pile::Drawn, Pile::Discards, Pile::Source, Pile::Burned];
}

/// A map within the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    GameState,
    GameLoop,
    Fired,
    /// The entries of `rules` other than `fired`.
    Rules,
    /// The top-level keys of the state that are no built-in sections.
    Extra,
    /// The map `meta` of the agent with this order.
    Meta(u64),
    /// The map `resources` of the agent with this order.
    Resources(u64),
    /// The further fields of the agent with this order.
    AgentExtra(u64),
}

/// One of the stacks that a source was made from.
#[derive(Clone, Debug)]
pub struct SourceStack {
    pub id: Box<str>,
    /// Whether source:addStack added the stack. If so, its tokens' bytes count here, too: the
    /// stack keeps them, even after they are drawn.
    pub added: bool,
    pub tokens: Rc<[Token]>,
}

/// A source, without its piles.
#[derive(Clone, Debug)]
pub struct Source {
    pub stacks: Vec<SourceStack>,
    /// The number K of the next stack's name, `stack-K`.
    pub next_stack: u64,
    /// The seed as it was given; nil if there is none.
    pub seed: Box<[u8]>,
    /// In mode "auto", the source is reshuffled if a draw leaves this many tokens or fewer; nil
    /// for never.
    pub threshold: Box<[u8]>,
    pub mode: Box<[u8]>,
}

/// A token lying in a zone.
#[derive(Clone, Debug)]
pub struct Placement {
    pub id: Rc<str>,
    pub token: Token,
    pub x: f64,
    pub y: f64,
    pub face_up: bool,
    pub reversed: bool,
    pub ts: f64,
    pub label: Box<[u8]>,
    /// The fields that are kept nowhere else: unknown ones, `tokenId` if it is not the token's id,
    /// and `tags` if they are not empty. Only game:setState writes such fields.
    pub extra: Map,
}

/// A zone. Its placements are sorted by an order, a number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    pub items: BTreeMap<u64, Placement>,
    pub next: u64,
}

/// An agent's tokens in the order in which they came. An index finds a token by its id.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    items: BTreeMap<u64, Token>,
    index: BTreeMap<Rc<str>, SmallOrders>,
    next: u64,
}

type SmallOrders = smallvec::SmallVec<[u64; 2]>;

impl Inventory {
    pub fn len(&self) -> usize {
        self.items.len()
    }
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.items.values()
    }
    pub(crate) fn starting_at(&self, from: u64) -> impl Iterator<Item = (u64, &Token)> {
        self.items.range(from..).map(|(o, t)| (*o, t))
    }
    /// Returns the first token with this id, and its order.
    pub fn find(&self, id: &str) -> Option<(u64, &Token)> {
        let order = *self.index.get(id)?.first()?;
        Some((order, &self.items[&order]))
    }
    pub(crate) fn put(&mut self, order: u64, t: Token) {
        let orders = match self.index.get_mut(t.id()) {
            Some(o) => o,
            None => self.index.entry(t.id().into()).or_default(),
        };
        let at = orders.partition_point(|&o| o < order);
        orders.insert(at, order);
        self.items.insert(order, t);
        self.next = self.next.max(order + 1);
    }
    pub(crate) fn take(&mut self, order: u64) -> Token {
        let t = self.items.remove(&order).expect("the order comes from this inventory");
        let orders = self.index.get_mut(t.id()).expect("every token is indexed");
        orders.retain(|o| *o != order);
        if orders.is_empty() {
            self.index.remove(t.id());
        }
        t
    }
    pub(crate) fn push(&mut self, t: Token) -> u64 {
        self.put(self.next, t);
        self.next - 1
    }
}

/// An agent: a player at the table.
#[derive(Clone, Debug)]
pub struct Agent {
    pub id: Box<str>,
    pub name: Rc<str>,
    pub active: bool,
    pub meta: Map,
    /// The amount of each resource. game:setState may write any value here.
    pub resources: Map,
    pub inventory: Inventory,
    pub extra: Map,
}

/// The agents in the order of their creation. An index finds an agent by its name.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    pub items: BTreeMap<u64, Agent>,
    pub index: BTreeMap<Rc<str>, u64>,
    pub next: u64,
}

impl Agents {
    pub fn push(&mut self, a: Agent) -> u64 {
        let order = self.next;
        self.next += 1;
        self.index.insert(a.name.clone(), order);
        self.items.insert(order, a);
        order
    }
}

/// Agents that are found by their names, to be put into an order.
pub(crate) struct Unordered<'a> {
    /// The names, sorted, and the index of each one's agent.
    names: Vec<(&'a str, u32)>,
    /// The agents. None stands for an agent that was taken.
    agents: Vec<Option<Agent>>,
}

impl<'a> Unordered<'a> {
    /// Returns the agents with their names, which are given in the same order. If a name comes
    /// twice, its last agent counts.
    pub(crate) fn new(names: impl Iterator<Item = &'a str>, agents: Vec<Option<Agent>>) -> Unordered<'a> {
        Unordered { names: sorted_indexes(names), agents }
    }

    /// Takes an agent out; None if there is none of that name.
    pub(crate) fn take(&mut self, name: &str) -> Option<Agent> {
        let at = self.names.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
        self.agents[self.names[at].1 as usize].take()
    }

    /// Returns the agents that were not taken, sorted by name.
    pub(crate) fn rest(mut self) -> impl Iterator<Item = Agent> {
        self.names.into_iter().filter_map(move |(_, i)| self.agents[i as usize].take())
    }
}

/// The place of a placement: its zone, and its order there.
#[derive(Clone, Debug)]
pub struct Spot {
    pub zone: Rc<str>,
    pub order: u64,
}

/// The zones, and an index that finds a placement by its id in any zone.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    /// Whether an action has made the section. Until then, space:clearZone makes no zone.
    pub made: bool,
    pub items: BTreeMap<Rc<str>, Zone>,
    pub index: BTreeMap<Rc<str>, Spot>,
}

#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub fired: Map,
    pub extra: Map,
}

/// The limits of an engine. They are set when the engine is opened, and are stored in its
/// snapshots. They are an input of every action: the same action fails at the same limit in each
/// replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The greatest size of the state, in logical bytes.
    pub max_state: u64,
    /// The greatest size of a result, or of all results of a batch together, in bytes.
    pub max_result: u32,
    /// The greatest depth of a value: how many containers lie within each other.
    pub max_depth: u32,
}

impl Limits {
    /// The greatest value of MaxDepth. It is bounded because a recursive function writes canonical
    /// forms.
    pub const MAX_DEPTH: u32 = 128;
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_state: 256 << 20, max_result: 16 << 20, max_depth: 64 }
    }
}

/// A whole section, for a change that replaces it.
#[derive(Debug)]
pub enum Section {
    Pile(Pile, VecDeque<Token>),
    Source(Option<Box<Source>>),
    Zones(Zones),
    Locked(BTreeSet<Box<str>>),
    Agents(Agents),
    Transactions(Vec<Box<[u8]>>),
    GameState(Map),
    GameLoop(Map),
    Rules(Option<Rules>),
}

pub(crate) fn token_bytes(t: &Token) -> u64 {
    t.bytes().len() as u64 + weight::SLOT
}

pub(crate) fn held_bytes(t: &Token) -> u64 {
    t.bytes().len() as u64 + weight::HELD
}

pub(crate) fn transaction_bytes(t: &[u8]) -> u64 {
    t.len() as u64 + weight::SLOT
}

pub(crate) fn lock_bytes(zone: &str) -> u64 {
    zone.len() as u64 + weight::ENTRY
}

pub(crate) fn map_bytes(m: &Map) -> u64 {
    m.iter().map(|(k, v)| entry_bytes(k, v)).sum()
}

pub(crate) fn entry_bytes(k: &str, v: &[u8]) -> u64 {
    (k.len() + v.len()) as u64 + weight::ENTRY
}

pub(crate) fn placement_bytes(p: &Placement) -> u64 {
    (p.id.len() + p.label.len() + p.token.bytes().len()) as u64 + weight::PLACEMENT + map_bytes(&p.extra)
}

pub(crate) fn zone_bytes(name: &str, z: &Zone) -> u64 {
    name.len() as u64 + weight::ZONE + z.items.values().map(placement_bytes).sum::<u64>()
}

pub(crate) fn agent_bytes(a: &Agent) -> u64 {
    (a.id.len() + a.name.len()) as u64
        + weight::AGENT
        + map_bytes(&a.meta)
        + map_bytes(&a.resources)
        + map_bytes(&a.extra)
        + a.inventory.iter().map(held_bytes).sum::<u64>()
}

pub(crate) fn source_bytes(s: &Source) -> u64 {
    (s.seed.len() + s.threshold.len() + s.mode.len()) as u64 + s.stacks.iter().map(source_stack_bytes).sum::<u64>()
}

pub(crate) fn source_stack_bytes(s: &SourceStack) -> u64 {
    let tokens: u64 = match s.added {
        true => s.tokens.iter().map(token_bytes).sum(),
        false => weight::RESET * s.tokens.len() as u64,
    };
    s.id.len() as u64 + weight::ZONE + tokens
}

pub(crate) fn section_bytes(s: &Section) -> u64 {
    match s {
        Section::Pile(_, p) => p.iter().map(token_bytes).sum(),
        Section::Source(s) => s.as_deref().map_or(0, source_bytes),
        Section::Zones(z) => z.items.iter().map(|(n, z)| zone_bytes(n, z)).sum(),
        Section::Locked(l) => l.iter().map(|z| lock_bytes(z)).sum(),
        Section::Agents(a) => a.items.values().map(agent_bytes).sum(),
        Section::Transactions(t) => t.iter().map(|t| transaction_bytes(t)).sum(),
        Section::GameState(m) | Section::GameLoop(m) => map_bytes(m),
        Section::Rules(r) => r.as_ref().map_or(0, |r| weight::ZONE + map_bytes(&r.fired) + map_bytes(&r.extra)),
    }
}
