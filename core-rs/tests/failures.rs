//! A failed action leaves the state as it was: every action, each way that it fails.
//!
//! An action's ways to fail come from two tables: its declared fields, missing or wrong, and
//! [`rows`]. Each is tried on a rich engine, and digest, logical bytes, state and snapshot are
//! compared with what they were.

mod support;

use hypertoken_core::abi::{CHUNK, Core, MAX_INPUT, Op};
use hypertoken_core::{Action, Error, Field, Kind, Limits, MAX_INT, Need, Registry, required, scan_all};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use support::{Answer, Host, NOW, Print, batch, good, limits_bytes, pack, placement, request, rich, rich_setup};

const BAD: &str = "bad_payload";
const RANGE: &str = "out_of_range";
const NONE: &str = "not_found";
const FEW: &str = "insufficient";
const STATE: &str = "bad_state";
const LARGE: &str = "too_large";
const DEEP: &str = "too_deep";

/// Actions that take no field and need nothing of the state: with a payload that is one, and
/// within the limits, they always succeed.
const NEVER_FAIL: &[(&str, &str)] = &[
    ("space:clear", "there may be nothing to drop"),
    ("agent:getAll", "there may be no agent"),
    ("game:start", "it overwrites what the gameState has, whatever that is"),
    ("game:end", "winner and reason may be any value"),
    ("game:pause", "it overwrites what the gameState has, whatever that is"),
    ("game:getState", "the gameState may be empty"),
    ("game:loopStart", "it overwrites what the gameLoop has, whatever that is"),
    ("rule:initRules", "it overwrites the rules that there are"),
    ("debug:log", "its payload may be any map"),
];

/// Fields whose name must not be empty.
const EMPTY_NAMES: &[(&str, &str)] = &[
    ("agent:create", "name"),
    ("agent:setMeta", "key"),
    ("game:setProperty", "key"),
    ("game:setState", "key"),
    ("space:place", "zone"),
];

/// The engine that a row fails on.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Rich,
    /// Neither stack nor source, one agent: ann.
    Bare,
}

fn bare() -> Host {
    let mut h = Host::standard(&json!({}));
    h.dispatch("agent:create", &json!({"name": "ann"}), NOW).unwrap();
    h
}

