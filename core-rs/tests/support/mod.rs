//! Code that the tests share: it sends JSON to the core and reads JSON from it, through the calls
//! that a host makes.
#![allow(dead_code)]

use hypertoken_core::abi::{CHUNK, Core, Op};
use hypertoken_core::{Entries, Limits, Registry, Value, Writer, scan};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value as Json, json};

pub fn pack(j: &Json) -> Vec<u8> {
    let mut w = Writer::default();
    write(j, &mut w);
    w.into_bytes()
}

fn write(j: &Json, w: &mut Writer) {
    match j {
        Json::Null => w.nil(),
        Json::Bool(b) => w.bool(*b),
        Json::Number(n) => w.num(n.as_f64().unwrap()),
        Json::String(s) => w.str(s),
        Json::Array(a) => {
            w.array(a.len());
            a.iter().for_each(|v| write(v, w));
        }
        Json::Object(m) => {
            w.map(m.len());
            for (k, v) in m {
                w.str(k);
                write(v, w);
            }
        }
    }
}

pub fn unpack(b: &[u8]) -> Json {
    json(Value::parse(b, 200).unwrap())
}

fn json(v: Value<'_>) -> Json {
    if let Some(b) = v.as_bool() {
        return b.into();
    }
    if let Some(n) = v.as_f64() {
        return n.into();
    }
    if let Some(s) = v.as_str() {
        return s.into();
    }
    if let Some(items) = v.items() {
        return items.map(json).collect::<Vec<_>>().into();
    }
    v.entries()
        .map_or(Json::Null, |e: Entries<'_>| e.map(|(k, v)| (k.to_string(), json(v))).collect::<Map<_, _>>().into())
}

/// A core behind the calls of a host.
pub struct Host {
    pub core: Core,
    sent: u64,
}

pub type Outcome = Result<Json, (String, String)>;

impl Host {
    pub fn new(registry: Registry) -> Host {
        Host { core: Core::new(registry), sent: 0 }
    }

    /// A host with an engine opened from a setup, in pieces of `piece` bytes.
    pub fn open(setup: &Json, limits: Limits, piece: usize) -> Result<Host, (String, String)> {
        let mut h = Host::new(Registry::builtin());
        h.call(Op::Open, &limits_bytes(limits))?;
        for p in pack(setup).chunks(piece) {
            h.call(Op::Feed, p)?;
        }
        h.call(Op::Ready, &[])?;
        Ok(h)
    }

    pub fn standard(setup: &Json) -> Host {
        Host::open(setup, Limits::default(), CHUNK).unwrap()
    }

    pub fn call(&mut self, op: Op, input: &[u8]) -> Result<Vec<u8>, (String, String)> {
        self.core.input(input.len()).unwrap().copy_from_slice(input);
        let r = self.core.call(op as u32, input.len());
        if r.ok {
            return Ok(r.body.to_vec());
        }
        let e = unpack(r.body);
        Err((e["code"].as_str().unwrap().into(), e["message"].as_str().unwrap().into()))
    }

    /// Entropy that differs from action to action.
    pub fn entropy(&mut self) -> [u8; 16] {
        self.sent += 1;
        let mut e = [7; 16];
        e[..8].copy_from_slice(&self.sent.to_le_bytes());
        e
    }

    pub fn dispatch(&mut self, action: &str, payload: &Json, now: i64) -> Outcome {
        self.dispatch_bytes(action, &pack(payload), now)
    }

    pub fn dispatch_bytes(&mut self, action: &str, payload: &[u8], now: i64) -> Outcome {
        let input = request(now, &self.entropy(), action, payload);
        self.call(Op::Dispatch, &input).map(|b| unpack(&b))
    }

    pub fn stream(&mut self, op: Op) -> Vec<u8> {
        self.call(op, &[]).unwrap();
        let mut all = Vec::new();
        loop {
            let chunk = self.call(Op::Next, &[]).unwrap();
            assert!(chunk.len() <= CHUNK);
            if chunk.is_empty() {
                return all;
            }
            all.extend(chunk);
        }
    }

    pub fn state(&mut self) -> Json {
        unpack(&self.stream(Op::State))
    }

    pub fn digest(&mut self) -> u64 {
        u64::from_le_bytes(self.call(Op::Digest, &[]).unwrap().try_into().unwrap())
    }

    /// A fresh core restored from a snapshot in pieces of `piece` bytes.
    pub fn restore(snapshot: &[u8], piece: usize) -> Result<Host, (String, String)> {
        let mut h = Host::new(Registry::builtin());
        h.call(Op::Restore, &[])?;
        for p in snapshot.chunks(piece.max(1)) {
            h.call(Op::Feed, p)?;
        }
        h.call(Op::Ready, &[])?;
        Ok(h)
    }
}

pub fn limits_bytes(l: Limits) -> Vec<u8> {
    [&l.max_state.to_le_bytes()[..], &l.max_result.to_le_bytes(), &l.max_depth.to_le_bytes()].concat()
}

pub fn request(now: i64, entropy: &[u8; 16], action: &str, payload: &[u8]) -> Vec<u8> {
    [&now.to_le_bytes()[..], entropy, &(action.len() as u32).to_le_bytes(), action.as_bytes(), payload].concat()
}

pub fn batch(independent: bool, members: &[Vec<u8>]) -> Vec<u8> {
    let mut b = [(independent as u32).to_le_bytes(), (members.len() as u32).to_le_bytes()].concat();
    for m in members {
        b.extend((m.len() as u32).to_le_bytes());
        b.extend(m);
    }
    b
}

/// The clock of the tests.
pub const NOW: i64 = 1_700_000_000_000;

/// A reply, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub ok: bool,
    pub changed: bool,
    pub body: Vec<u8>,
    pub table: Vec<u8>,
    pub state_bytes: u64,
}

