//! Members that no action reads are errors. The error names the member that was probably meant.

mod support;

use hypertoken_core::abi::{CHUNK, Op};
use hypertoken_core::{Action, Kind, Limits, Registry, default, optional, rest};
use serde_json::{Value as Json, json};
use support::{Host, limits_bytes, rich};

fn refused(h: &mut Host, action: &str, payload: &Json, message: &str) {
    let before = h.print();
    let (code, got) = h.dispatch(action, payload, 1).expect_err(&format!("{action} {payload}"));
    assert_eq!((code.as_str(), got.as_str()), ("bad_payload", message), "{action} {payload}");
    assert!(h.print() == before, "{action} {payload} failed and had an effect");
}

#[test]
fn members_of_payloads() {
    let mut h = rich();
    let token = json!({"id": "x", "anything": {"goes": 1}});
    for (action, payload, message) in [
        ("stack:draw", json!({"cuont": 3}), r#"unknown field "cuont": did you mean "count"?"#),
        ("stack:draw", json!({"Count": 3}), r#"unknown field "Count": did you mean "count"?"#),
        ("stack:draw", json!({"count": 1, "n": 3}), r#"unknown field "n": stack:draw takes count"#),
        ("stack:reset", json!({"seed": 3}), r#"unknown field "seed": stack:reset takes no fields"#),
        ("stack:swap", json!({"i": 0, "jj": 1}), r#"unknown field "jj": did you mean "j"?"#),
        ("space:place", json!({"zone": "z", "crad": token}), r#"unknown field "crad": did you mean "card"?"#),
        (
            "space:place",
            json!({"zone": "z", "card": token, "opts": {"faceup": false}}),
            r#"unknown field "faceup" in opts: did you mean "faceUp"?"#,
        ),
        (
            "space:place",
            json!({"zone": "z", "card": token, "faceUp": false}),
            r#"unknown field "faceUp": space:place takes zone, card, opts"#,
        ),
        (
            "agent:trade",
            json!({"agent1": "ann", "agent2": "bob", "offer1": {"resorce": "gold"}, "offer2": {}}),
            r#"unknown field "resorce" in offer1: did you mean "resource"?"#,
        ),
        (
            "source:addStack",
            json!({"stack": {"tokens": [], "seed": 1}}),
            r#"unknown field "seed" in stack: stack takes tokens"#,
        ),
        (
            "game:setState",
            json!({"key": "k", "patches": [{"path": ["a"], "value": 1}, {"path": ["b"], "value": 1, "op": "put"}]}),
            r#"unknown field "op" in patches[1]: patches[1] takes path, value"#,
        ),
    ] {
        refused(&mut h, action, &payload, message);
    }
    let long = "x".repeat(1000);
    let clipped = "x".repeat(64);
    let message = format!("unknown field {:?}: stack:draw takes count", format!("{clipped}..."));
    refused(&mut h, "stack:draw", &json!({long: 1}), &message);
}

#[test]
fn members_that_are_anything() {
    let mut h = rich();
    // Tokens, maps that are kept, and actions that say so.
    for (action, payload) in [
        ("stack:insertAt", json!({"card": {"id": "x", "cuont": 1}})),
        ("agent:create", json!({"name": "new", "meta": {"cuont": 1}})),
        ("game:mergeState", json!({"state": {"cuont": 1}})),
        ("token:transform", json!({"token": {"id": "x"}, "properties": {"cuont": 1}})),
        ("debug:log", json!({"cuont": 1})),
        // The traces have label; the reference's own type has x and y.
        ("space:createZone", json!({"name": "other", "label": "Z", "x": 1, "y": 2})),
    ] {
        h.dispatch(action, &payload, 1).unwrap_or_else(|e| panic!("{action} {payload}: {e:?}"));
    }
    assert_eq!(h.state()["zones"]["other"], json!([]));
}

/// token:transform takes any properties.
#[test]
fn a_transformed_token_may_be_none() {
    let mut h = rich();
    for id in [json!(5.5), json!(null), json!({}), json!("y")] {
        let payload = json!({"token": {"id": "x", "a": "b"}, "properties": {"id": id}});
        let got = h.dispatch("token:transform", &payload, 1).unwrap();
        assert_eq!(got, json!({"_transformedFrom": "x", "a": "b", "id": id}));
    }
}

/// Every built-in action but debug:log refuses a member that it does not describe.
#[test]
fn every_action_is_strict() {
    let mut h = rich();
    for a in Registry::builtin().iter().filter(|a| a.name != "debug:log") {
        let (code, message) = h.dispatch(a.name, &json!({"zzzzzzzz": 1}), 1).expect_err(a.name);
        assert_eq!(code, "bad_payload", "{}", a.name);
        assert!(message.starts_with("unknown field \"zzzzzzzz\""), "{}: {message}", a.name);
    }
}

#[test]
fn actions_of_ones_own() {
    const NONE: Action = Action { name: "own:none", about: "", fields: &[], handler: |_, _| Ok(()) };
    const SOME: &[hypertoken_core::Field] = &[default("rounds", Kind::Whole, "1")];
    const MORE: &[hypertoken_core::Field] = &[optional("rounds", Kind::Whole), rest()];
    let mut r = Registry::builtin();
    r.register(NONE);
    r.register(Action { name: "own:some", fields: SOME, ..NONE });
    r.register(Action { name: "own:more", fields: MORE, ..NONE });
    let mut h = Host::new(r);
    h.call(Op::Open, &limits_bytes(Limits::default())).unwrap();
    h.call(Op::Ready, &[]).unwrap();
    refused(&mut h, "own:none", &json!({"x": 1}), r#"unknown field "x": own:none takes no fields"#);
    refused(&mut h, "own:some", &json!({"round": 1}), r#"unknown field "round": did you mean "rounds"?"#);
    for (action, payload) in
        [("own:none", json!({})), ("own:some", json!({"rounds": 1})), ("own:more", json!({"x": 1}))]
    {
        h.dispatch(action, &payload, 1).unwrap_or_else(|e| panic!("{action} {payload}: {e:?}"));
    }
}

#[test]
fn members_of_setups() {
    for (setup, message) in [
        (json!({"stak": []}), r#"unknown field "stak" in setup: did you mean "stack"?"#),
        (
            json!({"stack": [{"id": "a"}], "agents": {}}),
            r#"unknown field "agents" in setup: setup takes source, stack"#,
        ),
        (
            json!({"source": {"stacks": [], "reshufle": {}}}),
            r#"unknown field "reshufle" in setup.source: did you mean "reshuffle"?"#,
        ),
        (
            json!({"source": {"stacks": [], "seed": 1}}),
            r#"unknown field "seed" in setup.source: setup.source takes reshuffle, stacks"#,
        ),
        (
            json!({"source": {"reshuffle": {"treshold": 1}}}),
            r#"unknown field "treshold" in setup.source.reshuffle: did you mean "threshold"?"#,
        ),
    ] {
        for piece in [1, 7, CHUNK] {
            let got =
                Host::open(&setup, Limits::default(), piece).err().unwrap_or_else(|| panic!("{setup} was accepted"));
            assert_eq!(got, ("bad_payload".to_string(), message.to_string()), "{setup} in pieces of {piece}");
        }
    }
    for setup in [
        json!({}),
        json!({"stack": null, "source": null}),
        json!({"stack": [{"id": "a", "stak": 1}], "source": {"stacks": [[{"id": "b", "x": 1}]], "reshuffle": null}}),
        json!({"source": {"reshuffle": {"threshold": 1, "mode": "auto"}}}),
    ] {
        for piece in [1, 7, CHUNK] {
            Host::open(&setup, Limits::default(), piece).unwrap_or_else(|e| panic!("{setup}: {e:?}"));
        }
    }
}