/// One way to fail.
struct Row {
    on: On,
    /// What happens first.
    after: Vec<(&'static str, Json)>,
    action: &'static str,
    payload: Json,
    code: &'static str,
    /// A part of the message.
    says: &'static str,
}

fn row(action: &'static str, payload: Json, code: &'static str, says: &'static str) -> Row {
    Row { on: On::Rich, after: Vec::new(), action, payload, code, says }
}

impl Row {
    fn after(mut self, action: &'static str, payload: Json) -> Row {
        self.after.push((action, payload));
        self
    }
    fn on_bare(mut self) -> Row {
        self.on = On::Bare;
        self
    }
}

/// Patches of one key of the state.
fn patch(key: &str, path: Json, value: Json) -> Json {
    json!({"key": key, "patches": [{"path": path, "value": value}]})
}

/// A placement or an agent with one field written over, or left out where `value` is nil.
fn but(mut v: Json, field: &str, value: Json) -> Json {
    match value {
        Json::Null => drop(v.as_object_mut().unwrap().remove(field)),
        value => v[field] = value,
    }
    v
}

fn rows() -> Vec<Row> {
    [stack_rows(), source_rows(), space_rows(), agent_rows(), game_rows(), set_state_rows(), token_rows()]
        .into_iter()
        .flatten()
        .collect()
}

/// Without a stack or a source all actions of its family fail, with any payload.
fn not_attached(family: &str, says: &'static str) -> Vec<Row> {
    let of_family = good().into_iter().filter(|(a, _)| a.starts_with(family));
    of_family.map(|(action, payload)| row(action, payload, NONE, says).on_bare()).collect()
}

fn stack_rows() -> Vec<Row> {
    let mut rows = not_attached("stack:", "no stack is attached");
    // Draws all four: the stack is there, and empty.
    let drained = |r: Row| r.after("stack:draw", json!({"count": 9}));
    rows.extend([
        row("stack:cut", json!({"position": 5}), RANGE, "field position: 5 is outside 0..4"),
        row("stack:cut", json!({"position": -1}), RANGE, "field position: -1 is outside 0..4"),
        row("stack:insertAt", json!({"card": {"id": "n"}, "position": 5}), RANGE, "field position: 5 is outside 0..4"),
        row("stack:insertAt", json!({"card": {"id": "n"}, "position": -1}), RANGE, "field position: -1"),
        row("stack:removeAt", json!({"position": 4}), RANGE, "field position: 4 is outside 0..3"),
        row("stack:removeAt", json!({"position": -1}), RANGE, "field position: -1"),
        row("stack:swap", json!({"i": 4, "j": 0}), RANGE, "field i: 4 is outside 0..3"),
        row("stack:swap", json!({"i": 0, "j": -1}), RANGE, "field j: -1"),
        drained(row("stack:cut", json!({"position": 1}), RANGE, "field position: 1 is outside 0..0")),
        drained(row("stack:removeAt", json!({}), RANGE, "field position: 0 is out of range: there is nothing there")),
        drained(row("stack:swap", json!({"i": 0, "j": 0}), RANGE, "field i: 0 is out of range")),
        drained(row("stack:reverse", json!({}), FEW, "the stack is empty")),
    ]);
    rows
}

fn source_rows() -> Vec<Row> {
    let mut rows = not_attached("source:", "no source is attached");
    let stack = |s: Json| json!({"stack": s});
    rows.extend([
        row("source:draw", json!({"count": 5}), FEW, "field count: 5 is above the 4 tokens that are left"),
        row("source:draw", json!({}), FEW, "field count: 1 is above the 0").after("source:burn", json!({"count": 4})),
        row("source:burn", json!({"count": 5}), FEW, "field count: 5 is above the 4 tokens that are left"),
        row("source:addStack", stack(json!({})), BAD, "field tokens: want an array, got nothing"),
        row("source:addStack", stack(json!({"tokens": {}})), BAD, "field tokens: want an array"),
        // The tokens before the wrong one are not added either.
        row("source:addStack", stack(json!({"tokens": [{"id": "n"}, {"id": 5}]})), BAD, "field tokens[1].id"),
        row("source:removeStack", json!({"stackId": "stack-9"}), NONE, "field stackId: the source has no stack"),
        row("source:removeStack", json!({"stackId": "stack-0"}), NONE, "field stackId: the source has no stack")
            .after("source:removeStack", json!({"stackId": "stack-0"})),
    ]);
    rows
}

fn space_rows() -> Vec<Row> {
    let place = |opts: Json| json!({"zone": "table", "card": {"id": "n"}, "opts": opts});
    vec![
        row("space:place", place(json!({"x": "1"})), BAD, "field x: want a number"),
        row("space:place", place(json!({"y": null})), BAD, "field y: want a number"),
        row("space:place", place(json!({"faceUp": 1})), BAD, "field faceUp: want a bool"),
        row("space:place", place(json!({"label": 5})), BAD, "field opts.label: want a string or nil"),
        // On a locked zone a right payload does nothing, and a wrong one still fails.
        row("space:place", json!({"zone": "closed", "card": {"id": 1}}), BAD, "field card.id"),
        row("space:spreadZone", json!({"zone": "table", "pattern": "circle"}), BAD, "field pattern: want"),
        row("space:spreadZone", json!({"zone": "closed", "pattern": "circle"}), BAD, "field pattern: want"),
        // The first two placements have been moved by then.
        row(
            "space:spreadZone",
            json!({"zone": "table", "angleStep": 1.7e308}),
            RANGE,
            "the layout puts token 2 at inf",
        ),
        row("space:fanZone", json!({"zone": "table", "angleStep": 1.7e308}), RANGE, "the layout puts token 0"),
    ]
}

fn agent_rows() -> Vec<Row> {
    // An unknown agent fails under every field that names one.
    let mut rows = Vec::new();
    for (action, payload) in good() {
        for field in ["name", "from", "to", "agent1", "agent2"] {
            if action.starts_with("agent:") && action != "agent:create" && payload.get(field).is_some() {
                rows.push(row(action, but(payload.clone(), field, "zoe".into()), NONE, "there is no agent \"zoe\""));
            }
        }
    }
    rows.extend(
        [
            ("agent:drawCards", json!({"name": "ann"})),
            ("agent:discardCards", json!({"name": "ann", "tokenIds": ["t1"]})),
        ]
        .map(|(action, payload)| row(action, payload, NONE, "no stack is attached").on_bare()),
    );
    let max = MAX_INT;
    let gold = |amount: Json| json!({"name": "ann", "resource": "gold", "amount": amount});
    let pass =
        |resource: &str, amount: Json| json!({"from": "ann", "to": "bob", "resource": resource, "amount": amount});
    let token = |id: &str| json!({"from": "ann", "to": "bob", "tokenId": id});
    // game:setState alone makes a resource that is no number.
    let text = |r: Row| r.after("game:setState", patch("agents", json!(["ann", "resources", "gold"]), "much".into()));
    let full = |r: Row| r.after("game:setState", patch("agents", json!(["bob", "resources", "gold"]), max.into()));
    let huge = |r: Row| r.after("agent:giveResource", gold(1.7e308.into()));
    rows.extend([
        row("agent:create", json!({"name": "ann"}), "exists", "an agent \"ann\" exists"),
        text(row("agent:giveResource", gold(1.into()), STATE, "resource \"gold\" of agent \"ann\" is the string")),
        text(row("agent:takeResource", gold(1.into()), STATE, "resource \"gold\" of agent \"ann\" is the string")),
        row("agent:giveResource", gold(max.into()), RANGE, "field amount: 5 and 9007199254740991 leave"),
        huge(row("agent:giveResource", gold(1.7e308.into()), RANGE, "field amount:")),
        row(
            "agent:removeToken",
            json!({"name": "bob", "tokenId": "t1"}),
            NONE,
            "field tokenId: agent \"bob\" does not",
        ),
        row("agent:transferResource", pass("gold", json!(5.5)), FEW, "field amount: agent \"ann\" has 5 of \"gold\""),
        row("agent:transferResource", pass("mana", json!(1)), FEW, "field amount: agent \"ann\" has 0 of \"mana\""),
        text(row("agent:transferResource", pass("gold", json!(1)), STATE, "resource \"gold\"")),
        // By then the amount has left ann.
        full(row("agent:transferResource", pass("gold", json!(1)), RANGE, "field amount:")),
        full(row("agent:stealResource", pass("gold", json!(1)), RANGE, "field amount:")),
        text(row("agent:stealResource", pass("gold", json!(1)), STATE, "resource \"gold\"")),
        row("agent:transferToken", token("t3"), NONE, "field tokenId: agent \"ann\" does not hold"),
        row("agent:stealToken", token("t3"), NONE, "field tokenId: agent \"ann\" does not hold"),
        row(
            "agent:discardCards",
            json!({"name": "ann", "tokenIds": ["t1", 2]}),
            BAD,
            "field tokenIds[1]: want a string",
        ),
    ]);
    rows.extend(EMPTY_NAMES.iter().map(|(action, field)| {
        let good = good().into_iter().find(|(a, _)| a == action).unwrap().1;
        row(action, but(good, field, "".into()), BAD, "want a string that is not empty")
    }));
    // A trade checks either side the same way.
    let fine = json!({"resource": "gold", "amount": 1});
    let offers = [
        (json!({}), BAD, "field resource: want a string, got nothing"),
        (json!({"resource": 5, "amount": 1}), BAD, "field resource: want a string"),
        (json!({"resource": "gold"}), BAD, ".amount: want a number, got nothing"),
        (json!({"resource": "gold", "amount": "1"}), BAD, "field amount: want a number"),
        (json!({"resource": "gold", "amount": -1}), RANGE, ".amount: -1 is below 0"),
        (json!({"resource": "gold", "amount": 100}), FEW, "of \"gold\", not 100"),
        (json!({"resource": "mana", "amount": 1}), FEW, "has 0 of \"mana\""),
        (json!({"token": {}}), BAD, ".token.id: want a string"),
        (json!({"token": {"id": 5}}), BAD, ".token.id: want a string"),
        (json!({"token": "t1"}), BAD, ".token.id: want a string"),
        (json!({"token": {"id": "t9"}}), NONE, "does not hold the token \"t9\""),
    ];
    for (offer, code, says) in offers {
        for (one, two) in [(&offer, &fine), (&fine, &offer)] {
            let payload = json!({"agent1": "ann", "agent2": "bob", "offer1": one, "offer2": two});
            rows.push(row("agent:trade", payload, code, says));
        }
    }
    // What ann offers has reached bob before bob's amount is found to be too much for her.
    let trade = json!({"agent1": "ann", "agent2": "bob", "offer1": {"token": {"id": "t1"}},
                       "offer2": {"resource": "gold", "amount": max}});
    rows.push(full(row("agent:trade", trade, RANGE, "field amount:")));
    rows
}

fn game_rows() -> Vec<Row> {
    let set = |r: Row, key: &str, value: Json| r.after("game:setProperty", json!({"key": key, "value": value}));
    let turn = |r: Row, value: Json| r.after("game:setState", patch("gameLoop", json!(["turn"]), value));
    let active = |r: Row, v: Json| r.after("game:setState", patch("gameLoop", json!(["activeAgentIndex"]), v));
    let phase = || json!({"phase": "night"});
    let agents = || json!({"agentCount": 2});
    vec![
        // The phase has been set by then.
        set(row("game:nextPhase", phase(), STATE, "turn is the string \"x\""), "turn", "x".into()),
        set(row("game:nextPhase", phase(), RANGE, "field turn:"), "turn", MAX_INT.into()),
        set(row("game:resume", json!({}), STATE, "pauseTime is the string"), "pauseTime", "x".into()),
        set(
            set(row("game:resume", json!({}), STATE, "totalPauseDuration is true"), "pauseTime", 5.into()),
            "totalPauseDuration",
            true.into(),
        ),
        set(
            set(row("game:resume", json!({}), RANGE, "field totalPauseDuration:"), "pauseTime", 5.into()),
            "totalPauseDuration",
            MAX_INT.into(),
        ),
        row("game:nextTurn", json!({"agentCount": -1}), RANGE, "field agentCount: -1 is below 0"),
        turn(row("game:nextTurn", agents(), RANGE, "field turn:"), MAX_INT.into()),
        active(row("game:nextTurn", agents(), RANGE, "field activeAgentIndex: 0.5 is not a whole number"), json!(0.5)),
    ]
}

fn set_state_rows() -> Vec<Row> {
    let set = |payload: Json, code, says| row("game:setState", payload, code, says);
    let value = |key: &str, v: Json, says| set(json!({"key": key, "value": v}), STATE, says);
    let instead = |key: &str, v: Json, says| set(json!({"key": key, "value": v, "replace": true}), STATE, says);
    let patches = |p: Json, code, says| set(json!({"key": "world", "patches": p}), code, says);
    let at = |path: Json, code, says| set(patch("world", path, 1.into()), code, says);
    let nested = |n: usize| (1..n).fold(json!([]), |v, _| json!([v]));
    let long = |n: usize| vec!["k"; n].into();
    let mut rows = vec![
        // The payload itself.
        set(json!({"key": "", "value": 1}), BAD, "field key: want a string that is not empty"),
        set(json!({"key": "world"}), BAD, "field value: want value or patches, got neither"),
        set(json!({"key": "world", "patches": null}), BAD, "field value: want value or patches, got neither"),
        set(
            json!({"key": "world", "value": 1, "patches": [{"path": ["a"], "value": 1}]}),
            BAD,
            "field patches: want either",
        ),
        set(json!({"key": "world", "value": null, "patches": []}), BAD, "field patches: want either"),
        set(json!({"key": "world", "replace": true, "patches": []}), BAD, "field replace: goes with value"),
        // Values that are no patches. A right patch before a wrong one has no effect.
        patches(json!(5), BAD, "field patches: want an array"),
        patches(json!([]), BAD, "field patches: want an array of at least one patch"),
        patches(json!([5]), BAD, "field patches[0].path: want an array of at least one key"),
        patches(json!([{"value": 1}]), BAD, "field patches[0].path: want an array"),
        patches(json!([{"path": "a", "value": 1}]), BAD, "field patches[0].path: want an array"),
        patches(json!([{"path": [], "value": 1}]), BAD, "field patches[0].path: want an array of at least one key"),
        patches(
            json!([{"path": ["a"], "value": 1}, {"path": ["b", 1], "value": 1}]),
            BAD,
            "field patches[1].path: want strings",
        ),
        patches(json!([{"path": ["a"], "value": 1}, {"path": ["a"]}]), BAD, "field patches[1].value: want a value"),
        // Paths that lead nowhere. What is falsy counts as missing, so "text" and "on" are scalars
        // in the way.
        at(json!(["text", "a"]), BAD, "field patches[0].path: \"a\" leads into the string \"x\", not a map"),
        at(json!(["on", "a"]), BAD, "field patches[0].path: \"a\" leads into true, not a map"),
        at(
            json!(["deep", "list", "3"]),
            RANGE,
            "field patches[0].path: \"3\" is no index of an array of 2, nor its end",
        ),
        at(json!(["deep", "list", "-1"]), RANGE, "is no index of an array"),
        at(json!(["deep", "list", "01"]), RANGE, "is no index of an array"),
        at(json!(["deep", "list", "+1"]), RANGE, "is no index of an array"),
        at(json!(["deep", "list", ""]), RANGE, "is no index of an array"),
        at(json!(["deep", "list", "0", "a"]), BAD, "leads into 1, not a map"),
        // Too deep: by the path, by what lies at its end, by both.
        at(long(65), DEEP, "field patches[0].path: 65 keys are more than 64"),
        set(patch("world", long(64), json!({})), DEEP, "\"world\" as patched"),
        set(patch("world", json!(["deep", "a", "b", "c"]), nested(61)), DEEP, "\"world\" as patched"),
        // Sections that would be malformed.
        value("gameState", json!(5), "gameState: want a map, got 5"),
        instead("gameState", json!([]), "gameState: want a map, got an array of 0"),
        instead("gameLoop", json!(null), "gameLoop: want a map, got nil"),
        instead("gameLoop", json!({}), "gameLoop.turn: want a number, got nothing"),
        value("gameLoop", json!({"turn": "x"}), "gameLoop.turn: want a number, got the string"),
        value("gameLoop", json!({"activeAgentIndex": null}), "gameLoop.activeAgentIndex: want a number, got nil"),
        value("gameLoop", json!({"maxTurns": []}), "gameLoop.maxTurns: want a number"),
        value("gameLoop", json!({"running": 1}), "gameLoop.running: want a bool"),
        value("gameLoop", json!({"phase": 3}), "gameLoop.phase: want a string"),
        instead("rules", json!(5), "rules.fired: want a map, got nothing"),
        instead("rules", json!({}), "rules.fired: want a map, got nothing"),
        value("rules", json!({"fired": 5}), "rules.fired: want a map, got 5"),
        value("rules", json!({"other": {}}), "rules.fired: want a map, got nothing").on_bare(),
        value("transactions", json!({}), "transactions: want an array, got a map"),
        value("transactions", json!([{}, 5]), "transactions[1]: want a map, got 5"),
        value("locked", json!({}), "locked: want an array of zone names, got a map"),
        value("locked", json!(["table", 5]), "locked[]: want a string, got 5"),
        value("stack", json!(5), "stack: want a map, got 5"),
        value("stack", json!({"size": 1}), "stack: has no field \"size\""),
        instead("stack", json!({"stack": [], "drawn": []}), "stack.discards: want an array of tokens, got nothing"),
        value("stack", json!({"stack": 5}), "stack.stack: want an array of tokens, got 5"),
        // The pile before the wrong one has been replaced by then.
        value("stack", json!({"stack": [], "drawn": [{}]}), "stack.drawn[0].id: want a string, got nothing"),
        value("stack", json!({"discards": [{"id": "a"}, 5]}), "stack.discards[1]: want a token"),
        value("source", json!(5), "source: want a map, got 5"),
        value("source", json!({"stacks": 3}), "source: has no field \"stacks\""),
        value("source", json!({"tokens": 5}), "source.tokens: want an array of tokens"),
        value("source", json!({"tokens": [], "burned": [{"id": 1}]}), "source.burned[0].id: want a string"),
        value("source", json!({"tokens": [], "stackIds": []}), "source.stackIds: only source:addStack"),
        value("source", json!({"stackIds": 5}), "source.stackIds: only source:addStack"),
        value("source", json!({"tokens": [], "seed": true}), "source.seed: want a number, a string or nil, got true"),
        value("source", json!({"reshufflePolicy": null}), "source.reshufflePolicy.mode: want a string, got nothing"),
        value("source", json!({"reshufflePolicy": {"mode": 5}}), "source.reshufflePolicy.mode: want a string, got 5"),
        value(
            "source",
            json!({"reshufflePolicy": {"mode": "auto", "threshold": "x"}}),
            "source.reshufflePolicy.threshold: want a number or nil",
        ),
        value("zones", json!(5), "zones: want a map, got 5"),
        value("zones", json!({"table": {}}), "zones.table: want an array of placements, got a map"),
        value("zones", json!({"new": [5]}), "zones.new[0].tokenSnapshot: want a token, got nothing"),
        value("zones", json!({"new": [placement("p1", "x")]}), "the placement \"p1\" lies in the zones twice"),
        value("zones", json!({"new": [placement("p8", "x"), placement("p8", "y")]}), "lies in the zones twice"),
        value("agents", json!(5), "agents: want a map, got 5"),
        value("agents", json!({"ann": 5}), "agents.ann: want a map, got 5"),
        set(json!({"key": "stack", "value": {}}), NONE, "no stack is attached").on_bare(),
        set(json!({"key": "source", "value": {}}), NONE, "no source is attached").on_bare(),
    ];
    // A patch of a built-in section is checked as a value is.
    rows.extend([
        set(patch("agents", json!(["ann", "resources"]), 5.into()), STATE, "agents.ann.resources: want a map, got 5"),
        set(patch("zones", json!(["table", "0", "x"]), "1".into()), STATE, "zones.table[0].x: want a number"),
        set(patch("stack", json!(["stack", "9"]), json!({"id": "n"})), RANGE, "is no index of an array of 4"),
        set(patch("gameLoop", json!(["phase", "x"]), 1.into()), BAD, "leads into the string"),
    ]);
    // Each field of a placement, missing and of a wrong type.
    let p = placement("p9", "x9");
    let fields = [
        ("id", 5.into(), ".id: want a string"),
        ("tokenSnapshot", 5.into(), ".tokenSnapshot: want a token"),
        ("x", "1".into(), ".x: want a number"),
        ("y", "1".into(), ".y: want a number"),
        ("faceUp", 1.into(), ".faceUp: want a bool"),
        ("reversed", 1.into(), ".reversed: want a bool"),
        ("ts", "1".into(), ".ts: want a number"),
    ];
    for (field, wrong, says) in fields {
        rows.push(value("zones", json!({"new": [but(p.clone(), field, wrong)]}), says));
        rows.push(value("zones", json!({"new": [but(p.clone(), field, Json::Null)]}), says));
    }
    let no_token = but(p.clone(), "tokenSnapshot", json!({"id": 5}));
    rows.push(value("zones", json!({"new": [no_token]}), ".tokenSnapshot.id: want a string"));
    rows.push(value("zones", json!({"new": [but(p, "tags", 5.into())]}), ".tags: want an array"));
    // And of an agent.
    let cyd = json!({"id": "a-3", "name": "cyd", "active": true, "meta": {}, "resources": {}, "inventory": []});
    let fields = [
        ("name", "dan".into(), "agents.cyd.name: want the string \"cyd\""),
        ("id", 5.into(), "agents.cyd.id: want a string"),
        ("active", 1.into(), "agents.cyd.active: want a bool"),
        ("meta", json!([]), "agents.cyd.meta: want a map"),
        ("resources", 5.into(), "agents.cyd.resources: want a map"),
        ("inventory", json!({}), "agents.cyd.inventory: want an array of tokens"),
    ];
    for (field, wrong, says) in fields {
        rows.push(value("agents", json!({"cyd": but(cyd.clone(), field, wrong)}), says));
        rows.push(value("agents", json!({"cyd": but(cyd.clone(), field, Json::Null)}), says));
    }
    rows.push(value(
        "agents",
        json!({"cyd": but(cyd, "inventory", json!([{"id": 5}]))}),
        "inventory[0].id: want a string",
    ));
    rows
}

fn token_rows() -> Vec<Row> {
    let two = || json!([{"id": "m"}, {"id": "n"}]);
    let split = |each: Json| json!({"token": {"id": "m"}, "propertiesArray": each});
    let decks = |counts: Json| json!({"decks": [[{"id": "a"}], []], "counts": counts});
    let host = |held: Json| json!({"id": "m", "_attachments": held});
    vec![
        row(
            "token:attach",
            json!({"host": host(5.into()), "attachment": {"id": "n"}}),
            BAD,
            "field host._attachments: want an array, got 5",
        ),
        row(
            "token:detach",
            json!({"host": host(json!({})), "attachmentId": "n"}),
            BAD,
            "field host._attachments: want an array, got a map",
        ),
        row("token:merge", json!({"tokens": []}), FEW, "field tokens: want at least 2, got 0"),
        row("token:merge", json!({"tokens": [{"id": "m"}]}), FEW, "field tokens: want at least 2, got 1"),
        row(
            "token:merge",
            json!({"tokens": two(), "properties": {"id": 5}}),
            BAD,
            "field properties.id: want a string",
        ),
        row("token:split", split(json!([null, 5])), BAD, "field propertiesArray[1]: want a map, got 5"),
        row("token:split", split(json!([{}, {"id": 5}])), BAD, "field propertiesArray[].id: want a string"),
        row("tokens:shuffle", json!({"decks": [], "seed": 1.5}), RANGE, "field seed: 1.5 is not a whole number"),
        row("tokens:draw", decks(json!([1])), BAD, "field counts: want one for each of the 2 decks, got 1"),
        row("tokens:draw", decks(json!([1, 0, 0])), BAD, "field counts: want one for each of the 2 decks, got 3"),
        row("tokens:draw", decks(json!([1, -1])), RANGE, "field counts[1]: -1 is below 0"),
        row("tokens:draw", decks(json!([0.5, 0])), RANGE, "field counts[0]"),
        row("tokens:draw", decks(json!([9007199254740992.0, 0])), RANGE, "field counts[0]"),
        row("tokens:draw", decks(json!(["1", 0])), BAD, "field counts[0]"),
        row("tokens:filter", json!({"tokens": two(), "predicate": "odd"}), BAD, "field predicate: want reversed"),
        row("tokens:filter", json!({"tokens": two(), "predicate": "kind:card"}), BAD, "field predicate: want reversed"),
        row("tokens:map", json!({"tokens": two(), "operation": "turn"}), BAD, "field operation: want flip"),
        row("tokens:forEach", json!({"tokens": two(), "operation": ""}), BAD, "field operation: want flip"),
    ]
}

/// The values that a field of this kind refuses, and how.
fn wrong(kind: Kind) -> Vec<(Json, &'static str)> {
    let (null, yes, one, text) = (json!(null), json!(true), json!(1), json!("a"));
    let (array, map) = (json!([]), json!({}));
    let unsafe_int = json!(9007199254740992.0);
    let bad = |v: Vec<Json>| v.into_iter().map(|v| (v, BAD)).collect::<Vec<_>>();
    let range = |v: Vec<Json>| v.into_iter().map(|v| (v, RANGE)).collect::<Vec<_>>();
    let number = || bad(vec![null.clone(), yes.clone(), text.clone(), array.clone(), map.clone()]);
    let list = || bad(vec![null.clone(), yes.clone(), one.clone(), text.clone(), map.clone()]);
    let tokens =
        || [list(), bad(vec![json!([1]), json!([{}]), json!([{"id": 1}]), json!([{"id": "a"}, null])])].concat();
    match kind {
        Kind::Any => vec![],
        Kind::Bool => bad(vec![null, one, text, array, map]),
        Kind::Number => number(),
        Kind::Whole => [number(), range(vec![json!(1.5), json!(-0.1), unsafe_int])].concat(),
        Kind::Count => [number(), range(vec![json!(0), json!(-1), json!(1.5), unsafe_int])].concat(),
        Kind::Amount => [number(), range(vec![json!(-1), json!(-0.5)])].concat(),
        Kind::String | Kind::StringOf(_) => bad(vec![null, yes, one, array, map]),
        Kind::Strings => [list(), bad(vec![json!([1]), json!(["a", null])])].concat(),
        Kind::Map | Kind::MapOf(_) => bad(vec![null, yes, one, text, array]),
        Kind::Token => bad(vec![null, yes, one, text, array, map, json!({"id": 1}), json!({"id": null})]),
        Kind::Tokens => tokens(),
        Kind::Decks => {
            [list(), bad(vec![json!([1]), json!([{"id": "a"}]), json!([[1]]), json!([[], [{"id": 1}]])])].concat()
        }
        Kind::Array | Kind::ArrayOf(_) => list(),
        Kind::Seed => bad(vec![yes, array, map]),
    }
}

/// nil stands for a missing field here.
const NIL_IS_NONE: &[(&str, &str)] = &[("token:split", "propertiesArray"), ("game:setState", "patches")];

/// Checks an action that fails: its error is as expected, and the engine is as `before`
/// afterwards.
struct Checked {
    h: Host,
    before: Print,
    wrong: Vec<String>,
}

impl Checked {
    fn new(mut h: Host) -> Checked {
        let before = h.print();
        Checked { h, before, wrong: Vec::new() }
    }