impl Answer {
    /// The code, the message and the index of an error.
    pub fn error(&self) -> (String, String, Option<u64>) {
        assert!(!self.ok, "no error");
        let e = unpack(&self.body);
        let text = |k: &str| e[k].as_str().unwrap_or_else(|| panic!("an error without {k}: {e}")).to_string();
        (text("code"), text("message"), e.get("index").map(|i| i.as_f64().unwrap() as u64))
    }

    /// Returns for each member of a batch its answer, whether it failed, and whether it changed
    /// the state.
    pub fn members(&self) -> Vec<(Vec<u8>, bool, bool)> {
        let mut from = 0;
        let member = |row: &[u8]| {
            let to = u32::from_le_bytes(row[..4].try_into().unwrap()) as usize;
            let body = self.body[from..to].to_vec();
            from = to;
            assert_eq!(&row[6..], [0, 0]);
            (body, row[4] == 1, row[5] == 1)
        };
        let all = self.table.chunks(8).map(member).collect();
        assert_eq!(from, self.body.len(), "the table ends where the body does");
        all
    }
}

/// Everything that can be observed of an engine's state, to compare it before and after. The
/// snapshot also has the hidden sections.
#[derive(Clone, PartialEq, Eq)]
pub struct Print {
    pub digest: u64,
    pub state_bytes: u64,
    pub state: Vec<u8>,
    pub snapshot: Vec<u8>,
}

impl Host {
    /// Makes any call, and returns the reply as it is.
    pub fn raw(&mut self, op: u32, input: &[u8]) -> Answer {
        self.core.input(input.len()).unwrap().copy_from_slice(input);
        let r = self.core.call(op, input.len());
        Answer {
            ok: r.ok,
            changed: r.changed,
            body: r.body.to_vec(),
            table: r.table.to_vec(),
            state_bytes: r.state_bytes,
        }
    }

    pub fn state_bytes(&mut self) -> u64 {
        self.raw(Op::Digest as u32, &[]).state_bytes
    }

    pub fn print(&mut self) -> Print {
        Print {
            digest: self.digest(),
            state_bytes: self.state_bytes(),
            state: self.stream(Op::State),
            snapshot: self.stream(Op::Snapshot),
        }
    }

    /// A host restored from this one's snapshot, with other limits.
    pub fn with_limits(&mut self, limits: Limits) -> Host {
        Host::restore(&with_limits(&self.stream(Op::Snapshot), limits), CHUNK).unwrap()
    }

