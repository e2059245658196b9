//! Payloads and results as types: the values that each type accepts, and the errors.

mod support;

use hypertoken_core::testing::Table;
use hypertoken_core::{Action, BAD_RESULT, Context, Error, Raw, Registry, Result, Token, handler, rest};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use support::{check, pack};

/// A core with one action, `t`, which answers with its payload as a P has it.
fn echo<P>() -> Table
where
    P: for<'p> Deserialize<'p> + Serialize,
{
    let mut r = Registry::new();
    r.register(Action {
        name: "t",
        about: "Returns its payload.",
        fields: &[rest()],
        handler: |cx, p| hypertoken_core::run_typed(cx, p, |_, p: P| Ok::<P, Error>(p)),
    });
    Table::open(r, &())
}

fn answer<P>(payload: Json) -> Result<Json>
where
    P: for<'p> Deserialize<'p> + Serialize,
{
    echo::<P>().run("t", &payload)
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum Suit {
    Hearts,
    Spades,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Card {
    suit: Suit,
    rank: u8,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum Bid {
    Pass,
    Tricks(u8),
    Exact { tricks: i8, trump: Option<Suit> },
    Pair(u8, u8),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Play {
    player: String,
    cards: Vec<Card>,
    #[serde(default)]
    times: Option<i64>,
    #[serde(default)]
    weight: f64,
    #[serde(default)]
    bid_now: Option<Bid>,
    #[serde(default)]
    points: BTreeMap<u16, i32>,
}

#[test]
fn a_payload_is_its_type() {
    let whole = json!({
        "player": "ann",
        "cards": [{"suit": "Hearts", "rank": 7}, {"suit": "Spades", "rank": 255}],
        "times": -9007199254740991i64,
        "weight": 0.25,
        "bidNow": {"Exact": {"tricks": -128, "trump": "Spades"}},
        "points": {"10": 1, "2": -1},
    });
    assert_eq!(answer::<Play>(whole.clone()).map_err(|e| e.message), Ok(numbers(whole)));
    let least = json!({"player": "", "cards": []});
    let filled = json!({"player": "", "cards": [], "times": null, "weight": 0, "bidNow": null, "points": {}});
    assert_eq!(answer::<Play>(least), Ok(numbers(filled)));
}

/// JSON as the harness reads it: all numbers as floats or integers, whichever serde_json makes of
/// a core's.
fn numbers(v: Json) -> Json {
    let raw = Raw::new(&v).unwrap();
    raw.to().unwrap()
}

#[test]
fn an_error_names_the_field_the_value_and_the_limit() {
    let cards = |card: Json| json!({"player": "ann", "cards": [{"suit": "Spades", "rank": 1}, card]});
    for (payload, code, message) in [
        (json!({"cards": []}), "bad_payload", "field player: want a value, got nothing"),
        (json!({"player": 7, "cards": []}), "bad_payload", "field player: want a string, got 7"),
        (json!({"player": null, "cards": []}), "bad_payload", "field player: want a string, got nil"),
        (json!({"player": "ann", "cards": {}}), "bad_payload", "field cards: want an array, got a map"),
        (cards(json!({"suit": "Spades"})), "bad_payload", "field cards[1].rank: want a value, got nothing"),
        (cards(json!({"suit": "Spades", "rank": 256})), "out_of_range", "field cards[1].rank: 256 is outside 0..255"),
        (cards(json!({"suit": "Spades", "rank": -1})), "out_of_range", "field cards[1].rank: -1 is outside 0..255"),
        (
            cards(json!({"suit": "Spades", "rank": 1.5})),
            "out_of_range",
            "field cards[1].rank: 1.5 is not a whole number within ±9007199254740991",
        ),
        (
            cards(json!({"suit": "Spades", "rank": "x"})),
            "bad_payload",
            "field cards[1].rank: want a whole number, got the string \"x\"",
        ),
        (
            cards(json!({"suit": "Cups", "rank": 1})),
            "bad_payload",
            "field cards[1].suit: want one of Hearts, Spades, got the string \"Cups\"",
        ),
        (
            cards(json!({"suit": "Spades", "rnak": 1})),
            "bad_payload",
            "field cards[1].rnak: there is no such field; did you mean \"rank\"?",
        ),
        (
            cards(json!({"suit": "Spades", "rank": 1, "x": 1})),
            "bad_payload",
            "field cards[1].x: there is no such field; want one of suit, rank",
        ),
        (cards(json!([1, 2])), "bad_payload", "field cards[1]: want a map, got an array of 2"),
        (
            json!({"player": "ann", "cards": [], "bidnow": "Pass"}),
            "bad_payload",
            "field bidnow: there is no such field; did you mean \"bidNow\"?",
        ),
        (
            json!({"player": "ann", "cards": [], "bidNow": "Tricks"}),
            "bad_payload",
            "field bidNow: want a map with data for Tricks, got the string \"Tricks\"",
        ),
        (
            json!({"player": "ann", "cards": [], "bidNow": {"Exact": {"tricks": 128}}}),
            "out_of_range",
            "field bidNow.Exact.tricks: 128 is outside -128..127",
        ),
        (
            json!({"player": "ann", "cards": [], "bidNow": {"Pair": [1, 2, 3]}}),
            "bad_payload",
            "field bidNow.Pair: want 2 items, got 3",
        ),
        (
            json!({"player": "ann", "cards": [], "bidNow": {"Pass": 1}}),
            "bad_payload",
            "field bidNow.Pass: want nothing, got 1",
        ),
        (
            json!({"player": "ann", "cards": [], "bidNow": 7}),
            "bad_payload",
            "field bidNow: want one of Pass, Tricks, Exact, Pair, got 7",
        ),
        (
            json!({"player": "ann", "cards": [], "points": {"x": 1}}),
            "bad_payload",
            "field points.x: want a whole number of 0 to 65535 as the key",
        ),
        (
            json!({"player": "ann", "cards": [], "points": {"65536": 1}}),
            "bad_payload",
            "field points.65536: want a whole number of 0 to 65535 as the key",
        ),
        (json!({"player": "ann", "cards": [], "weight": true}), "bad_payload", "field weight: want a number, got true"),
    ] {
        let e = answer::<Play>(payload.clone()).expect_err(&payload.to_string());
        assert_eq!((&*e.code, &*e.message), (code, message), "{payload}");
    }
}

#[test]
fn a_long_value_is_clipped_in_the_message() {
    let e = answer::<Play>(json!({"player": "ann", "cards": [{"suit": "S".repeat(1000), "rank": 1}]})).unwrap_err();
    assert!(e.message.len() < 200, "{}", e.message);
    let e = answer::<Play>(json!({"player": "ann", "cards": [], "k".repeat(1000): 1})).unwrap_err();
    assert!(e.message.len() < 300, "{}", e.message);
}

#[test]
fn whole_numbers_are_held_to_their_type_and_to_those_of_values() {
    const MAX: i64 = (1 << 53) - 1;
    assert_eq!(answer::<BTreeMap<String, i64>>(json!({"n": MAX})), Ok(numbers(json!({"n": MAX}))));
    assert_eq!(answer::<BTreeMap<String, u64>>(json!({"n": MAX})), Ok(numbers(json!({"n": MAX}))));
    assert_eq!(answer::<BTreeMap<String, i128>>(json!({"n": -MAX})), Ok(numbers(json!({"n": -MAX}))));
    // An integral float is the same value as the integer.
    let mut t = echo::<BTreeMap<String, u8>>();
    let float = [&[0x81, 0xa1, b'n', 0xcb][..], &7f64.to_be_bytes()].concat();
    assert_eq!(t.run::<Json>("t", &raw(&float)), Ok(numbers(json!({"n": 7}))));

    macro_rules! bounds {
        ($($type:ident)*) => {$({
            let (min, max) = ($type::MIN as i64, $type::MAX as i64);
            for n in [min, max] {
                assert_eq!(answer::<BTreeMap<String, $type>>(json!({"n": n})), Ok(numbers(json!({"n": n}))));
            }
            for n in [min - 1, max + 1] {
                let e = answer::<BTreeMap<String, $type>>(json!({"n": n})).unwrap_err();
                assert_eq!((&*e.code, e.message), ("out_of_range", format!("field n: {n} is outside {min}..{max}")));
            }
        })*};
    }
    bounds!(i8 i16 i32 u8 u16 u32);
    let e = answer::<BTreeMap<String, u64>>(json!({"n": -1})).unwrap_err();
    assert_eq!(e.message, format!("field n: -1 is outside 0..{MAX}"));
}

/// A value from its MessagePack.
fn raw(bytes: &[u8]) -> Raw {
    struct Bytes<'a>(&'a [u8]);
    impl Serialize for Bytes<'_> {
        fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
            s.serialize_newtype_struct("$hypertoken::Raw", self.0)
        }
    }
    Raw::new(&Bytes(bytes)).unwrap()
}

#[test]
fn floats_are_finite() {
    assert_eq!(answer::<BTreeMap<String, f32>>(json!({"x": 0.5})), Ok(json!({"x": 0.5})));
    let e = answer::<BTreeMap<String, f32>>(json!({"x": 1e300})).unwrap_err();
    assert_eq!(&*e.code, "out_of_range");
    assert!(e.message.starts_with("field x: 1"), "{}", e.message);
    assert_eq!(answer::<BTreeMap<String, f64>>(json!({"x": 1e300})), Ok(json!({"x": 1e300})));
}

#[derive(Deserialize, Serialize)]
struct Odd {
    text: char,
    pair: (u8, String),
    nested: Option<Option<Vec<Option<bool>>>>,
    unit: (),
    #[serde(flatten)]
    rest: BTreeMap<String, Raw>,
}

#[test]
fn options_tuples_and_what_is_left_over() {
    let v = json!({"text": "é", "pair": [1, "x"], "nested": [null, true], "unit": null, "more": {"deep": [1, "y", null, 2.5]}});
    assert_eq!(answer::<Odd>(v.clone()), Ok(numbers(v)));
    let e = answer::<BTreeMap<String, char>>(json!({"text": "no"})).unwrap_err();
    assert_eq!(e.message, "field text: want a string of one character, got the string \"no\"");
    let e = answer::<BTreeMap<String, (u8, u8)>>(json!({"pair": [1]})).unwrap_err();
    assert_eq!(e.message, "field pair: want a tuple of size 2, got 1 items");
}

#[test]
fn no_payload_is_an_empty_one() {
    fn nothing(_: &mut Context<'_>, _: ()) -> Result<()> {
        Ok(())
    }
    #[derive(Deserialize)]
    struct Defaults {
        #[serde(default)]
        n: u8,
    }
    fn defaults(_: &mut Context<'_>, d: Defaults) -> Result<u8> {
        Ok(d.n)
    }
    let mut r = Registry::new();
    r.register(Action { name: "nothing", about: "", fields: &[rest()], handler: handler!(nothing) });
    r.register(Action { name: "defaults", about: "", fields: &[rest()], handler: handler!(defaults) });
    let mut t = Table::open(r, &());
    assert_eq!(t.run::<()>("nothing", &()), Ok(()));
    assert_eq!(t.run::<()>("nothing", &json!({})), Ok(()));
    assert_eq!(t.run::<u8>("defaults", &()), Ok(0));
    let e = t.run::<()>("nothing", &json!({"x": 1})).unwrap_err();
    assert_eq!((&*e.code, &*e.message), ("bad_payload", "field x: there is no such field; there are none"));
    let e = t.run::<u8>("nothing", &()).unwrap_err();
    assert_eq!((&*e.code, &*e.message), (BAD_RESULT, "the result of nothing: want a whole number, got nil"));
}

#[test]
fn a_result_that_is_no_value_is_an_error() {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Bad {
        Big(u64),
        Small(i64),
        Float(f64),
        Keys(Vec<(u8, u8)>),
    }
    fn bad(_: &mut Context<'_>, n: BTreeMap<String, u8>) -> Result<BTreeMap<&'static str, Bad>> {
        let v = match n["n"] {
            0 => Bad::Big(1 << 53),
            1 => Bad::Small(-(1 << 53)),
            2 => Bad::Float(f64::NAN),
            3 => Bad::Big((1 << 53) - 1),
            _ => Bad::Keys(vec![]),
        };
        Ok(BTreeMap::from([("v", v)]))
    }
    let mut r = Registry::new();
    r.register(Action { name: "bad", about: "", fields: &[rest()], handler: handler!(bad) });
    let mut t = Table::open(r, &());
    for (n, message) in [
        (0, "the result: field v: 9007199254740992 is outside ±9007199254740991"),
        (1, "the result: field v: -9007199254740992 is outside ±9007199254740991"),
        (2, "the result: field v: a number must be finite, not NaN"),
    ] {
        let e = t.run::<Json>("bad", &json!({"n": n})).unwrap_err();
        assert_eq!((&*e.code, &*e.message), (BAD_RESULT, message));
    }
    assert!(t.run::<Json>("bad", &json!({"n": 3})).is_ok());
}

#[test]
fn errors_of_ones_own_have_their_code() {
    #[derive(Debug)]
    enum Rule {
        NotYourTurn { player: String },
    }
    impl From<Rule> for Error {
        fn from(r: Rule) -> Error {
            match r {
                Rule::NotYourTurn { player } => Error::new("not_your_turn", format!("it is not {player}'s turn")),
            }
        }
    }
    fn own(_: &mut Context<'_>, p: Play) -> std::result::Result<(), Rule> {
        Err(Rule::NotYourTurn { player: p.player })
    }
    fn question_mark(cx: &mut Context<'_>, p: Play) -> Result<()> {
        Ok(own(cx, p)?)
    }
    let mut r = Registry::new();
    r.register(Action { name: "own", about: "", fields: &[rest()], handler: handler!(own) });
    r.register(Action { name: "mark", about: "", fields: &[rest()], handler: handler!(question_mark) });
    let mut t = Table::open(r, &());
    for name in ["own", "mark"] {
        let e = t.run::<()>(name, &json!({"player": "ann", "cards": []})).unwrap_err();
        assert_eq!((&*e.code, &*e.message), ("not_your_turn", "it is not ann's turn"));
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct Tree {
    children: Vec<Tree>,
}

/// The recursion of recursive types ends at MaxDepth: the payload is checked before it is decoded.
#[test]
fn depth_is_bounded() {
    let mut v = json!({"children": []});
    for _ in 0..31 {
        v = json!({"children": [v]});
    }
    assert!(answer::<Tree>(v.clone()).is_ok());
    let e = answer::<Tree>(json!({"children": [v]})).unwrap_err();
    assert_eq!(&*e.code, "too_deep");
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-(1i64 << 53) + 1..1 << 53).prop_map(Json::from),
        any::<i8>().prop_map(Json::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Json::from),
        "[a-z]{0,3}".prop_map(Json::from),
        Just(json!("Hearts")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            Just("player".to_string()),
            Just("cards".to_string()),
            Just("suit".to_string()),
            Just("rank".to_string()),
            Just("bidNow".to_string()),
            "[A-Z]?[a-z]{0,2}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

/// Whatever comes: a type takes it and gives it back, or an error with a code and a message; never
/// a panic. A raw value is handed on byte for byte, also through serde's own buffer.
#[test]
fn anything_is_taken_or_refused() {
    #[derive(Deserialize, Serialize)]
    struct Flat {
        #[serde(flatten)]
        all: BTreeMap<String, Raw>,
    }
    check(2000, any_json(), |v| {
        for result in [answer::<Play>(v.clone()), answer::<Odd>(v.clone()), answer::<Tree>(v.clone())] {
            if let Err(e) = result {
                assert!(!e.code.is_empty() && !e.message.is_empty());
            }
        }
        if v.is_object() {
            let want = numbers(v.clone());
            assert_eq!(answer::<Json>(v.clone()), Ok(want.clone()), "{v}");
            assert_eq!(answer::<Raw>(v.clone()), Ok(want.clone()), "{v}");
            assert_eq!(answer::<Flat>(v.clone()), Ok(want), "{v}");
        }
        // Canonical already: what the serializer writes is what the canonical form is.
        let written = Raw::new(&v).unwrap();
        let mut canonical = hypertoken_core::Writer::default();
        hypertoken_core::canonical(written.value(), &mut canonical);
        assert_eq!(written.value().bytes(), canonical.bytes());
        assert_eq!(written.value().bytes().len(), canonical_length(&v));
    });
}

fn canonical_length(v: &Json) -> usize {
    let bytes = pack(v);
    let mut w = hypertoken_core::Writer::default();
    hypertoken_core::canonical(hypertoken_core::Value::parse(&bytes, 64).unwrap(), &mut w);
    w.len()
}

#[test]
fn a_token_is_a_payload_and_a_result() {
    fn both(_: &mut Context<'_>, t: BTreeMap<String, Token>) -> Result<Vec<Token>> {
        Ok(t.into_values().collect())
    }
    let mut r = Registry::new();
    r.register(Action { name: "both", about: "", fields: &[rest()], handler: handler!(both) });
    let mut t = Table::open(r, &());
    let card = json!({"id": "c", "z": 1, "a": [true]});
    assert_eq!(t.run::<Json>("both", &json!({"card": card})), Ok(numbers(json!([card]))));
    let e = t.run::<Json>("both", &json!({"card": {"id": 7}})).unwrap_err();
    assert_eq!((&*e.code, &*e.message), ("bad_payload", "field card: token.id: want a string, got 7"));
}

/// A payload may have any keys. Characters that can't be printed are escaped, and errors stay
/// short.
#[test]
fn keys_in_errors_can_be_printed() {
    #[derive(Debug, Deserialize, Serialize)]
    struct Tree(std::collections::BTreeMap<String, Tree>);

    let key = format!("\u{1b}[2J\n\u{202e}'{}", "x".repeat(100));
    let mut payload = json!(7);
    for _ in 0..60 {
        payload = json!({ &*key: payload });
    }
    let e = answer::<Tree>(payload).unwrap_err();
    assert!(e.message.starts_with(r"field \u{1b}[2J\n\u{202e}'xxx"), "{}", e.message);
    assert!(e.message.len() < 8192 && !e.message.contains(char::is_control), "{}", e.message);
}
