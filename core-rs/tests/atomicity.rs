//! Random runs of valid and invalid actions of every family. An action that fails has no effect. A
//! batch has the effects of its members. An engine restored from a snapshot is the same engine.
//! The same inputs give the same bytes.

mod support;

use hypertoken_core::abi::{CHUNK, Op};
use hypertoken_core::{Action, Field, Kind, Limits, Need, Registry};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use support::{Answer, Dice, Host, NOW, batch, check, pack, placement, request, rich, rich_setup};

/// The start of a run.
#[derive(Clone, Copy, Debug)]
enum Start {
    Rich,
    /// A stack and a source, nothing else.
    Dealt,
    /// Nothing at all.
    Empty,
}

impl Start {
    fn open(self) -> Host {
        match self {
            Start::Rich => rich(),
            Start::Dealt => Host::standard(&rich_setup()),
            Start::Empty => Host::standard(&json!({})),
        }
    }
}

/// A run: its start, and the choices that make each action.
#[derive(Clone, Debug)]
struct Run {
    start: Start,
    steps: Vec<Vec<u16>>,
}

fn runs(most: usize) -> impl Strategy<Value = Run> {
    let start = prop_oneof![7 => Just(Start::Rich), 2 => Just(Start::Dealt), 1 => Just(Start::Empty)];
    let steps = prop::collection::vec(prop::collection::vec(any::<u16>(), 24), 0..most);
    (start, steps).prop_map(|(start, steps)| Run { start, steps })
}

/// One action of a run, as it is sent, and its answer when the run was made.
#[derive(Debug)]
struct Sent {
    member: Vec<u8>,
    answer: Answer,
    /// For the message of a failing test.
    what: String,
}

impl Run {
    /// Makes the actions, by running them: a payload may name the placements that earlier ones
    /// made.
    fn make(&self) -> Vec<Sent> {
        let registry = Registry::builtin();
        let actions: Vec<&Action> = registry.iter().collect();
        let mut h = self.start.open();
        let step = |rolls: &Vec<u16>| {
            let mut dice = Dice::new(rolls);
            // game:setState reaches every section, in more ways than other actions.
            let action = if dice.chance(12) { registry.get("game:setState").unwrap() } else { dice.of(&actions) };
            let payload = payload(&mut dice, &mut h, action);
            let entropy = [dice.roll(1 << 16) as u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
            let now = NOW + dice.roll(1000) as i64;
            let member = request(now, &entropy, action.name, &pack(&payload));
            let answer = h.raw(Op::Dispatch as u32, &member);
            Sent { member, answer, what: format!("{} {payload}", action.name) }
        };
        self.steps.iter().map(step).collect()
    }
}

fn told(run: &[Sent]) -> String {
    run.iter().map(|s| format!("\n  {}{}", if s.answer.ok { "" } else { "fails: " }, s.what)).collect()
}

const AGENTS: &[&str] = &["ann", "bob", "ann", "bob", "ann", "bob", "ann", "bob", "cyd", "nobody"];
const ZONES: &[&str] = &["table", "table", "hand", "new", "closed", "nowhere", ""];
const TOKENS: &[&str] = &["t1", "t1", "t2", "t3", "c5", "s1", "new", ""];
const KEYS: &[&str] = &["a", "b", "turn", "pauseTime", "totalPauseDuration", "phase", "score"];
const RESOURCES: &[&str] = &["gold", "wood", "gold", "mana"];

/// A payload that is plausible more often than not.
fn payload(dice: &mut Dice<'_>, h: &mut Host, action: &Action) -> Json {
    if action.name == "game:setState" && dice.chance(90) {
        return set_state(dice);
    }
    let mut p = json!({});
    for f in action.fields {
        if dice.chance(if f.need == Need::Required { 97 } else { 60 }) {
            p[f.name] = if dice.chance(2) { dice.of(&[Json::Null, json!(["odd"])]) } else { field(dice, h, action, f) };
        }
    }
    p
}

fn token(dice: &mut Dice<'_>) -> Json {
    let id = dice.of(TOKENS);
    dice.of(&[
        json!({"id": id}),
        json!({"id": id, "rev": true, "kind": "card"}),
        json!({"id": id, "_rev": true, "weight": 0.5, "meta": {"a": [1, null]}}),
        json!({"id": id, "_attachments": [{"id": "t1"}], "group": "g"}),
        json!({"id": id, "kind": "card", "rank": 3}),
        json!({"id": id, "text": "a longer text than fits into one of the short headers"}),
        json!({"id": 5}),
    ])
}

fn list(dice: &mut Dice<'_>, item: impl Fn(&mut Dice<'_>) -> Json) -> Json {
    (0..dice.roll(4)).map(|_| item(dice)).collect::<Vec<_>>().into()
}

