//! Actions that run other actions. To the host they are one action, which takes effect as a whole
//! or not at all.

use hypertoken_core::testing::Table;
use hypertoken_core::{
    Action, At, Context, Error, Kind, Limits, MAX_CALL_DEPTH, Pile, Placed, Registry, Result, Token, code, handler,
    payload, required, rest,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Card {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    player: String,
    count: u8,
}

/// Draws, places and counts; then fails if the count is 3.
fn play(cx: &mut Context<'_>, m: Move) -> Result<Vec<Card>> {
    let cards: Vec<Card> = cx.call("agent:drawCards", &payload! { name: m.player, count: m.count })?;
    for card in &cards {
        cx.run("agent:removeToken", &payload! { name: m.player, tokenId: card.id })?;
        cx.run("space:place", &payload! { zone: "table", card: card })?;
    }
    let moves: u32 = cx.game("moves")?.unwrap_or(0);
    cx.set_game("moves", &(moves + 1))?;
    cx.raise("played", &cards)?;
    if m.count == 3 {
        return Err(Error::new("too_many", format!("field count: {} is above 2", m.count)));
    }
    Ok(cards)
}

/// Tries a play that fails, and goes on.
fn swallow(cx: &mut Context<'_>, m: Move) -> Result<String> {
    cx.set_game("before", &true)?;
    let failed = cx.call::<Vec<Card>>("play", &payload! { player: m.player, count: 3 }).unwrap_err();
    assert_eq!(cx.pile::<Card>(Pile::Drawn)?.len(), 0, "the call's effects are gone at once");
    assert_eq!(cx.game::<u32>("moves")?, None);
    assert!(cx.zone::<Card>("table")?.is_empty());
    cx.run("play", &payload! { player: m.player, count: m.count })?;
    Ok(failed.code.into_owned())
}

fn recurse(cx: &mut Context<'_>, _: ()) -> Result<u32> {
    cx.set_game("deepest", &true)?;
    match cx.call::<u32>("recurse", &()) {
        Ok(n) => Ok(n + 1),
        Err(e) if e.code == code::TOO_DEEP => Ok(0),
        Err(e) => Err(e),
    }
}

fn forever(cx: &mut Context<'_>, _: ()) -> Result<()> {
    cx.run("forever", &())
}

/// Two unseeded shuffles, and identifiers before, within and after.
fn chance(cx: &mut Context<'_>, _: ()) -> Result<Json> {
    let first = cx.identifier();
    cx.run("stack:shuffle", &())?;
    let one: Vec<Card> = cx.pile(Pile::Stack)?;
    let agent: Json = cx.call("agent:create", &payload! { name: "zoe" })?;
    cx.run("stack:reset", &())?;
    cx.run("stack:shuffle", &())?;
    let two: Vec<Card> = cx.pile(Pile::Stack)?;
    Ok(json!({"one": one, "two": two, "ids": [first, agent["id"], cx.identifier()], "own": cx.rng().unit()}))
}

fn registry() -> Registry {
    let mut r = Registry::builtin();
    let fields = &[required("player", Kind::String), required("count", Kind::Count)];
    r.register(Action { name: "play", about: "Plays.", fields, handler: handler!(play) });
    r.register(Action { name: "swallow", about: "Fails and plays.", fields, handler: handler!(swallow) });
    r.register(Action { name: "recurse", about: "Calls itself.", fields: &[], handler: handler!(recurse) });
    r.register(Action { name: "forever", about: "Calls itself.", fields: &[], handler: handler!(forever) });
    r.register(Action { name: "chance", about: "Draws lots.", fields: &[], handler: handler!(chance) });
    r
}

fn deck(n: usize) -> Json {
    json!({"stack": (0..n).map(|i| json!({"id": format!("c{i}")})).collect::<Vec<_>>()})
}

fn table() -> Table {
    let mut t = Table::open(registry(), &deck(6));
    t.run::<Json>("agent:create", &payload! { name: "ann" }).unwrap();
    t
}

#[test]
fn a_move_is_one_action() {
    let mut t = table();
    let played: Vec<Card> = t.run("play", &payload! { player: "ann", count: 2 }).unwrap();
    assert_eq!(played, [Card { id: "c5".into() }, Card { id: "c4".into() }]);
    assert_eq!(t.state::<Vec<Json>>(&["zones", "table"]).len(), 2);
    assert_eq!(t.state::<u32>(&["gameState", "moves"]), 1);
    assert_eq!(t.events::<Vec<Card>>(), [("played".to_string(), played)]);
}

/// The harness compares the digests before and after.
#[test]
fn a_move_that_fails_leaves_nothing() {
    let mut t = table();
    assert_eq!(t.refused("play", &payload! { player: "ann", count: 3 }), "too_many");
    assert_eq!(t.refused("play", &payload! { player: "nobody", count: 1 }), "not_found");
    assert_eq!(t.events::<Json>(), []);
    assert_eq!(t.state::<Vec<Json>>(&["stack", "stack"]).len(), 6);
}

#[test]
fn a_call_that_fails_has_no_effect_though_the_caller_goes_on() {
    let mut t = table();
    assert_eq!(t.run::<String>("swallow", &payload! { player: "ann", count: 1 }).unwrap(), "too_many");
    assert_eq!(t.state::<u32>(&["gameState", "moves"]), 1, "the play that failed is not counted");
    assert!(t.state::<bool>(&["gameState", "before"]), "what the caller did before it stays");
    assert_eq!(t.state::<Vec<Json>>(&["zones", "table"]).len(), 1);
    assert_eq!(t.events::<Vec<Card>>().len(), 1, "and raises no event");
    // The logical bytes are those of an engine that never saw the failure.
    let mut same = table();
    same.run::<Json>("game:setProperty", &payload! { key: "before", value: true }).unwrap();
    same.run::<Json>("play", &payload! { player: "ann", count: 1 }).unwrap();
    let stack = |t: &mut Table| t.state::<Vec<Card>>(&["stack", "stack"]);
    assert_eq!(stack(&mut t), stack(&mut same));
}

#[test]
fn calls_are_bounded_in_depth() {
    let mut t = table();
    assert_eq!(t.run::<u32>("recurse", &()).unwrap(), MAX_CALL_DEPTH);
    let e = t.run::<()>("forever", &()).unwrap_err();
    assert_eq!(&*e.code, code::TOO_DEEP);
    assert_eq!(e.message, "the action \"forever\" is not called: actions may call each other 8 deep (MAX_CALL_DEPTH)");
}

#[test]
fn calls_share_the_entropy_and_do_not_repeat_it() {
    let mut t = Table::open(registry(), &deck(30));
    let v: Json = t.run("chance", &()).unwrap();
    assert_ne!(v["one"], v["two"], "the second shuffle is another one");
    let ids: std::collections::BTreeSet<String> =
        v["ids"].as_array().unwrap().iter().map(|i| i.as_str().unwrap().to_string()).collect();
    assert_eq!(ids.len(), 3, "no identifier comes twice");
    // An action that the host dispatches itself, with the same entropy, has the same result as
    // before.
    let mut alone = Table::open(registry(), &deck(30));
    alone.run::<()>("stack:shuffle", &()).unwrap();
    let shuffled: Json = alone.state(&["stack", "stack"]);
    assert_ne!(shuffled, v["one"], "a call's stream is its own");
}

#[test]
fn an_unknown_action_and_a_bad_payload_are_errors_of_the_call() {
    fn wrong(cx: &mut Context<'_>, _: ()) -> Result<Vec<String>> {
        let mut codes = Vec::new();
        for (action, p) in [("no:such", json!({})), ("stack:draw", json!({"count": "x"})), ("stack:draw", json!([1]))] {
            codes.push(cx.call::<Json>(action, &p).unwrap_err().code.into_owned());
        }
        codes.push(
            cx.call::<Json>("debug:log", &json!({"x": f64::MAX})).map_or_else(|e| e.code.into(), |_| "ok".into()),
        );
        codes.push(cx.call::<u8>("stack:draw", &()).unwrap_err().message);
        Ok(codes)
    }
    let mut r = registry();
    r.register(Action { name: "wrong", about: "", fields: &[], handler: handler!(wrong) });
    let mut t = Table::open(r, &deck(2));
    assert_eq!(
        t.run::<Vec<String>>("wrong", &()).unwrap(),
        [
            "unknown_action",
            "bad_payload",
            "bad_payload",
            "ok",
            "the result of stack:draw: want a whole number, got an array of 1",
        ]
    );
}

/// An inner result above MaxResult is that call's error; one below is not.
#[test]
fn a_call_is_held_to_the_limits() {
    fn peek(cx: &mut Context<'_>, _: ()) -> Result<String> {
        Ok(match cx.call::<Vec<Token>>("stack:peek", &payload! { count: 6 }) {
            Ok(all) => all.len().to_string(),
            Err(e) => e.code.into_owned(),
        })
    }
    let mut r = registry();
    r.register(Action { name: "peek", about: "", fields: &[], handler: handler!(peek) });
    // Six tokens of 7 bytes and the array's header are 43 bytes.
    for (max_result, want) in [(43, "6"), (42, "too_large")] {
        let mut t = Table::with_limits(r.clone(), &deck(6), Limits { max_result, ..Limits::default() });
        assert_eq!(t.run::<String>("peek", &()).unwrap(), want);
    }
}

#[test]
fn the_state_is_read_and_written_as_types() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Score {
        tricks: Vec<u8>,
    }
    fn look(cx: &mut Context<'_>, _: ()) -> Result<Json> {
        assert_eq!(cx.game::<Score>("score")?, None);
        cx.set_game("score", &Score { tricks: vec![1, 2] })?;
        assert_eq!(cx.game("score")?, Some(Score { tricks: vec![1, 2] }));
        cx.set_game("none", &None::<u8>)?;
        assert_eq!(cx.game::<u8>("none")?, None);
        cx.write(At::Extra, "own", &7)?;
        assert_eq!(cx.read::<u8>(At::Extra, "own")?, Some(7));
        let wrong = cx.game::<u8>("score").unwrap_err();
        assert_eq!((&*wrong.code, &*wrong.message), ("bad_state", "the state's score: want a whole number, got a map"));
        cx.run("space:place", &payload! { zone: "table", card: Card { id: "x".into() }, opts: payload! { x: 1.5 } })?;
        let placed: Vec<Placed<Card>> = cx.zone("table")?;
        assert_eq!((placed[0].token.id.as_str(), placed[0].x, placed.len()), ("x", 1.5, 1));
        assert_eq!(cx.top::<Card>(Pile::Stack)?, Some(Card { id: "c5".into() }));
        assert_eq!(cx.top::<Card>(Pile::Discards)?, None);
        assert_eq!(&*cx.hand::<Card>("nobody").unwrap_err().code, "not_found");
        Ok(json!({"agents": cx.agents(), "hand": cx.hand::<Card>("ann")?}))
    }
    let mut r = registry();
    r.register(Action { name: "look", about: "", fields: &[], handler: handler!(look) });
    let mut t = Table::open(r, &deck(6));
    t.run::<Json>("agent:create", &payload! { name: "ann" }).unwrap();
    t.run::<Json>("agent:addToken", &payload! { name: "ann", token: Card { id: "t".into() } }).unwrap();
    assert_eq!(t.run::<Json>("look", &()).unwrap(), json!({"agents": ["ann"], "hand": [{"id": "t"}]}));
}