    fn fails(&mut self, action: &str, payload: &[u8], code: &str, says: &str) {
        let input = request(NOW, &self.h.entropy(), action, payload);
        let answer = self.h.raw(Op::Dispatch as u32, &input);
        let what = || match scan_all(payload, 200) {
            Ok(_) => format!("{action} {}", support::unpack(payload)),
            Err(_) => format!("{action} {payload:02x?}"),
        };
        if answer.ok {
            self.wrong.push(format!("{} succeeded, want {code}: {says}", what()));
            // It may have changed the state: the rest starts from there.
            self.before = self.h.print();
            return;
        }
        let (got, message, _) = answer.error();
        if got != code || !message.contains(says) {
            self.wrong.push(format!("{}\n    want {code}: {says}\n    got  {got}: {message}", what()));
        }
        if answer.changed || answer.state_bytes != self.before.state_bytes {
            self.wrong.push(format!("{}: the reply says that the state changed", what()));
        }
        if self.h.print() != self.before {
            self.wrong.push(format!("{}: failed and had an effect", what()));
            self.before = self.h.print();
        }
    }
}

fn report(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_good_payloads_are_good_and_every_action_has_one() {
    let good: BTreeMap<_, _> = good().into_iter().collect();
    for a in Registry::builtin().iter() {
        let payload = good.get(a.name).unwrap_or_else(|| panic!("{} has no payload", a.name));
        rich().dispatch(a.name, payload, NOW).unwrap_or_else(|e| panic!("{}: {e:?}", a.name));
    }
    assert_eq!(good.len(), Registry::builtin().iter().count());
}

#[test]
fn a_payload_that_is_no_value_or_no_map() {
    let nested = |n: usize| [&b"\x81\xa1k"[..], &vec![0x91; n - 1], &[0xc0]].concat();
    let payloads: [(Vec<u8>, &str, &str); 19] = [
        (pack(&json!([])), BAD, "the payload must be a map, not an array"),
        (pack(&json!("text")), BAD, "the payload must be a map, not the string"),
        (pack(&json!(5)), BAD, "the payload must be a map, not 5"),
        (pack(&json!(true)), BAD, "the payload must be a map, not true"),
        (b"\x81".to_vec(), BAD, "ends in the middle of a value"),
        (b"\x81\xa1k".to_vec(), BAD, "ends in the middle of a value"),
        (b"\x81\xa1k\xa5abc".to_vec(), BAD, "ends in the middle of a value"),
        (b"\xdf\xff\xff\xff\xff\xa1k".to_vec(), BAD, "ends in the middle of a value"),
        (b"\x80\xc0".to_vec(), BAD, "1 bytes follow the value"),
        (b"\x81\xa1k\xcf\x00\x20\x00\x00\x00\x00\x00\x00".to_vec(), RANGE, "the integer 9007199254740992 is outside"),
        (b"\x81\xa1k\xd3\xff\xe0\x00\x00\x00\x00\x00\x00".to_vec(), RANGE, "the integer -9007199254740992 is outside"),
        (b"\x81\xa1k\xca\x7f\x80\x00\x00".to_vec(), BAD, "a number must be finite"),
        (b"\x81\xa1k\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00".to_vec(), BAD, "a number must be finite"),
        (b"\x81\xa1k\xc4\x00".to_vec(), BAD, "binary data"),
        (b"\x81\xa1k\xd4\x01\x00".to_vec(), BAD, "a MessagePack extension"),
        (b"\x81\xa1k\xa1\xff".to_vec(), BAD, "not valid UTF-8"),
        (b"\x81\x01\x01".to_vec(), BAD, "a map key must be a string"),
        (b"\x82\xa1k\x01\xa1k\x02".to_vec(), BAD, "the key \"k\" stands twice"),
        (nested(65), DEEP, "more than 64 levels deep"),
    ];
    let mut c = Checked::new(rich());
    for a in Registry::builtin().iter() {
        payloads.iter().for_each(|(payload, code, says)| c.fails(a.name, payload, code, says));
    }
    report(c.wrong);
}

#[test]
fn a_required_field_is_missing() {
    let mut c = Checked::new(rich());
    let good: BTreeMap<_, _> = good().into_iter().collect();
    for a in Registry::builtin().iter() {
        for f in a.fields.iter().filter(|f| f.need == Need::Required) {
            let payload = but(good[a.name].clone(), f.name, Json::Null);
            c.fails(a.name, &pack(&payload), BAD, &format!("field {}: want", f.name));
        }
    }
    report(c.wrong);
}

#[test]
fn a_field_is_of_the_wrong_type_or_out_of_range() {
    let mut c = Checked::new(rich());
    let good: BTreeMap<_, _> = good().into_iter().collect();
    for a in Registry::builtin().iter() {
        for f in a.fields {
            for (value, code) in wrong(f.kind) {
                if value.is_null() && NIL_IS_NONE.contains(&(a.name, f.name)) {
                    continue;
                }
                let mut payload = good[a.name].clone();
                payload[f.name] = value;
                c.fails(a.name, &pack(&payload), code, &format!("field {}", f.name));
            }
        }
    }
    report(c.wrong);
}

#[test]
fn every_row() {
    let (mut on_rich, mut on_bare) = (Checked::new(rich()), Checked::new(bare()));
    let mut wrong = Vec::new();
    for r in rows() {
        let payload = pack(&r.payload);
        let shared = if r.on == On::Rich { &mut on_rich } else { &mut on_bare };
        if r.after.is_empty() {
            shared.fails(r.action, &payload, r.code, r.says);
            continue;
        }
        let mut h = if r.on == On::Rich { rich() } else { bare() };
        for (action, p) in &r.after {
            h.dispatch(action, p, NOW).unwrap_or_else(|e| panic!("before {} {}: {action}: {e:?}", r.action, r.payload));
        }
        let mut c = Checked::new(h);
        c.fails(r.action, &payload, r.code, r.says);
        wrong.extend(c.wrong);
    }
    wrong.extend(on_rich.wrong);
    wrong.extend(on_bare.wrong);
    report(wrong);
}

/// Whether the declaration of a field alone makes a way to fail.
fn can_be_wrong(f: &Field) -> bool {
    f.need == Need::Required || !wrong(f.kind).is_empty()
}

#[test]
fn every_action_has_a_row() {
    let named: BTreeSet<&str> = rows().iter().map(|r| r.action).collect();
    let never: BTreeSet<&str> = NEVER_FAIL.iter().map(|(a, _)| *a).collect();
    for a in Registry::builtin().iter() {
        let fails = named.contains(a.name) || a.fields.iter().any(can_be_wrong);
        assert_ne!(fails, never.contains(a.name), "{} is tested to fail, or never fails: one of the two", a.name);
    }
    let known: BTreeSet<&str> = Registry::builtin().iter().map(|a| a.name).collect();
    assert!(named.union(&never).all(|a| known.contains(a)), "a row is of no action");
}

#[test]
fn what_can_not_fail_does_not() {
    for (action, why) in NEVER_FAIL {
        let fields = Registry::builtin().get(action).expect("a built-in action").fields;
        let odd: Json = fields.iter().map(|f| (f.name, json!([5]))).collect::<BTreeMap<_, _>>().into_iter().collect();
        for mut h in [rich(), bare()] {
            for payload in [json!({}), odd.clone()] {
                h.dispatch(action, &payload, NOW).unwrap_or_else(|e| panic!("{action}: {e:?}; but {why}"));
            }
        }
    }
}

#[test]
fn an_action_that_does_not_exist() {
    let mut c = Checked::new(rich());
    let long = "x".repeat(1000);
    for name in ["", "stack", "stack:", "stack:Draw", "stack:draw ", "game:set\u{e9}", &long] {
        c.fails(name, &pack(&json!({})), "unknown_action", "there is no action \"");
        // The name is looked up first: a payload that is no value does not matter.
        c.fails(name, b"\xc1", "unknown_action", "there is no action \"");
    }
    c.fails(&long, &[], "unknown_action", &format!("\"{}...\"", "x".repeat(64)));
    report(c.wrong);
}

#[test]
fn a_request_that_breaks_the_abi() {
    let mut h = rich();
    let before = h.print();
    let whole = request(NOW, &[0; 16], "stack:draw", &[]);
    let mut cut: Vec<(Vec<u8>, &str, &str)> =
        (0..whole.len()).map(|n| (whole[..n].to_vec(), "bad_request", "too short")).collect();
    cut.push((request(NOW, &[0; 16], "x", &[]), "unknown_action", "there is no action"));
    let mut name = request(NOW, &[0; 16], "x", &[]);
    *name.last_mut().unwrap() = 0xff;
    cut.push((name, "bad_request", "not valid UTF-8"));
    for now in [MAX_INT + 1, -MAX_INT - 1, i64::MAX, i64::MIN] {
        cut.push((request(now, &[0; 16], "stack:draw", &[]), RANGE, "now:"));
    }
    for (input, code, says) in cut {
        let (got, message, _) = h.raw(Op::Dispatch as u32, &input).error();
        assert!(got == code && message.contains(says), "{input:02x?}: {got}: {message}");
        assert!(h.print() == before);
        // In an atomic batch it names the member; in an independent one only that member fails.
        let good = request(NOW, &[0; 16], "stack:peek", &[]);
        let a = h.raw(Op::Batch as u32, &batch(false, &[good.clone(), input.clone()]));
        assert_eq!((a.error().0.as_str(), a.error().2), (code, Some(1)));
        let a = h.raw(Op::Batch as u32, &batch(true, &[input, good]));
        assert_eq!(a.members().iter().map(|m| m.1).collect::<Vec<_>>(), [true, false]);
        assert!(h.print() == before);
    }
    for now in [MAX_INT, -MAX_INT] {
        assert!(h.raw(Op::Dispatch as u32, &request(now, &[0; 16], "game:start", &[])).ok, "{now}");
    }
}

#[test]
fn a_batch_that_breaks_the_abi_runs_nothing() {
    let mut h = rich();
    let before = h.print();
    let draw = request(NOW, &[0; 16], "stack:draw", &[]);
    let whole = batch(true, &[draw.clone(), draw]);
    let mut all: Vec<Vec<u8>> = (0..whole.len()).map(|n| whole[..n].to_vec()).collect();
    all.push([&whole[..], &[0]].concat());
    all.push([&2u32.to_le_bytes()[..], &whole[4..]].concat());
    for count in [0u32, 1, 3, u32::MAX] {
        all.push([&whole[..4], &count.to_le_bytes(), &whole[8..]].concat());
    }
    for input in all {
        let (code, message, index) = h.raw(Op::Batch as u32, &input).error();
        assert_eq!((code.as_str(), index), ("bad_request", None), "{message}");
        assert!(h.print() == before, "{message}");
    }
    assert!(h.raw(Op::Batch as u32, &whole).ok);
    assert!(h.print() != before);
}

fn dispatch(h: &mut Host, action: &str, payload: &Json) -> Answer {
    h.raw(Op::Dispatch as u32, &request(NOW, &[9; 16], action, &pack(payload)))
}

#[test]
fn max_result_both_sides_for_every_action() {
    let mut h = rich();
    for (action, payload) in good() {
        let free = dispatch(&mut h.with_limits(Limits::default()), action, &payload);
        let n = free.body.len() as u32;
        assert!(free.ok && n > 0, "{action}");
        let mut fits = h.with_limits(Limits { max_result: n, ..Limits::default() });
        assert_eq!(dispatch(&mut fits, action, &payload), free, "{action}: a result of MaxResult bytes fits");
        let mut small = h.with_limits(Limits { max_result: n - 1, ..Limits::default() });
        let before = small.print();
        let a = dispatch(&mut small, action, &payload);
        assert!(!a.ok, "{action}: {n} bytes do not fit into {}", n - 1);
        assert_eq!(a.error().0, LARGE, "{action}");
        assert!(a.error().1.contains("MaxResult"), "{action}: {}", a.error().1);
        assert!(small.print() == before, "{action}: failed and had an effect");
    }
}

#[test]
fn max_result_bounds_the_results_of_a_batch_together() {
    let log = |n: usize| request(NOW, &[0; 16], "debug:log", &pack(&json!({"k": "x".repeat(n)})));
    let draw = request(NOW, &[0; 16], "stack:draw", &[]);
    let result = support::rich().raw(Op::Dispatch as u32, &draw).body.len() as u32;
    // {"k": "x"*20} takes 24 bytes.
    let members = [draw.clone(), log(20), log(20)];
    for (limit, fits) in [(result + 48, true), (result + 47, false)] {
        let mut h = rich().with_limits(Limits { max_result: limit, ..Limits::default() });
        let before = h.print();
        let a = h.raw(Op::Batch as u32, &batch(false, &members));
        if fits {
            assert!(a.ok && a.changed);
            assert_eq!(a.body.len() as u32, limit);
        } else {
            assert_eq!((a.error().0.as_str(), a.error().2), (LARGE, Some(2)));
            assert!(h.print() == before, "the draw is taken back too");
        }
        // On their own, the last fails and the others stay.
        let mut h = rich().with_limits(Limits { max_result: limit, ..Limits::default() });
        let a = h.raw(Op::Batch as u32, &batch(true, &members));
        let failed: Vec<bool> = a.members().iter().map(|m| m.1).collect();
        assert_eq!(failed, [false, false, !fits]);
    }
}

#[test]
fn max_state_bytes_both_sides_for_every_action_that_grows_the_state() {
    let mut h = rich();
    let mut grown = Vec::new();
    for (action, payload) in good() {
        let free = dispatch(&mut h.with_limits(Limits::default()), action, &payload);
        let n = free.state_bytes;
        if n <= h.state_bytes() {
            continue;
        }
        grown.push(action);
        let mut fits = h.with_limits(Limits { max_state: n, ..Limits::default() });
        assert_eq!(dispatch(&mut fits, action, &payload), free, "{action}: a state of MaxStateBytes fits");
        let mut small = h.with_limits(Limits { max_state: n - 1, ..Limits::default() });
        let before = small.print();
        let a = dispatch(&mut small, action, &payload);
        assert!(!a.ok, "{action}: {n} bytes do not fit into {}", n - 1);
        let want = format!("the state would hold {n} logical bytes, {} are allowed (MaxStateBytes)", n - 1);
        assert_eq!(a.error(), (LARGE.into(), want, None), "{action}");
        assert!(small.print() == before, "{action}: failed and had an effect");
    }
    for action in ["stack:insertAt", "space:place", "source:addStack", "agent:create", "game:setState", "agent:trade"] {
        assert!(grown.contains(&action), "{action} is not tested: {grown:?}");
    }
}

#[test]
fn max_state_bytes_both_sides_of_a_setup() {
    let n = Host::standard(&rich_setup()).state_bytes();
    for piece in [1, 7, CHUNK] {
        let open = |max_state| Host::open(&rich_setup(), Limits { max_state, ..Limits::default() }, piece);
        assert_eq!(open(n).unwrap_or_else(|e| panic!("{e:?}")).state_bytes(), n);
        let (code, message) = open(n - 1).err().unwrap();
        assert!(code == LARGE && message.contains("MaxStateBytes"), "{code}: {message}");
    }
}

#[test]
fn max_depth_both_sides() {
    // n containers, the payload among them.
    let nested = |n: u32| json!({"k": (1..n).fold(json!(1), |v, _| json!([v]))});
    for max in [1, 2, 64, 128] {
        let limits = Limits { max_depth: max, ..Limits::default() };
        let mut h = Host::open(&json!({}), limits, CHUNK).unwrap();
        let log = dispatch(&mut h, "debug:log", &nested(max));
        assert!(log.ok && log.body == pack(&nested(max)));
        let before = h.print();
        let (code, message) = h.dispatch("debug:log", &nested(max + 1), NOW).unwrap_err();
        assert_eq!(code, DEEP);
        assert!(message.contains(&format!("MaxDepth {max}")), "{message}");
        assert!(h.print() == before);
    }
    // Patches may make values that deep, by the path and by what lies at its end.
    for (path, value) in [(64, json!(1)), (63, json!([])), (3, (1..61).fold(json!([]), |v, _| json!([v])))] {
        rich().dispatch("game:setState", &patch("world", vec!["k"; path].into(), value), NOW).unwrap();
    }
    // A value of that depth can be kept, digested, written and restored.
    let limits = Limits { max_depth: 128, ..Limits::default() };
    let mut h = Host::open(&json!({}), limits, CHUNK).unwrap();
    let deep = nested(128)["k"].clone();
    for (action, payload) in [
        ("game:setState", json!({"key": "deep", "value": deep})),
        ("game:setProperty", json!({"key": "deep", "value": deep})),
        ("agent:create", json!({"name": "ann"})),
        ("agent:setMeta", json!({"name": "ann", "key": "deep", "value": deep})),
    ] {
        h.dispatch(action, &payload, NOW).unwrap();
    }
    let path = vec!["k"; 128];
    h.dispatch("game:setState", &patch("path", path.into(), 1.into()), NOW).unwrap();
    let before = h.print();
    assert!(Host::restore(&before.snapshot, 1000).unwrap().print() == before);
}

#[test]
fn limits_both_sides() {
    let max = MAX_INT as u64;
    let rows: [(u64, u32, u32, bool); 8] = [
        (1 << 20, 100, 0, false),
        (1 << 20, 100, 1, true),
        (1 << 20, 100, 128, true),
        (1 << 20, 100, 129, false),
        (max, u32::MAX, 64, true),
        (max + 1, 100, 64, false),
        (u64::MAX, 100, 64, false),
        (1 << 20, 0, 64, true),
    ];
    for (max_state, max_result, max_depth, fine) in rows {
        let limits = Limits { max_state, max_result, max_depth };
        let opened = Host::open(&json!({}), limits, CHUNK);
        assert_eq!(opened.is_ok(), fine, "{limits:?}");
        match opened {
            Ok(mut h) => assert!(Host::restore(&h.print().snapshot, CHUNK).unwrap().print() == h.print(), "{limits:?}"),
            Err((code, _)) => assert_eq!(code, RANGE),
        }
    }
    // An empty state has a size too.
    let n = bare_bytes();
    assert!(Host::open(&json!({}), Limits { max_state: n, ..Limits::default() }, CHUNK).is_ok());
    assert!(Host::open(&json!({}), Limits { max_state: n - 1, ..Limits::default() }, CHUNK).is_err());
    let input = limits_bytes(Limits::default());
    for n in 0..input.len() {
        assert_eq!(Host::new(Registry::builtin()).call(Op::Open, &input[..n]).unwrap_err().0, "bad_request");
    }
}

fn bare_bytes() -> u64 {
    Host::standard(&json!({})).state_bytes()
}

#[test]
fn the_room_for_input_both_sides() {
    let mut core = Core::new(Registry::builtin());
    assert_eq!(core.input(MAX_INPUT).map(|b| b.len()), Some(MAX_INPUT));
    assert!(core.input(MAX_INPUT + 1).is_none());
    // A call names how much of it there is.
    assert_eq!(core.input(4).map(|b| b.len()), Some(4));
    assert!(core.call(Op::Actions as u32, 4).ok);
    assert!(!core.call(Op::Actions as u32, 5).ok);
    assert!(!core.call(Op::Actions as u32, usize::MAX).ok);
}

// Each of these once broke an engine.

#[test]
fn errors_take_nothing_from_max_result_and_add_nothing_to_it() {
    let log = request(NOW, &[0; 16], "debug:log", &pack(&json!({"k": "x".repeat(60)})));
    let failing = request(NOW, &[0; 16], "no:action", &[]);
    let mut h = rich().with_limits(Limits { max_result: 50, ..Limits::default() });
    assert_eq!(h.raw(Op::Dispatch as u32, &log).error().0, LARGE);
    let a = h.raw(Op::Batch as u32, &batch(true, &[failing, log]));
    let failed: Vec<bool> = a.members().iter().map(|m| m.1).collect();
    assert_eq!(failed, [true, true], "64 bytes do not fit into 50, whatever failed before");
}

/// A host takes an error of more than 64 KiB for a core that is broken, and closes the engine's
/// instance.
#[test]
fn errors_are_short_whatever_the_payload_has() {
    let mut h = rich();
    let key = "\u{1b}é".repeat(40_000);
    let (code, message) = h.dispatch("game:setState", &patch(&key, vec!["d"; 64].into(), json!({})), 1).unwrap_err();
    assert!(code == DEEP && message.len() < 1024 && !message.contains('\u{1b}'), "{code}: {message}");
}

/// The code and the message of an error from a core of one's own are bounded, too.
#[test]
fn a_handlers_error_is_bounded() {
    const LONG: Action = Action {
        name: "own:long",
        about: "",
        fields: &[required("n", Kind::Count)],
        handler: |_, p| {
            let n = p.whole("n", None, 0)? as usize;
            Err(Error::new("c".repeat(n), format!("x{}", "é".repeat(n))))
        },
    };
    let mut r = Registry::builtin();
    r.register(LONG);
    let mut h = Host::new(r);
    h.call(Op::Open, &limits_bytes(Limits::default())).unwrap();
    h.call(Op::Ready, &[]).unwrap();
    for (n, code, message) in
        [(256, 256, 513), (257, 256, 515), (4095, 256, 8191), (4096, 256, 8192), (99_999, 256, 8192)]
    {
        let (c, m) = h.dispatch("own:long", &json!({"n": n}), 1).unwrap_err();
        assert_eq!((c.len(), m.len()), (code, message), "{n}");
        assert_eq!((c.ends_with("..."), m.ends_with("...")), (n > 256, n > 4095), "{n}");
    }
}