fn any_value(dice: &mut Dice<'_>) -> Json {
    dice.of(&[
        json!(1),
        json!("text"),
        json!(null),
        json!(-2.5),
        json!({"k": {"l": [1, 2]}}),
        json!([]),
        json!(1.7e308),
        json!(9007199254740991i64),
    ])
}

fn field(dice: &mut Dice<'_>, h: &mut Host, action: &Action, f: &Field) -> Json {
    let family = action.name.split(':').next().unwrap();
    let text = |dice: &mut Dice<'_>, of: &[&str]| Json::from(dice.of(of));
    let kind = match f.kind {
        Kind::StringOf(_) => Kind::String,
        Kind::MapOf(_) => Kind::Map,
        Kind::ArrayOf(_) => Kind::Array,
        kind => kind,
    };
    match (kind, f.name) {
        (Kind::String, "name") if family == "agent" => text(dice, AGENTS),
        (Kind::String, "from" | "to" | "agent1" | "agent2") => text(dice, AGENTS),
        (Kind::String, "name" | "zone" | "fromZone" | "toZone") => text(dice, ZONES),
        (Kind::String, "placementId") => {
            let ids = h.placements();
            if ids.is_empty() { "p1".into() } else { dice.of(&ids).into() }
        }
        (Kind::String, "resource") => text(dice, RESOURCES),
        (Kind::String, "tokenId" | "attachmentId") => text(dice, TOKENS),
        (Kind::String, "stackId") => text(dice, &["stack-0", "stack-1", "stack-2", "stack-3", "x"]),
        (Kind::String, "predicate") => text(dice, &["reversed", "normal", "split", "kind:card", "group:g", "odd"]),
        (Kind::String, "operation") => text(dice, &["flip", "merge", "unmerge", "odd"]),
        (Kind::String, "pattern") => text(dice, &["linear", "arc", "odd"]),
        (Kind::String, _) => text(dice, KEYS),
        (Kind::Map, "opts") => {
            dice.of(&[json!({}), json!({"x": 1.5, "label": "l"}), json!({"faceUp": false, "y": -3})])
        }
        (Kind::Map, "stack") => json!({"tokens": list(dice, token)}),
        (Kind::Map, "offer1" | "offer2") => {
            let token = json!({"token": {"id": dice.of(TOKENS)}});
            dice.of(&[json!({"resource": "gold", "amount": 1}), token, json!({"resource": "wood", "amount": 0.5})])
        }
        (Kind::Map, _) => dice.of(&[json!({}), json!({"a": 1}), json!({"id": "own", "turn": 5}), json!({"id": 5})]),
        (Kind::Strings, "sources") => {
            list(dice, |d| d.of(&["stack", "drawn", "discards", "source", "table", "?"]).into())
        }
        (Kind::Strings, _) => list(dice, |d| d.of(TOKENS).into()),
        (Kind::Array, "counts") => list(dice, |d| d.roll(3).into()),
        (Kind::Array, _) => list(dice, any_value),
        (Kind::Any, _) => any_value(dice),
        (Kind::Bool, _) => dice.chance(50).into(),
        (Kind::Number, _) => dice.of(&[json!(0), json!(15), json!(-3.5), json!(1e300), json!(1.7e308)]),
        (Kind::Whole, _) => dice.of(&[0, 1, 2, 3, 5, -1, 100]).into(),
        (Kind::Count, _) => dice.of(&[json!(1), json!(2), json!(3), json!(9), json!(0), json!(1.5)]),
        (Kind::Amount, _) => dice.of(&[json!(1), json!(2), json!(0.25), json!(0), json!(100), json!(-1), json!(1e308)]),
        (Kind::Seed, _) => dice.of(&[json!(1), json!("seed"), json!(-7.5), json!(null), json!(4294967297i64)]),
        (Kind::Token, _) => token(dice),
        (Kind::Tokens, _) => list(dice, token),
        (Kind::Decks, _) => list(dice, |d| list(d, token)),
        (Kind::StringOf(_) | Kind::MapOf(_) | Kind::ArrayOf(_), _) => unreachable!("replaced above"),
    }
}

