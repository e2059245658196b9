//! A walk over the whole state, in steps. A visitor writes what the walk meets, and between two
//! steps the bytes can be sent in chunks.
//!
//! The walk goes through the sections of the state as a map, sorted by the bytes of their keys.
//! Then come the hidden sections, such as the order of the agents and the tokens that resets go
//! back to. They belong to the state, but a caller who asks for the state does not see them.

use crate::sections::{Agent, At, Pile, Placement, Source, SourceStack};
use crate::state::State;
use crate::token::Token;
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;

/// The most tokens, entries or placements of one step.
const RUN: usize = 256;

/// A visitor of a walk. The walk calls the methods in its order. Each call has the name of a
/// section, a length, or an item.
pub(crate) trait Visit {
    fn begin(&mut self, sections: usize);
    /// A section begins. The visitor writes the header of a section that is a map of fixed fields.
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
    // The hidden sections.
    fn zones_made(&mut self, made: bool);
    fn agent_order(&mut self, n: usize);
    fn agent_name(&mut self, name: &str);
    fn reset(&mut self, n: Option<usize>);
    fn reset_token(&mut self, t: &Token);
    fn source_stacks(&mut self, n: usize, next: u64);
    fn source_stack(&mut self, s: &SourceStack);
    fn source_token(&mut self, t: &Token);
}

/// A section of the state. The last three are hidden.
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
    /// The built-in sections, sorted by their keys.
    const ALL: [Sec; 9] = [
        Sec::Agents,
        Sec::GameLoop,
        Sec::GameState,
        Sec::Locked,
        Sec::Rules,
        Sec::Source,
        Sec::Stack,
        Sec::Transactions,
        Sec::Zones,
    ];

    /// Returns the built-in section with a top-level key; None if there is none.
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

/// The position of a walk. The state must not change between two steps.
#[derive(Debug)]
pub(crate) struct Walk {
    sections: Vec<Sec>,
    /// The number of sections that are not hidden.
    shown: usize,
    /// The index of the current section.
    i: usize,
    begun: bool,
    /// The stage within the section. A section that is long has several stages, and a stage may
    /// take several steps. The fields below say how far it is; which of them it uses depends on
    /// the stage.
    stage: usize,
    /// The next index or order.
    at: u64,
    /// The current zone or agent.
    name: Option<Rc<str>>,
    /// The last key.
    key: Option<Box<str>>,
}

impl Walk {
    /// Returns a walk over the state as a map, and, if `hidden` is true, over the hidden sections.
    pub(crate) fn new(s: &State, hidden: bool) -> Walk {
        use Sec::*;
        let mut sections = Vec::with_capacity(Sec::ALL.len() + s.extra.len() + 3);
        let mut extra = s.extra.keys().peekable();
        for sec in Sec::ALL {
            while let Some(key) = extra.next_if(|key| &***key < sec.key()) {
                sections.push(Extra(key.clone()));
            }
            let is_there = match sec {
                Rules => s.rules.is_some(),
                Source => s.source.is_some(),
                Stack => s.stack.is_some(),
                _ => true,
            };
            if is_there {
                sections.push(sec);
            }
        }
        sections.extend(extra.cloned().map(Extra));
        let shown = sections.len();
        if hidden {
            sections.extend([AgentOrder, Reset, SourceStacks]);
        }
        Walk { sections, shown, i: 0, begun: false, stage: 0, at: 0, name: None, key: None }
    }

    /// Returns a walk over one built-in section, without the map around it.
    pub(crate) fn section(sec: Sec) -> Walk {
        Walk { sections: vec![sec], shown: 0, i: 0, begun: true, stage: 0, at: 0, name: None, key: None }
    }

    /// Takes the next step. Returns false if the walk has ended.
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

    /// Takes one step within a section. Returns true if the section has ended.
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
                // `fired` stands between the other keys, in their order. Only game:setState writes
                // others.
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

    /// Takes one step within a map. Stage `base + 1` is its length, stage `base + 2` its entries.
    /// Returns true if the map has ended.
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

    /// Visits a pile's length if `first` is true, else its next tokens. Returns true if the pile
    /// has ended; then the next stage is set.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sections::{Limits, Rules, Section};

    #[test]
    fn the_sections_are_sorted_by_their_keys() {
        let mut s = State::new(Limits::default());
        s.replace(Section::Rules(Some(Rules::default())));
        for key in ["zz", "a", "agent", "agentsX", "rule", "rulesX", "stac", "stack2", "Zone", "é"] {
            s.put(At::Extra, key, [0xc0].into());
        }
        let walk = Walk::new(&s, true);
        let keys: Vec<&str> = walk.sections[..walk.shown].iter().map(Sec::key).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(keys.len(), 10 + 7); // no source, and no stack
        assert!(keys.contains(&"rules") && !keys.contains(&"stack"));
    }
}