    /// The ids of what lies in the zones.
    pub fn placements(&mut self) -> Vec<String> {
        let state = self.state();
        let zones = state["zones"].as_object().unwrap().values();
        zones.flat_map(|z| z.as_array().unwrap()).map(|p| p["id"].as_str().unwrap().to_string()).collect()
    }
}

/// A snapshot with another header: limits are not part of the digest.
pub fn with_limits(snapshot: &[u8], l: Limits) -> Vec<u8> {
    let n = scan(snapshot, 8).unwrap().len;
    let mut s = pack(&json!([0, "hypertoken", 1, l.max_state, l.max_result, l.max_depth]));
    s.extend_from_slice(&snapshot[n..]);
    s
}

/// The values that follow one another in `b`.
pub fn values(mut b: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !b.is_empty() {
        let (v, rest) = b.split_at(scan(b, 200).unwrap().len);
        all.push(v.to_vec());
        b = rest;
    }
    all
}

pub fn rich_setup() -> Json {
    let cards: Vec<Json> = (1..=5).map(|i| json!({"id": format!("c{i}"), "kind": "card", "rank": i})).collect();
    json!({
        "stack": cards,
        "source": {
            "stacks": [[{"id": "s1"}, {"id": "s2", "text": "zwei"}], [{"id": "s3"}]],
            "reshuffle": {"threshold": 1, "mode": "auto"},
        },
    })
}

pub fn placement(id: &str, token: &str) -> Json {
    json!({"id": id, "tokenId": token, "tokenSnapshot": {"id": token}, "x": 1, "y": 2.5, "faceUp": true,
           "reversed": false, "ts": NOW, "label": null, "tags": []})
}

/// What makes an engine of [`rich_setup`] a rich one: something in every section.
pub fn rich_actions() -> Vec<(&'static str, Json)> {
    vec![
        ("agent:create", json!({"name": "ann", "id": "a-1", "meta": {"seat": 1}})),
        ("agent:create", json!({"name": "bob", "meta": {}})),
        ("agent:giveResource", json!({"name": "ann", "resource": "gold", "amount": 5})),
        ("agent:giveResource", json!({"name": "ann", "resource": "wood", "amount": 1.5})),
        ("agent:giveResource", json!({"name": "bob", "resource": "gold", "amount": 3})),
        ("agent:addToken", json!({"name": "ann", "token": {"id": "t1", "kind": "chip"}})),
        ("agent:addToken", json!({"name": "ann", "token": {"id": "t2"}})),
        ("agent:addToken", json!({"name": "ann", "token": {"id": "t1", "copy": true}})),
        ("agent:addToken", json!({"name": "bob", "token": {"id": "t3", "weight": 0.25}})),
        ("agent:transferResource", json!({"from": "ann", "to": "bob", "resource": "wood", "amount": 0.5})),
        ("agent:setActive", json!({"name": "bob", "active": false})),
        (
            "game:setState",
            json!({"key": "zones", "value": {
                "table": [placement("p1", "x1"), placement("p2", "x2"), placement("p3", "x3")],
                "closed": [placement("p4", "x4")],
                "empty": [],
            }}),
        ),
        ("space:place", json!({"zone": "table", "card": {"id": "x5", "_rev": true}, "opts": {"label": "top"}})),
        ("space:lockZone", json!({"zone": "closed"})),
        ("space:lockZone", json!({"zone": "nowhere"})),
        ("game:start", json!({})),
        ("game:setProperty", json!({"key": "score", "value": {"ann": 1, "bob": [2, 2.5]}})),
        ("game:loopInit", json!({"maxTurns": 9})),
        ("game:loopStart", json!({})),
        ("rule:initRules", json!({})),
        ("rule:markFired", json!({"name": "opening"})),
        ("game:setState", json!({"key": "world", "value": {"deep": {"list": [1, 2]}, "text": "x", "on": true}})),
        ("stack:draw", json!({})),
        ("stack:burn", json!({})),
        ("stack:insertAt", json!({"card": {"id": "c6"}, "position": 3})),
        ("stack:discard", json!({"card": {"id": "c7"}})),
        ("source:addStack", json!({"stack": {"tokens": [{"id": "s4"}, {"id": "s5"}]}})),
        ("source:burn", json!({})),
        ("source:shuffle", json!({"seed": 7})),
    ]
}