/// game:setState on its own keys and on each built-in section, well-formed and not.
fn set_state(dice: &mut Dice<'_>) -> Json {
    let value = |key: &str, v: Json| json!({"key": key, "value": v});
    let instead = |key: &str, v: Json| json!({"key": key, "value": v, "replace": true});
    let patch = |key: &str, path: Json, v: Json| json!({"key": key, "patches": [{"path": path, "value": v}]});
    let (any, card) = (any_value(dice), token(dice));
    let agent = dice.of(AGENTS);
    let new = json!({"id": "x", "name": agent, "active": false, "meta": {}, "resources": {"gold": any},
                     "inventory": [card], "color": "red"});
    let mut placed = placement("q1", "x");
    placed["tags"] = json!(["tag"]);
    placed["own"] = any.clone();
    let table = vec![
        value("world", any.clone()),
        instead("world", any.clone()),
        patch("world", json!(["a", "b"]), any.clone()),
        patch("world", json!(["a", "b", "c"]), any.clone()),
        patch("gameState", json!([dice.of(KEYS)]), any.clone()),
        instead("gameState", json!({})),
        patch("gameLoop", json!(["turn"]), any.clone()),
        patch("gameLoop", json!(["own"]), any.clone()),
        value("rules", json!({"fired": {"a": 1}, "apart": any, "zest": 2})),
        patch("rules", json!(["fired", "b"]), any.clone()),
        instead("rules", json!({"fired": {}})),
        instead("transactions", json!([])),
        patch("transactions", json!(["0"]), json!({"type": "own"})),
        value("stack", json!({"drawn": [card]})),
        patch("stack", json!(["stack", "0"]), card.clone()),
        instead("stack", json!({"stack": [], "drawn": [], "discards": []})),
        value("source", json!({"tokens": [{"id": "s1"}, {"id": "s9"}]})),
        value("source", json!({"seed": any})),
        patch("source", json!(["reshufflePolicy", "threshold"]), any.clone()),
        value("zones", json!({"new": [placed]})),
        instead("zones", json!({"table": [placement("q2", "x"), placement("q3", "y")]})),
        patch("zones", json!(["table", "0", "x"]), any.clone()),
        patch("zones", json!(["table", "0", "label"]), any.clone()),
        value("agents", json!({agent: new})),
        instead("agents", json!({})),
        patch("agents", json!([agent, "resources", "gold"]), any.clone()),
        patch("agents", json!([agent, "inventory", "0"]), card),
        value("locked", json!(["closed", "hand"])),
    ];
    dice.of(&table)
}

/// An action that fails wherever it comes.
fn failing(dice: &mut Dice<'_>) -> Vec<u8> {
    let max = json!(1.7e308);
    let rows = [
        ("no:action", json!({})),
        ("agent:get", json!({"name": "nobody at all"})),
        ("stack:draw", json!({"count": 0})),
        ("game:setState", json!({"key": "agents", "value": {"ann": 5}})),
        ("game:setState", json!({"key": "world", "patches": [{"path": ["n"], "value": 1}, {"path": []}]})),
        // Sections that are replaced in part before they are found to be malformed.
        ("game:setState", json!({"key": "stack", "value": {"stack": [], "drawn": [], "discards": 5}})),
        ("game:setState", json!({"key": "source", "value": {"tokens": [], "burned": [], "seed": true}})),
        ("agent:trade", json!({"agent1": "ann", "agent2": "nobody at all", "offer1": {}, "offer2": {}})),
        ("space:spreadZone", json!({"zone": "table", "angleStep": max, "pattern": "neither"})),
        ("space:place", json!({"zone": "new", "card": {"id": "x"}, "opts": {"label": 5}})),
        ("token:split", json!({"token": {"id": "x"}, "count": 1e15})),
    ];
    let (action, payload) = dice.of(&rows);
    request(NOW, &[0; 16], action, &pack(&payload))
}

/// Dispatches the members of a batch one after the other, and returns the answer of each.
fn one_by_one(h: &mut Host, members: &[Vec<u8>]) -> Vec<Answer> {
    members.iter().map(|m| h.raw(Op::Dispatch as u32, m)).collect()
}

#[test]
fn a_run_has_both_good_and_bad_actions_of_every_family() {
    use std::cell::RefCell;
    let seen = RefCell::new(std::collections::BTreeMap::<(String, bool), usize>::new());
    check(200, runs(30), |run| {
        for s in run.make() {
            let family = s.what.split(':').next().unwrap().to_string();
            *seen.borrow_mut().entry((family, s.answer.ok)).or_default() += 1;
        }
    });
    let seen = seen.into_inner();
    for family in ["stack", "space", "source", "agent", "game", "token", "tokens"] {
        for ok in [true, false] {
            let n = seen.get(&(family.to_string(), ok)).copied().unwrap_or_default();
            assert!(n >= 20, "{family}: {n} actions where ok is {ok}: {seen:?}");
        }
    }
}

