//! game:setState against a plain implementation of it over JSON.

mod support;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use support::{Host, NOW, check};

/// Does the same as game:setState for a key that is no built-in section, in the simplest way. None
/// if it fails.
fn expected(old: Option<&Json>, payload: &Json) -> Option<Json> {
    if let Some(value) = payload.get("value") {
        let (Some(Json::Object(base)), false) = (old, payload["replace"] == json!(true)) else {
            return Some(value.clone());
        };
        let mut base = base.clone();
        match value {
            Json::Object(m) => base.extend(m.clone()),
            Json::Array(a) => base.extend(a.iter().enumerate().map(|(i, v)| (i.to_string(), v.clone()))),
            _ => return Some(value.clone()),
        }
        return Some(base.into());
    }
    let mut now = old.cloned().unwrap_or(Json::Null);
    for patch in payload["patches"].as_array()? {
        let mut at = &mut now;
        for key in patch["path"].as_array()? {
            let key = key.as_str()?;
            if at.is_null() || *at == json!(false) || at.as_f64() == Some(0.0) || *at == json!("") {
                *at = Json::Object(Map::new());
            }
            at = match at {
                Json::Object(m) => m.entry(key).or_insert(Json::Null),
                Json::Array(a) => {
                    let i: usize = key.parse().ok().filter(|i: &usize| i.to_string() == key && *i <= a.len())?;
                    if i == a.len() {
                        a.push(Json::Null);
                    }
                    &mut a[i]
                }
                _ => return None,
            };
        }
        *at = patch["value"].clone();
    }
    Some(now)
}

fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(false)),
        Just(json!(0)),
        Just(json!("")),
        Just(json!("text")),
        (1..300i32).prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(key(), inner, 0..4).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "bb", "0", "1", "2", "01", "", "zz"]).prop_map(String::from)
}

fn payload() -> impl Strategy<Value = Json> {
    let patch =
        (prop::collection::vec(key(), 1..5), value()).prop_map(|(path, value)| json!({"path": path, "value": value}));
    prop_oneof![
        6 => prop::collection::vec(patch, 1..8).prop_map(|patches| json!({"key": "k", "patches": patches})),
        2 => value().prop_map(|v| json!({"key": "k", "value": v})),
        1 => value().prop_map(|v| json!({"key": "k", "value": v, "replace": true})),
    ]
}

/// As numbers compare: the core's come back as floats.
fn floats(v: &Json) -> Json {
    match v {
        Json::Number(n) => n.as_f64().into(),
        Json::Array(a) => a.iter().map(floats).collect::<Vec<_>>().into(),
        Json::Object(m) => m.iter().map(|(k, v)| (k.clone(), floats(v))).collect::<Map<_, _>>().into(),
        v => v.clone(),
    }
}

#[test]
fn set_state_does_what_it_says() {
    check(1500, prop::collection::vec(payload(), 1..6), |payloads| {
        let mut h = Host::standard(&json!({}));
        let mut now: Option<Json> = None;
        for p in &payloads {
            let before = h.print();
            match (expected(now.as_ref(), p), h.dispatch("game:setState", p, NOW)) {
                (Some(want), Ok(got)) => {
                    assert_eq!(floats(&want), got, "{p}");
                    assert_eq!(h.state()["k"], floats(&want), "{p}");
                    now = Some(want);
                }
                (None, Err(_)) => assert!(h.print() == before, "{p} failed and had an effect"),
                (want, got) => panic!("{p} on {now:?}: want {want:?}, got {got:?}"),
            }
        }
    });
}

/// As deep as MaxDepth allows, in the old value, in the new one and in the path; the stack does
/// not grow with it.
#[test]
fn depth() {
    let mut h = Host::standard(&json!({}));
    let path = vec!["a"; 64];
    h.dispatch("game:setState", &json!({"key": "k", "patches": [{"path": path, "value": 1}]}), NOW).unwrap();
    let fork = |last: &'static str| [vec!["a"; 63], vec![last]].concat();
    let patches = json!([{"path": fork("b"), "value": 2}, {"path": fork("a"), "value": 3}]);
    h.dispatch("game:setState", &json!({"key": "k", "patches": patches}), NOW).unwrap();
    let mut inner = &h.state()["k"];
    for _ in 0..63 {
        inner = &inner["a"];
    }
    assert_eq!(inner, &json!({"a": 3.0, "b": 2.0}));
    let (code, message) = h
        .dispatch("game:setState", &json!({"key": "k", "patches": [{"path": fork("c"), "value": [1]}]}), NOW)
        .unwrap_err();
    assert_eq!(code, "too_deep", "{message}");
}