/// The state is nested two levels deep already: a value that could not be restored is refused.
#[test]
fn a_value_of_the_state_is_bounded_in_depth() {
    fn nest(cx: &mut Context<'_>, p: Json) -> Result<()> {
        let mut v = Json::Null;
        for _ in 0..p["n"].as_f64().unwrap_or(0.0) as usize {
            v = json!([v]);
        }
        cx.set_game("deep", &v)
    }
    let mut r = registry();
    r.register(Action { name: "nest", about: "", fields: &[rest()], handler: handler!(nest) });
    let limits = Limits { max_depth: 10, ..Limits::default() };
    let mut t = Table::with_limits(r, &deck(1), limits);
    assert_eq!(t.run::<()>("nest", &json!({"n": 9})), Ok(()));
    assert_eq!(t.refused("nest", &json!({"n": 10})), "too_deep");
}

/// A handler that depends on something else is found by the harness, before a host finds it at a
/// recovery.
#[test]
#[should_panic(expected = "an engine that was restored from a snapshot answers")]
fn the_harness_finds_what_differs_in_a_replay() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let mut r = Registry::new();
    fn differ(_: &mut Context<'_>, _: ()) -> Result<u32> {
        Ok(CALLS.fetch_add(1, Relaxed))
    }
    r.register(Action { name: "differ", about: "", fields: &[], handler: handler!(differ) });
    let _ = Table::open(r, &()).run::<u32>("differ", &());
}