/// An engine with something in every section: 4 tokens on the stack, 4 in the source, 4 placements
/// on the table.
pub fn rich() -> Host {
    let mut h = Host::standard(&rich_setup());
    for (action, payload) in rich_actions() {
        h.dispatch(action, &payload, NOW).unwrap_or_else(|e| panic!("{action}: {e:?}"));
    }
    h
}

/// For every built-in action a payload that it accepts on a rich engine.
pub fn good() -> Vec<(&'static str, Json)> {
    let pass = json!({"from": "ann", "to": "bob", "resource": "gold", "amount": 2});
    let token_pass = json!({"from": "ann", "to": "bob", "tokenId": "t2"});
    let tokens = json!([{"id": "m1", "rev": true}, {"id": "m2", "kind": "chip"}]);
    vec![
        ("stack:draw", json!({"count": 2})),
        ("stack:peek", json!({"count": 2})),
        ("stack:shuffle", json!({"seed": 3})),
        ("stack:burn", json!({"count": 2})),
        ("stack:reset", json!({})),
        ("stack:cut", json!({"position": 1})),
        ("stack:insertAt", json!({"card": {"id": "n"}, "position": 4})),
        ("stack:removeAt", json!({"position": 3})),
        ("stack:swap", json!({"i": 0, "j": 3})),
        ("stack:reverse", json!({})),
        ("stack:discard", json!({"card": {"id": "n"}})),
        (
            "space:place",
            json!({"zone": "hand", "card": {"id": "n"}, "opts": {"x": 1, "y": 2, "faceUp": false, "label": "l"}}),
        ),
        ("space:remove", json!({"zone": "table", "placementId": "p1"})),
        ("space:move", json!({"fromZone": "table", "toZone": "hand", "placementId": "p1", "x": 4, "y": 5})),
        ("space:flip", json!({"zone": "table", "placementId": "p1", "faceUp": false})),
        ("space:createZone", json!({"name": "hand"})),
        ("space:deleteZone", json!({"name": "table"})),
        ("space:clearZone", json!({"zone": "table"})),
        ("space:lockZone", json!({"zone": "table", "locked": true})),
        ("space:shuffleZone", json!({"zone": "table", "seed": "s"})),
        ("space:fanZone", json!({"zone": "table", "angleStep": 10, "radius": 50})),
        ("space:spreadZone", json!({"zone": "table", "pattern": "arc", "angleStep": 10, "radius": 50})),
        ("space:stackZone", json!({"zone": "table"})),
        ("space:transferZone", json!({"fromZone": "table", "toZone": "hand"})),
        ("space:clear", json!({})),
        ("source:draw", json!({"count": 3})),
        ("source:shuffle", json!({"seed": "a string seed"})),
        ("source:burn", json!({"count": 2})),
        ("source:addStack", json!({"stack": {"tokens": [{"id": "n"}]}})),
        ("source:removeStack", json!({"stackId": "stack-1"})),
        ("source:reset", json!({})),
        ("source:inspect", json!({})),
        ("agent:create", json!({"name": "cyd", "id": "a-3", "meta": {"k": 1}})),
        ("agent:remove", json!({"name": "ann"})),
        ("agent:setActive", json!({"name": "ann", "active": false})),
        ("agent:setMeta", json!({"name": "ann", "key": "k", "value": [1]})),
        ("agent:giveResource", json!({"name": "ann", "resource": "gold", "amount": 2})),
        ("agent:takeResource", json!({"name": "ann", "resource": "gold", "amount": 2})),
        ("agent:addToken", json!({"name": "ann", "token": {"id": "n"}})),
        ("agent:removeToken", json!({"name": "ann", "tokenId": "t1"})),
        ("agent:get", json!({"name": "ann"})),
        ("agent:getAll", json!({})),
        ("agent:transferResource", pass.clone()),
        ("agent:transferToken", token_pass.clone()),
        ("agent:stealResource", pass),
        ("agent:stealToken", token_pass),
        (
            "agent:trade",
            json!({"agent1": "ann", "agent2": "bob", "offer1": {"token": {"id": "t1"}},
                   "offer2": {"resource": "gold", "amount": 1}}),
        ),
        ("agent:drawCards", json!({"name": "ann", "count": 2})),
        ("agent:discardCards", json!({"name": "ann", "tokenIds": ["t2", "none"]})),
        ("game:start", json!({})),
        ("game:end", json!({"winner": "ann", "reason": {"why": 1}})),
        ("game:pause", json!({})),
        ("game:resume", json!({})),
        ("game:nextPhase", json!({"phase": "night"})),
        ("game:setProperty", json!({"key": "k", "value": null})),
        ("game:mergeState", json!({"state": {"a": 1, "b": [2]}})),
        ("game:setState", json!({"key": "world", "value": {"more": 1}, "replace": false})),
        ("game:getState", json!({})),
        ("game:loopInit", json!({"maxTurns": 7})),
        ("game:loopStart", json!({})),
        ("game:loopStop", json!({"phase": "over"})),
        ("game:nextTurn", json!({"agentCount": 2})),
        ("game:setPhase", json!({"phase": "draw"})),
        ("game:setMaxTurns", json!({"maxTurns": 5})),
        ("game:setActiveAgent", json!({"index": 1})),
        ("rule:initRules", json!({})),
        ("rule:markFired", json!({"name": "second", "timestamp": 12.5})),
        ("token:transform", json!({"token": {"id": "m"}, "properties": {"a": 1}})),
        ("token:attach", json!({"host": {"id": "m"}, "attachment": {"id": "n"}, "attachmentType": "gem"})),
        ("token:detach", json!({"host": {"id": "m", "_attachments": [{"id": "n"}]}, "attachmentId": "n"})),
        ("token:merge", json!({"tokens": tokens.clone(), "properties": {"a": 1}, "keepOriginals": true})),
        ("token:split", json!({"token": {"id": "m"}, "count": 2, "propertiesArray": [{"a": 1}]})),
        ("tokens:shuffle", json!({"decks": [[{"id": "a"}, {"id": "b"}], []], "seed": 5})),
        ("tokens:draw", json!({"decks": [[{"id": "a"}, {"id": "b"}], []], "counts": [1, 0]})),
        ("tokens:filter", json!({"tokens": tokens.clone(), "predicate": "normal"})),
        ("tokens:map", json!({"tokens": tokens.clone(), "operation": "merge"})),
        ("tokens:forEach", json!({"tokens": tokens.clone(), "operation": "unmerge"})),
        ("tokens:find", json!({"tokens": tokens.clone(), "predicate": "kind:chip"})),
        ("tokens:count", json!({"tokens": tokens, "predicate": "reversed"})),
        ("tokens:collect", json!({"sources": ["stack", "discards", "drawn", "source", "table"]})),
        ("debug:log", json!({"anything": [1, "two", null]})),
    ]
}

/// Runs a property over `cases` values. The generator's seed is fixed: every run tests the same
/// cases.
pub fn check<S: Strategy>(cases: u32, values: S, property: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 1500, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let run = |v| {
        property(v);
        Ok(())
    };
    runner.run(&values, run).unwrap_or_else(|e| panic!("{e}"));
}

/// Choices, made from numbers that a strategy generates and shrinks: 0 is the simplest.
pub struct Dice<'a>(std::slice::Iter<'a, u16>);

impl<'a> Dice<'a> {
    pub fn new(rolls: &'a [u16]) -> Dice<'a> {
        Dice(rolls.iter())
    }

    /// A number below `n`; 0 when the numbers are used up.
    pub fn roll(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, |r| *r as usize % n.max(1))
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) >= 100 - percent
    }

    pub fn of<T: Clone>(&mut self, v: &[T]) -> T {
        v[self.roll(v.len())].clone()
    }
}