#[test]
fn a_failed_action_has_no_effect() {
    check(100, runs(25), |run| {
        let mut h = run.start.open();
        let mut before = h.print();
        for s in run.make() {
            let a = h.raw(Op::Dispatch as u32, &s.member);
            let now = h.print();
            assert_eq!(a.state_bytes, now.state_bytes, "{}", s.what);
            if !a.ok {
                assert!(!a.changed && now == before, "{}: {:?}", s.what, a.error());
            } else if !a.changed {
                assert!(now == before, "{}: says that nothing changed", s.what);
            }
            before = now;
        }
    });
}

#[test]
fn a_failed_atomic_batch_has_no_effect() {
    check(160, (runs(25), prop::collection::vec(any::<u16>(), 2)), |(run, rolls)| {
        let sent = run.make();
        // The members that failed had no effect. So the others succeed without them.
        let mut members: Vec<Vec<u8>> = sent.iter().filter(|s| s.answer.ok).map(|s| s.member.clone()).collect();
        let (mut h, mut other) = (run.start.open(), run.start.open());
        let before = h.print();
        let good = members.len();
        members.push(failing(&mut Dice::new(&rolls)));
        // The members after the failed one never run.
        members.extend_from_within(..good.min(2));
        let a = h.raw(Op::Batch as u32, &batch(false, &members));
        assert!(!a.ok && !a.changed);
        assert_eq!(a.error().2, Some(good as u64), "{:?}{}", a.error(), told(&sent));
        let error = other_error(&mut run.start.open(), &members[..=good]);
        assert_eq!((a.error().0, a.error().1), error);
        assert!(h.print() == before, "{:?}{}", a.error(), told(&sent));
        // The engine goes on as if nothing had happened: the batch without the failed member has
        // the effects of its members.
        let a = h.raw(Op::Batch as u32, &batch(false, &members[..good]));
        assert!(a.ok, "{:?}{}", a.error(), told(&sent));
        let answers = one_by_one(&mut other, &members[..good]);
        assert_eq!(a.changed, answers.iter().any(|a| a.changed));
        assert!(a.body == answers.iter().flat_map(|a| a.body.clone()).collect::<Vec<_>>());
        assert!(h.print() == other.print(), "{}", told(&sent));
    });
}

/// The error of the last member, dispatched after the others.
fn other_error(h: &mut Host, members: &[Vec<u8>]) -> (String, String) {
    let (code, message, _) = one_by_one(h, members).pop().unwrap().error();
    (code, message)
}

#[test]
fn a_batch_is_its_members_one_by_one() {
    check(150, runs(25), |run| {
        let sent = run.make();
        let members: Vec<Vec<u8>> = sent.iter().map(|s| s.member.clone()).collect();
        let (mut together, mut apart) = (run.start.open(), run.start.open());
        let a = together.raw(Op::Batch as u32, &batch(true, &members));
        assert!(a.ok);
        let answers = one_by_one(&mut apart, &members);
        assert_eq!(a.changed, answers.iter().any(|a| a.changed));
        for ((b, s), (body, failed, changed)) in answers.iter().zip(&sent).zip(a.members()) {
            assert!((!failed, changed, body) == (b.ok, b.changed, b.body.clone()), "{}{}", s.what, told(&sent));
        }
        assert_eq!(a.table.len(), 8 * members.len());
        assert!(together.print() == apart.print(), "{}", told(&sent));
    });
}

