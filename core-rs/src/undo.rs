//! The undo log. Each variant of `Undo` is the inverse of one method of `State` that changes the
//! state.

use crate::rng::Rng;
use crate::sections::{Agent, At, Pile, Placement, Section, SourceStack, Spot, Zone};
use crate::state::{State, unshuffle};
use crate::token::Token;
use std::rc::Rc;

#[derive(Debug)]
pub(crate) enum Undo {
    Insert(Pile, usize),
    Remove(Pile, usize, Token),
    MoveTop { from: Pile, to: Pile, n: usize },
    Swap(Pile, usize, usize),
    Rotate(Pile, usize),
    Reverse(Pile),
    Shuffle(Pile, Rng),
    Section(Box<Section>),
    SourceSeed(Box<[u8]>),
    SourceStackPop,
    SourceStackInsert(usize, SourceStack),
    ZonesMade,
    ZoneRemove(Rc<str>),
    ZoneInsert(Rc<str>, Zone),
    Lock(Box<str>, bool),
    PlacementRemove(Rc<str>),
    PlacementInsert(Spot, Placement),
    PlacementSet { zone: Rc<str>, order: u64, x: f64, y: f64, face_up: bool },
    ShuffleZone(Box<str>, Rng),
    AgentRemove(u64),
    AgentInsert(u64, Box<Agent>),
    Active(u64, bool),
    TokenTake(u64, u64),
    TokenPut(u64, u64, Token),
    Entry(At, Box<str>, Option<Box<[u8]>>),
    TransactionPop,
}

impl Undo {
    /// Takes one change back. It does not set the logical bytes: a rollback sets them for all
    /// changes at once.
    pub(crate) fn apply(self, s: &mut State) {
        match self {
            Undo::Insert(p, i) => drop(s.piles[p as usize].remove(i)),
            Undo::Remove(p, i, t) => s.piles[p as usize].insert(i, t),
            Undo::MoveTop { from, to, n } => s.move_top_raw(from, to, n),
            Undo::Swap(p, i, j) => s.piles[p as usize].swap(i, j),
            Undo::Rotate(p, n) => s.piles[p as usize].rotate_left(n),
            Undo::Reverse(p) => s.piles[p as usize].make_contiguous().reverse(),
            Undo::Shuffle(p, rng) => unshuffle(s.piles[p as usize].make_contiguous(), rng),
            Undo::Section(old) => drop(s.swap_section(*old)),
            Undo::SourceSeed(old) => s.source.iter_mut().for_each(|x| x.seed = old.clone()),
            Undo::SourceStackPop => s.source.iter_mut().for_each(|x| {
                x.stacks.pop();
                x.next_stack -= 1;
            }),
            Undo::SourceStackInsert(i, old) => s.source.iter_mut().for_each(|x| x.stacks.insert(i, old.clone())),
            Undo::ZonesMade => s.zones.made = false,
            Undo::ZoneRemove(name) => drop(s.zones.items.remove(&name)),
            Undo::ZoneInsert(name, zone) => s.insert_zone_raw(name, zone),
            Undo::Lock(zone, true) => drop(s.locked.insert(zone)),
            Undo::Lock(zone, false) => drop(s.locked.remove(&zone)),
            Undo::PlacementRemove(id) => drop(s.take_placement_raw(&id)),
            Undo::PlacementInsert(spot, p) => s.put_placement_raw(&spot.zone, spot.order, p),
            Undo::PlacementSet { zone, order, x, y, face_up } => {
                if let Some((_, p)) = s.placement_mut(&zone, order) {
                    (p.x, p.y, p.face_up) = (x, y, face_up);
                }
            }
            Undo::ShuffleZone(zone, rng) => s.permute_zone(&zone, |v| unshuffle(v, rng)),
            Undo::AgentRemove(order) => {
                if let Some(a) = s.agents.items.remove(&order) {
                    s.agents.index.remove(&a.name);
                }
            }
            Undo::AgentInsert(order, a) => {
                s.agents.index.insert(a.name.clone(), order);
                s.agents.items.insert(order, *a);
            }
            Undo::Active(order, active) => s.agent_mut(order).active = active,
            Undo::TokenTake(agent, order) => drop(s.agent_mut(agent).inventory.take(order)),
            Undo::TokenPut(agent, order, t) => s.agent_mut(agent).inventory.put(order, t),
            Undo::Entry(at, key, Some(old)) => drop(s.map_mut(at).insert(key, old)),
            Undo::Entry(at, key, None) => drop(s.map_mut(at).remove(&key)),
            Undo::TransactionPop => drop(s.transactions.pop()),
        }
    }
}