#[test]
fn a_restored_engine_is_the_engine() {
    let pieces = prop::collection::vec(1..300usize, 1..6);
    check(160, (runs(40), pieces, 0..40usize), |(run, pieces, at)| {
        let sent = run.make();
        let at = at.min(sent.len());
        let (mut h, mut other) = (run.start.open(), Host::new(Registry::builtin()));
        sent[..at].iter().for_each(|s| drop(h.raw(Op::Dispatch as u32, &s.member)));
        let snapshot = h.stream(Op::Snapshot);
        other.call(Op::Restore, &[]).unwrap();
        let mut rest = &snapshot[..];
        for n in pieces.iter().cycle() {
            let (piece, more) = rest.split_at((*n).min(rest.len()));
            other.call(Op::Feed, piece).unwrap_or_else(|e| panic!("{e:?}{}", told(&sent[..at])));
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        other.call(Op::Ready, &[]).unwrap_or_else(|e| panic!("{e:?}{}", told(&sent[..at])));
        assert_eq!(h.state_bytes(), other.state_bytes(), "logical bytes{}", told(&sent[..at]));
        assert!(h.print() == other.print(), "{}", told(&sent[..at]));
        // From here on both answer the same.
        for s in &sent[at..] {
            let (a, b) = (h.raw(Op::Dispatch as u32, &s.member), other.raw(Op::Dispatch as u32, &s.member));
            assert!(a == b, "{}{}", s.what, told(&sent));
        }
        assert!(h.print() == other.print(), "{}", told(&sent));
    });
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    check(100, runs(25), |run| {
        let sent = run.make();
        let (mut one, mut two) = (run.start.open(), run.start.open());
        for s in &sent {
            let a = one.raw(Op::Dispatch as u32, &s.member);
            assert!(a == two.raw(Op::Dispatch as u32, &s.member) && a == s.answer, "{}", s.what);
        }
        assert!(one.print() == two.print());
    });
}

#[test]
fn a_setup_cut_anywhere_is_the_setup() {
    let whole = Host::standard(&rich_setup()).print();
    for piece in (1..64).chain([CHUNK]) {
        let mut h = Host::open(&rich_setup(), Default::default(), piece).unwrap();
        assert!(h.print() == whole, "in pieces of {piece}");
    }
}

// Each of these once broke an engine.

/// The snapshot of any engine can be restored.
fn restores(h: &mut Host) {
    let before = h.print();
    let mut other = Host::restore(&before.snapshot, CHUNK).unwrap_or_else(|e| panic!("{e:?}"));
    assert!(other.print() == before);
}

fn limited(setup: &Json, max_state: u64) -> Host {
    Host::open(setup, Limits { max_state, ..Limits::default() }, CHUNK).unwrap()
}

#[test]
fn locks_set_as_a_value_restore() {
    let mut h = Host::standard(&json!({}));
    h.dispatch("game:setState", &json!({"key": "locked", "value": ["closed"]}), NOW).unwrap();
    restores(&mut h);
}

#[test]
fn an_engine_full_of_agents_restores() {
    let mut h = limited(&json!({}), 10_000);
    let full = (0..).find(|i| h.dispatch("agent:create", &json!({"name": format!("{i}")}), NOW).is_err());
    assert_eq!(full, Some(27));
    restores(&mut h);
}

#[test]
fn an_engine_that_is_exactly_full_restores() {
    let actions =
        [("game:setPhase", json!({"phase": ""})), ("game:setState", json!({"key": "first", "value": "x".repeat(500)}))];
    let run = |mut h: Host| {
        actions.iter().for_each(|(a, p)| drop(h.dispatch(a, p, NOW).unwrap()));
        h
    };
    let n = run(Host::standard(&json!({}))).state_bytes();
    restores(&mut run(limited(&json!({}), n)));
}

#[test]
fn what_source_draw_takes_away_still_counts() {
    // A source keeps the tokens of its stacks for a reset, drawn or not.
    let mut h = limited(&json!({"source": {"stacks": []}}), 20_000);
    let full = (0..).find_map(|i| {
        let token = json!({"id": format!("{i}"), "text": "x".repeat(4000)});
        h.dispatch("source:addStack", &json!({"stack": {"tokens": [token]}}), NOW).err().or_else(|| {
            h.dispatch("source:draw", &json!({}), NOW).unwrap();
            None
        })
    });
    assert_eq!(full.unwrap().0, "too_large");
    restores(&mut h);
}

#[test]
fn a_stack_that_is_removed_takes_as_many_tokens_as_it_brought() {
    let ids = |of: &str| of.chars().map(|id| json!({"id": id.to_string()})).collect::<Vec<Json>>();
    let setup = json!({"source": {"stacks": [ids("abca"), ids("ad"), ids("cbbe")]}});
    let mut h = limited(&setup, 20_000);
    h.dispatch("source:removeStack", &json!({"stackId": "stack-0"}), NOW).unwrap();
    let left = h.dispatch("source:inspect", &json!({}), NOW).unwrap();
    // From the bottom: abca, ad, cbbe. The first two a, the first b and the first c are gone.
    assert_eq!(left["tokens"], Json::from(ids("adcbbe")));
    h.dispatch("source:removeStack", &json!({"stackId": "stack-2"}), NOW).unwrap();
    assert_eq!(h.dispatch("source:inspect", &json!({}), NOW).unwrap()["tokens"], Json::from(ids("ad")));
}
