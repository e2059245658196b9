//! Hostile bytes, as values, payloads, setups, snapshots and whole requests. There is always an
//! answer, and never a panic. After an error the digest is as before.

mod support;

use hypertoken_core::abi::{CHUNK, MAX_INPUT, Op};
use hypertoken_core::{Limits, MAX_INT, Registry, ScanError, Value, Writer, canonical, scan, scan_all};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use support::{Dice, Host, NOW, batch, check, good, limits_bytes, pack, request, rich, rich_setup, unpack, values};

// Values

/// A value, apart from how it is written.
#[derive(Clone, Debug, PartialEq)]
enum V {
    Nil,
    Bool(bool),
    Num(f64),
    Str(String),
    Array(Vec<V>),
    Map(BTreeMap<String, V>),
}

fn any_v() -> impl Strategy<Value = V> {
    let edges = [0.0, 1.0, 127.0, 128.0, 255.0, 256.0, 65535.0, 65536.0, 4294967295.0, 4294967296.0, MAX_INT as f64];
    let signed = [-1.0, -32.0, -33.0, -128.0, -129.0, -32768.0, -32769.0, -2147483648.0, -2147483649.0];
    let num = prop_oneof![
        3 => prop::sample::select([&edges[..], &signed[..], &[-(MAX_INT as f64)]].concat()),
        2 => (-40_000i64..70_000).prop_map(|i| i as f64),
        1 => (-MAX_INT..=MAX_INT).prop_map(|i| i as f64),
        2 => prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
        1 => any::<f32>().prop_map(|f| if f.is_finite() { f as f64 } else { 0.5 }),
    ];
    let text = prop_oneof![
        8 => "[a-c\u{e9}\u{1f0a1}]{0,5}",
        1 => prop::sample::select(vec![31, 32, 255, 256, 65535, 65536]).prop_map(|n: usize| "s".repeat(n)),
    ];
    let leaf = prop_oneof![
        1 => Just(V::Nil),
        1 => any::<bool>().prop_map(V::Bool),
        4 => num.prop_map(V::Num),
        3 => text.prop_map(V::Str),
    ];
    leaf.prop_recursive(5, 40, 20, |v| {
        prop_oneof![
            prop::collection::vec(v.clone(), 0..20).prop_map(V::Array),
            prop::collection::btree_map("[a-d]{0,3}", v, 0..20).prop_map(V::Map),
        ]
    })
}

fn rolls(n: usize) -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), n)
}

/// Writes a value in one of the many ways that MessagePack allows. Dice without numbers pick the
/// shortest.
fn encode(v: &V, dice: &mut Dice<'_>, out: &mut Vec<u8>) {
    match v {
        V::Nil => out.push(0xc0),
        V::Bool(b) => out.push(0xc2 + *b as u8),
        V::Num(f) => encode_num(*f, dice, out),
        V::Str(s) => encode_str(s, dice, out),
        V::Array(a) => {
            encode_len(a.len(), dice, out, (0x90, 16), [None, Some(0xdc), Some(0xdd)]);
            a.iter().for_each(|v| encode(v, dice, out));
        }
        V::Map(m) => {
            encode_len(m.len(), dice, out, (0x80, 16), [None, Some(0xde), Some(0xdf)]);
            let mut entries: Vec<_> = m.iter().collect();
            for i in 1..entries.len() {
                let j = i - dice.roll(i + 1);
                entries.swap(i, j);
            }
            for (k, v) in entries {
                encode_str(k, dice, out);
                encode(v, dice, out);
            }
        }
    }
}

fn encode_str(s: &str, dice: &mut Dice<'_>, out: &mut Vec<u8>) {
    encode_len(s.len(), dice, out, (0xa0, 32), [Some(0xd9), Some(0xda), Some(0xdb)]);
    out.extend(s.as_bytes());
}

/// Writes a header with a length, in the first byte or in 1, 2 or 4 bytes after it.
fn encode_len(n: usize, dice: &mut Dice<'_>, out: &mut Vec<u8>, short: (u8, usize), wide: [Option<u8>; 3]) {
    let mut ways = Vec::new();
    if n < short.1 {
        ways.push(vec![short.0 | n as u8]);
    }
    for (first, width) in wide.into_iter().zip([1, 2, 4]) {
        if let Some(first) = first
            && n < 1 << (8 * width)
        {
            ways.push([&[first][..], &(n as u32).to_be_bytes()[4 - width..]].concat());
        }
    }
    out.extend(dice.of(&ways));
}

fn encode_num(f: f64, dice: &mut Dice<'_>, out: &mut Vec<u8>) {
    let mut ways = Vec::new();
    if f.trunc() == f && f.abs() <= MAX_INT as f64 {
        let i = f as i64;
        if (-32..=127).contains(&i) {
            ways.push(vec![i as u8]);
        }
        for (n, width) in [1, 2, 4, 8].into_iter().enumerate() {
            let bits = 8 * width as u32;
            let tail = &i.to_be_bytes()[8 - width..];
            if i >= 0 && (bits == 64 || i < 1 << bits) {
                ways.push([&[0xcc + n as u8][..], tail].concat());
            }
            if bits == 64 || (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&i) {
                ways.push([&[0xd0 + n as u8][..], tail].concat());
            }
        }
    }
    ways.push([&[0xcb][..], &f.to_be_bytes()].concat());
    if (f as f32) as f64 == f {
        ways.push([&[0xca][..], &(f as f32).to_be_bytes()].concat());
    }
    out.extend(dice.of(&ways));
}

fn encoded(v: &V, rolls: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(v, &mut Dice::new(rolls), &mut out);
    out
}

fn canonical_of(b: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    canonical(Value::parse(b, 200).unwrap(), &mut w);
    w.into_bytes()
}

/// Makes the same decision as [`scan`], with a decoder that shares no code with it. Returns the
/// value's length, if the bytes are a value.
fn reference(b: &[u8], depth: usize) -> Option<usize> {
    fn uint(b: &[u8], n: usize) -> Option<u64> {
        Some(b.get(1..1 + n)?.iter().fold(0, |v, x| v << 8 | *x as u64))
    }
    fn sint(b: &[u8], n: usize) -> Option<i64> {
        Some((uint(b, n)? << (64 - 8 * n)) as i64 >> (64 - 8 * n))
    }
    fn text(b: &[u8], at: usize, n: usize) -> Option<usize> {
        std::str::from_utf8(b.get(at..at.checked_add(n)?)?).ok().map(|_| at + n)
    }
    fn seq(b: &[u8], mut at: usize, n: usize, map: bool, depth: usize) -> Option<usize> {
        let depth = depth.checked_sub(1)?;
        let mut keys = std::collections::BTreeSet::new();
        for _ in 0..n {
            if map {
                let key = b.get(at..)?;
                if !matches!(key.first()?, 0xa0..=0xbf | 0xd9..=0xdb) {
                    return None;
                }
                let n = reference(key, 0)?;
                let head = match key[0] {
                    0xd9 => 2,
                    0xda => 3,
                    0xdb => 5,
                    _ => 1,
                };
                if !keys.insert(&key[head..n]) {
                    return None;
                }
                at += n;
            }
            at += reference(b.get(at..)?, depth)?;
        }
        Some(at)
    }
    let max = MAX_INT as u64;
    match *b.first()? {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Some(1),
        f @ 0x80..=0x8f => seq(b, 1, (f & 15) as usize, true, depth),
        f @ 0x90..=0x9f => seq(b, 1, (f & 15) as usize, false, depth),
        f @ 0xa0..=0xbf => text(b, 1, (f & 31) as usize),
        0xca => f32::from_bits(uint(b, 4)? as u32).is_finite().then_some(5),
        0xcb => f64::from_bits(uint(b, 8)?).is_finite().then_some(9),
        f @ 0xcc..=0xcf => (uint(b, 1 << (f - 0xcc))? <= max).then_some(1 + (1 << (f - 0xcc))),
        f @ 0xd0..=0xd3 => (sint(b, 1 << (f - 0xd0))?.unsigned_abs() <= max).then_some(1 + (1 << (f - 0xd0))),
        f @ 0xd9..=0xdb => text(b, 1 + (1 << (f - 0xd9)), uint(b, 1 << (f - 0xd9))? as usize),
        f @ 0xdc..=0xdd => seq(b, 1 + (2 << (f - 0xdc)), uint(b, 2 << (f - 0xdc))? as usize, false, depth),
        f @ 0xde..=0xdf => seq(b, 1 + (2 << (f - 0xde)), uint(b, 2 << (f - 0xde))? as usize, true, depth),
        _ => None,
    }
}

/// Bytes with some of them changed, left out, doubled or made up.
fn mutated(b: &[u8], dice: &mut Dice<'_>) -> Vec<u8> {
    let mut b = b.to_vec();
    for _ in 0..1 + dice.roll(3) {
        let at = dice.roll(b.len() + 1);
        let to = (at + dice.roll(9)).min(b.len());
        match dice.roll(7) {
            0 if at < b.len() => b[at] ^= 1 << dice.roll(8),
            1 if at < b.len() => b[at] = dice.roll(256) as u8,
            2 if at < b.len() => b[at] = dice.of(&[0x80, 0x90, 0xa0, 0xc0, 0xc1, 0xc4, 0xcb, 0xd3, 0xdd, 0xdf, 0xff]),
            3 => b.truncate(at),
            4 => drop(b.drain(at..to)),
            5 => drop(b.splice(at..at, b[at..to].to_vec())),
            _ => b.insert(at, dice.roll(256) as u8),
        }
    }
    b
}

/// Bytes that may be a value: a value, one that was changed, or anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let changed = |(v, how, what): (V, Vec<u16>, Vec<u16>)| mutated(&encoded(&v, &how), &mut Dice::new(&what));
    prop_oneof![
        2 => (any_v(), rolls(40)).prop_map(|(v, how)| encoded(&v, &how)),
        5 => (any_v(), rolls(40), rolls(16)).prop_map(changed),
        2 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

#[test]
fn scan_accepts_what_the_reference_does() {
    let counts = Cell::new((0, 0));
    check(3000, (bytes(), 0usize..9, any_v()), |(b, depth, more)| {
        let want = reference(&b, depth);
        let got = scan(&b, depth);
        assert_eq!(got.as_ref().ok().map(|s| s.len), want, "{b:02x?} at most {depth} deep");
        assert_eq!(scan_all(&b, depth).is_ok(), want == Some(b.len()), "{b:02x?}");
        assert_eq!(Value::parse(&b, depth).is_ok(), want == Some(b.len()), "{b:02x?}");
        // Bytes that follow do not make invalid bytes valid, and do not change a value.
        let longer = [b, encoded(&more, &[])].concat();
        match got {
            Ok(s) => assert_eq!(scan(&longer, depth).unwrap(), s, "{longer:02x?}"),
            Err(ScanError::Invalid(_)) => assert!(matches!(scan(&longer, depth), Err(ScanError::Invalid(_)))),
            Err(ScanError::Incomplete) => {}
        }
        let (yes, no) = counts.get();
        counts.set(if want.is_some() { (yes + 1, no) } else { (yes, no + 1) });
    });
    let (yes, no) = counts.get();
    assert!(yes > 300 && no > 300, "{yes} are values, {no} are not: too few of either");
}

#[test]
fn every_beginning_of_a_value_is_incomplete() {
    check(300, (any_v(), rolls(40)), |(v, how)| {
        let b = encoded(&v, &how);
        assert_eq!(scan(&b, 10).unwrap().len, b.len());
        for n in (0..b.len()).take(200).chain([b.len() - 1]) {
            // Text that is cut within a character too: the string is not whole.
            assert!(matches!(scan(&b[..n], 10), Err(ScanError::Incomplete)), "{:02x?}", &b[..n]);
        }
    });
}

#[test]
fn the_canonical_form_is_one_whatever_the_encoding() {
    check(1500, (any_v(), rolls(60), rolls(60)), |(v, one, two)| {
        // Dice without numbers write the shortest headers, and a BTreeMap is sorted by bytes.
        let want = encoded(&v, &[]);
        for b in [encoded(&v, &one), encoded(&v, &two)] {
            let c = canonical_of(&b);
            assert!(c == want, "{b:02x?}\n{c:02x?}\n{want:02x?}");
            assert_eq!(b == want, scan(&b, 10).unwrap().canonical, "{b:02x?}");
        }
        assert!(canonical_of(&want) == want, "the canonical form of the canonical form");
    });
}

#[test]
fn the_canonical_form_of_any_value_is_canonical() {
    check(1500, bytes(), |b| {
        let Some(n) = reference(&b, 100) else { return };
        let c = canonical_of(&b[..n]);
        let s = scan_all(&c, 100).unwrap();
        assert!(s.canonical && canonical_of(&c) == c, "{b:02x?}");
        assert_eq!(c == b[..n], scan(&b, 100).unwrap().canonical, "{b:02x?}");
    });
}

#[test]
fn integers_both_sides_of_every_width() {
    for i in [MAX_INT, -MAX_INT, MAX_INT + 1, -MAX_INT - 1, i64::MAX, i64::MIN] {
        let fine = (-MAX_INT..=MAX_INT).contains(&i);
        assert_eq!(scan_all(&[&[0xd3][..], &i.to_be_bytes()].concat(), 1).is_ok(), fine, "{i}");
        let unsigned = [&[0xcf][..], &i.to_be_bytes()].concat();
        assert_eq!(scan_all(&unsigned, 1).is_ok(), fine && i >= 0, "{i} as u64");
        // As a float it is a value on either side; an integer in the canonical form on one.
        let float = [&[0xcb][..], &(i as f64).to_be_bytes()].concat();
        assert!(scan_all(&float, 1).is_ok());
        assert_eq!(canonical_of(&float)[0] == 0xcb, !fine, "{i} as a float");
    }
    assert_eq!(canonical_of(&[&[0xcb][..], &(-0.0f64).to_be_bytes()].concat()), [0]);
    assert_eq!(canonical_of(&[&[0xca][..], &(-0.0f32).to_be_bytes()].concat()), [0]);
    assert_eq!(
        canonical_of(&[&[0xca][..], &0.5f32.to_be_bytes()].concat()),
        [&[0xcb][..], &0.5f64.to_be_bytes()].concat()
    );
    for f in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(scan_all(&[&[0xcb][..], &f.to_be_bytes()].concat(), 1).is_err());
        assert!(scan_all(&[&[0xca][..], &(f as f32).to_be_bytes()].concat(), 1).is_err());
    }
}

#[test]
fn lengths_that_are_not_there_cost_nothing() {
    for head in [b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"] {
        assert!(matches!(scan(head, 64), Err(ScanError::Incomplete)));
        for op in [Op::Open, Op::Restore] {
            let mut h = Host::new(Registry::builtin());
            h.call(op, &limits_bytes(Limits::default())).unwrap();
            // A setup or a snapshot that announces more than it has does not end.
            let fed = h.call(Op::Feed, head).and_then(|_| h.call(Op::Ready, &[]));
            assert!(fed.is_err());
        }
    }
    // Nested as deep as a request is long.
    let deep = vec![0x91; 1 << 20];
    let mut h = rich();
    assert_eq!(h.dispatch_bytes("debug:log", &deep, NOW).unwrap_err().0, "too_deep");
    h.call(Op::Open, &limits_bytes(Limits::default())).unwrap();
    assert_eq!(h.call(Op::Feed, &[&b"\x81\xa6source\x81\xa9reshuffle"[..], &deep].concat()).unwrap_err().0, "too_deep");
    h.call(Op::Restore, &[]).unwrap();
    assert_eq!(h.call(Op::Feed, &deep).unwrap_err().0, "bad_snapshot");
}

// Payloads and requests

/// The digest of an engine, if one is open.
fn digest(h: &mut Host) -> Option<u64> {
    let a = h.raw(Op::Digest as u32, &[]);
    a.ok.then(|| u64::from_le_bytes(a.body.try_into().unwrap()))
}

/// What every answer of a dispatch has: a result that is a value, or an error that left the digest
/// alone.
fn answers(h: &mut Host, input: &[u8]) {
    let before = digest(h);
    let a = h.raw(Op::Dispatch as u32, input);
    if a.ok {
        scan_all(&a.body, 200).unwrap_or_else(|e| panic!("the result is no value: {e}"));
        assert!(a.changed || digest(h) == before, "changed, and says that it did not");
    } else {
        let (code, message, index) = a.error();
        assert!(!code.is_empty() && !message.is_empty() && index.is_none() && !a.changed);
        assert_eq!(digest(h), before, "{code}: {message}");
    }
}

#[test]
fn any_payload_is_answered() {
    let payloads: Vec<(&str, Vec<u8>)> = good().into_iter().map(|(a, p)| (a, pack(&p))).collect();
    let one = (any::<prop::sample::Index>(), rolls(16));
    check(150, prop::collection::vec(one, 1..40), |steps| {
        let mut h = rich();
        for (i, how) in steps {
            let (action, payload) = i.get(&payloads);
            let entropy = h.entropy();
            answers(&mut h, &request(NOW, &entropy, action, &mutated(payload, &mut Dice::new(&how))));
        }
        scan_all(&h.stream(Op::State), 200).unwrap();
    });
}

#[test]
fn any_bytes_as_a_payload_are_answered() {
    let registry = Registry::builtin();
    let names: Vec<&str> = registry.iter().map(|a| a.name).collect();
    check(60, prop::collection::vec((prop::sample::select(names), bytes()), 1..40), |steps| {
        let mut h = rich();
        for (action, payload) in steps {
            let entropy = h.entropy();
            answers(&mut h, &request(NOW, &entropy, action, &payload));
        }
    });
}

#[test]
fn any_values_in_the_fields_are_answered() {
    // A payload of the right names with any values: deeper in than bytes get.
    let registry = Registry::builtin();
    let mut names: Vec<&str> = registry.iter().flat_map(|a| a.fields.iter().map(|f| f.name)).collect();
    names.sort_unstable();
    names.dedup();
    let actions: Vec<_> = registry.iter().collect();
    let step = (any::<prop::sample::Index>(), prop::collection::vec((any_v(), 0..4usize), 8), rolls(30));
    check(150, prop::collection::vec(step, 1..30), |steps| {
        let good: BTreeMap<_, _> = good().into_iter().collect();
        let mut h = rich();
        for (i, vs, how) in steps {
            let action = i.get(&actions);
            let mut dice = Dice::new(&how);
            let mut payload = Vec::new();
            encode_len(action.fields.len(), &mut Dice::new(&[]), &mut payload, (0x80, 16), [None, None, None]);
            for (f, (v, keep)) in action.fields.iter().zip(&vs) {
                encode_str(f.name, &mut Dice::new(&[]), &mut payload);
                match good[action.name].get(f.name).filter(|_| *keep > 0) {
                    Some(fine) => payload.extend(pack(fine)),
                    None => encode(v, &mut dice, &mut payload),
                }
            }
            let entropy = h.entropy();
            answers(&mut h, &request(NOW, &entropy, action.name, &payload));
        }
        let before = h.print();
        assert!(Host::restore(&before.snapshot, CHUNK).unwrap().print() == before);
    });
}

/// A call with any number, on input that may be right for it.
fn calls() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    let draw = request(NOW, &[1; 16], "stack:draw", &pack(&json!({})));
    let place = request(NOW, &[2; 16], "space:place", &pack(&json!({"zone": "hand", "card": {"id": "n"}})));
    let wrong = request(NOW, &[3; 16], "stack:draw", &pack(&json!({"count": 0})));
    let inputs = vec![
        (Op::Dispatch as u32, draw.clone()),
        (Op::Dispatch as u32, place.clone()),
        (Op::Batch as u32, batch(false, &[draw.clone(), place.clone()])),
        (Op::Batch as u32, batch(false, &[draw.clone(), wrong.clone()])),
        (Op::Batch as u32, batch(true, &[draw, wrong, place])),
        (Op::Open as u32, limits_bytes(Limits::default())),
        (Op::Open as u32, limits_bytes(Limits { max_state: 300, max_result: 50, max_depth: 2 })),
        (Op::Feed as u32, pack(&rich_setup())),
        (Op::Feed as u32, rich().stream(Op::Snapshot)),
    ];
    let bare = prop::sample::select(vec![2u32, 4, 4, 7, 8, 9, 9, 9, 10, 11]).prop_map(|op| (op, Vec::new()));
    let right = prop::sample::select(inputs);
    let changed = (right.clone(), rolls(16)).prop_map(|((op, b), how)| (op, mutated(&b, &mut Dice::new(&how))));
    let any = (prop_oneof![0u32..14, any::<u32>()], prop::collection::vec(any::<u8>(), 0..60));
    prop::collection::vec(prop_oneof![4 => bare, 3 => right, 3 => changed, 1 => any], 1..30)
}

#[test]
fn any_call_is_answered() {
    check(400, calls(), |calls| {
        let mut h = rich();
        for (op, input) in calls {
            let opens = (Op::Open as u32..=Op::Ready as u32).contains(&op);
            // Another call would end a stream, so an engine is looked at only around calls that
            // end it too.
            let looks = !opens && op != Op::Next as u32;
            let before = if looks { digest(&mut h) } else { None };
            let a = h.raw(op, &input);
            if !a.ok {
                let (code, message, _) = a.error();
                assert!(!code.is_empty() && !message.is_empty() && !a.changed && a.table.is_empty());
            } else if op == Op::Batch as u32 {
                for (body, failed, _) in a.members() {
                    let v = unpack(&body);
                    assert!(!failed || v["code"].is_string() && v["message"].is_string());
                }
            } else if op == Op::Dispatch as u32 || op == Op::Actions as u32 {
                unpack(&a.body);
            } else if op == Op::Next as u32 {
                assert!(a.body.len() <= CHUNK);
            }
            if looks && (!a.ok || !a.changed) {
                assert_eq!(digest(&mut h), before, "call {op}");
            }
        }
    });
}

#[test]
fn calls_without_an_engine_fail() {
    let mut h = Host::new(Registry::builtin());
    let draw = request(NOW, &[0; 16], "stack:draw", &[]);
    for (op, input) in [
        (Op::Feed, vec![]),
        (Op::Ready, vec![]),
        (Op::Dispatch, draw.clone()),
        (Op::Batch, batch(false, &[draw])),
        (Op::Snapshot, vec![]),
        (Op::State, vec![]),
        (Op::Next, vec![]),
        (Op::Digest, vec![]),
    ] {
        assert_eq!(h.call(op, &input).unwrap_err().0, "bad_request", "{op:?}");
    }
    for op in [0, 13, u32::MAX] {
        assert_eq!(h.raw(op, &[]).error().0, "bad_request", "{op}");
    }
    assert!(h.raw(Op::Actions as u32, &[]).ok, "the list of actions needs no engine");
}

#[test]
fn an_error_on_the_way_leaves_no_engine() {
    for (op, input) in [(Op::Open, limits_bytes(Limits::default())), (Op::Restore, vec![])] {
        let mut h = rich();
        h.call(op, &input).unwrap();
        assert!(digest(&mut h).is_none(), "{op:?} drops the engine that was");
        h.call(Op::Feed, b"\xc1").unwrap_err();
        h.call(Op::Ready, &[]).unwrap_err();
        assert!(digest(&mut h).is_none());
    }
}

#[test]
fn chunks_are_at_most_a_mebibyte() {
    // Tokens of 100 kB make a state of several chunks, cut within values.
    let cards: Vec<Json> = (0..40).map(|i| json!({"id": format!("{i}"), "text": "x".repeat(100_000)})).collect();
    let mut h = Host::standard(&json!({"stack": cards}));
    for op in [Op::State, Op::Snapshot] {
        let all = h.stream(op);
        assert!(all.len() > 3 * CHUNK);
        h.call(op, &[]).unwrap();
        let mut again: Vec<u8> = Vec::new();
        for n in 0.. {
            let chunk = h.call(Op::Next, &[]).unwrap();
            let rest = all.len() - again.len();
            assert_eq!(chunk.len(), rest.min(CHUNK), "chunk {n}");
            again.extend(&chunk);
            if chunk.is_empty() {
                break;
            }
        }
        assert!(again == all);
        // The end has been said; another call would have ended it before.
        assert_eq!(h.call(Op::Next, &[]).unwrap_err().0, "bad_request");
        h.call(op, &[]).unwrap();
        h.call(Op::Digest, &[]).unwrap();
        assert_eq!(h.call(Op::Next, &[]).unwrap_err().0, "bad_request");
    }
    const { assert!(CHUNK < MAX_INPUT, "a chunk of a snapshot can be fed as it is") };
}

// Setups and snapshots

/// Feeds in pieces: the engine, or the error.
fn fed(op: Op, input: &[u8], bytes: &[u8], pieces: &[usize]) -> Result<Host, (String, String)> {
    let mut h = Host::new(Registry::builtin());
    h.call(op, input)?;
    let mut rest = bytes;
    for n in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, more) = rest.split_at((*n).min(rest.len()));
        h.call(Op::Feed, piece)?;
        rest = more;
    }
    h.call(Op::Ready, &[])?;
    Ok(h)
}

#[test]
fn any_setup_is_opened_or_refused_however_it_is_cut() {
    let setups = [
        pack(&rich_setup()),
        pack(&json!({"stack": null, "source": null, "other": [1, {"a": 2}]})),
        pack(&json!({"stack": [], "source": {"stacks": [[], [{"id": "a"}]], "reshuffle": null, "more": {}}})),
        pack(&json!({})),
        vec![],
    ];
    let opened = Cell::new(0);
    let pieces = prop::collection::vec(1..40usize, 1..5);
    check(
        1500,
        (prop::sample::select(setups.to_vec()), rolls(16), any::<bool>(), pieces),
        |(b, how, change, pieces)| {
            let b = if change { mutated(&b, &mut Dice::new(&how)) } else { b };
            let limits = limits_bytes(Limits::default());
            let whole = fed(Op::Open, &limits, &b, &[usize::MAX]);
            match (whole, fed(Op::Open, &limits, &b, &pieces)) {
                (Ok(mut h), Ok(mut other)) => {
                    assert!(h.print() == other.print(), "{b:02x?}");
                    assert!(Host::restore(&h.print().snapshot, CHUNK).unwrap().print() == h.print(), "{b:02x?}");
                    opened.set(opened.get() + change as usize);
                }
                (whole, cut) => assert_eq!(whole.err(), cut.err(), "{b:02x?}"),
            }
        },
    );
    assert!(opened.get() > 50, "only {} changed setups were opened", opened.get());
}

/// Returns a snapshot whose last record has the right digest, if the digest was its only fault.
fn sealed(snapshot: &[u8]) -> Vec<u8> {
    let Err((_, message)) = Host::restore(snapshot, CHUNK) else { return snapshot.to_vec() };
    let Some((_, digest)) = message.split_once("its state has the digest ") else { return snapshot.to_vec() };
    let (mut b, mut rest) = (Vec::new(), snapshot);
    while let Ok(s) = scan(rest, 99) {
        let (record, more) = rest.split_at(s.len);
        if record.starts_with(END) {
            return [b, pack(&json!([17, digest[..16]])), more.to_vec()].concat();
        }
        b.extend(record);
        rest = more;
    }
    // The last record is written in another way.
    snapshot.to_vec()
}

/// How the record of the end begins.
const END: &[u8] = &[0x92, 17];

/// Everything that can be restored is an engine: it answers, and can be written and restored
/// again.
fn alive(h: &mut Host) {
    for (action, payload) in good() {
        let entropy = h.entropy();
        answers(h, &request(NOW, &entropy, action, &pack(&payload)));
    }
    let before = h.print();
    scan_all(&before.state, 200).unwrap_or_else(|e| panic!("the state is no value: {e}"));
    let mut other = Host::restore(&before.snapshot, CHUNK).unwrap_or_else(|e| panic!("{e:?}"));
    let after = other.print();
    let same = (after.digest == before.digest, after.state == before.state, after.snapshot == before.snapshot);
    assert_eq!(same, (true, true, true), "digest, state, snapshot");
    assert_eq!(after.state_bytes, before.state_bytes, "logical bytes");
}

#[test]
fn a_snapshot_with_any_byte_changed_is_refused_or_restored() {
    let snapshot = rich().stream(Op::Snapshot);
    let restored = Cell::new(0);
    check(1200, (rolls(16), any::<bool>()), |(how, seal)| {
        let mut b = mutated(&snapshot, &mut Dice::new(&how));
        if seal {
            // The digest is no secret: an attacker who changes a snapshot can also change the
            // digest.
            b = sealed(&b);
        }
        match Host::restore(&b, CHUNK) {
            Ok(mut h) => {
                restored.set(restored.get() + 1);
                alive(&mut h);
            }
            Err((code, message)) => {
                assert!(["bad_snapshot", "too_large"].contains(&code.as_str()), "{code}: {message}")
            }
        }
    });
    assert!(restored.get() > 20, "only {} were restored", restored.get());
}

#[test]
fn a_snapshot_with_records_changed_is_refused_or_restored() {
    let records = values(&rich().stream(Op::Snapshot));
    let restored = Cell::new(0);
    check(800, rolls(16), |how| {
        let mut dice = Dice::new(&how);
        let mut r = records.clone();
        for _ in 0..1 + dice.roll(3) {
            let (at, to) = (dice.roll(r.len()), dice.roll(r.len()));
            match dice.roll(5) {
                0 => r.swap(at, to),
                1 => r.insert(to, r[at].clone()),
                2 if r.len() > 1 => drop(r.remove(at)),
                3 => r[at] = mutated(&r[at], &mut dice),
                _ => r[at] = r[to].clone(),
            }
        }
        let b = sealed(&r.concat());
        if let Ok(mut h) = Host::restore(&b, CHUNK) {
            restored.set(restored.get() + 1);
            alive(&mut h);
        }
    });
    assert!(restored.get() > 20, "only {} were restored", restored.get());
}

#[test]
fn every_beginning_of_a_snapshot_is_refused() {
    let snapshot = rich().stream(Op::Snapshot);
    for n in 0..snapshot.len() {
        let (code, _) = Host::restore(&snapshot[..n], CHUNK).err().unwrap();
        assert_eq!(code, "bad_snapshot", "its first {n} bytes");
    }
    for more in [&b"\xc0"[..], b"\x80", b"\x91\x07", &snapshot] {
        assert_eq!(Host::restore(&[&snapshot, more].concat(), CHUNK).err().unwrap().0, "bad_snapshot");
    }
}

#[test]
fn any_bytes_as_a_snapshot_are_refused() {
    let header = pack(&json!([0, "hypertoken", 1, 1000, 1000, 64]));
    check(400, (bytes(), any::<bool>()), |(b, headed)| {
        let b = if headed { [&header[..], &b].concat() } else { b };
        assert!(Host::restore(&b, 5).is_err());
    });
}

#[test]
fn records_that_no_core_writes_are_refused() {
    let base = rich().stream(Op::Snapshot);
    let refused = |records: &[Json], why: &str| {
        let mut all = values(&base);
        let end = all.len() - 1;
        all.splice(end..end, records.iter().map(pack));
        let b = sealed(&all.concat());
        assert_eq!(Host::restore(&b, CHUNK).err().map(|e| e.0), Some("bad_snapshot".to_string()), "{why}");
    };
    refused(&[json!([0, "hypertoken", 1, 1000, 1000, 64])], "a second header");
    refused(&[json!([18])], "a kind that is not there");
    refused(&[json!([])], "a record without a kind");
    refused(&[json!(["pile"])], "a kind that is no number");
    refused(&[json!([1.5])], "a kind that is not whole");
    refused(&[json!(5)], "neither a token nor a record");
    refused(&[json!({"id": 5})], "a token without an id");
    refused(&[json!([1, 5, 0])], "a sixth pile");
    refused(&[json!([1, 0, 1_000_000])], "a token that is not there");
    refused(&[json!([1, 0, -1])], "a negative number");
    refused(&[json!([8, 5, "k", 1])], "an entry of a sixth map");
    refused(&[json!([8, 4, "agents", 1])], "a built-in section as a key of one's own");
    refused(&[json!([8, 4, "k"])], "an entry without a value");
    refused(&[json!([9, 5])], "a lock of no name");
    refused(&[json!([10, "table"])], "a zone twice");
    refused(&[json!([11, "p1", 0, 0, 0, true, false, 0, null, {}])], "a placement twice");
    refused(&[json!([11, "p9", 0, 0, 0, 1, false, 0, null, {}])], "a placement whose faceUp is a number");
    refused(&[json!([12, "new", "id", true, {}, {}, {}])], "an agent without a place in the order");
    refused(&[json!([12, "new", "id", true, {}, {}, []])], "an agent whose further fields are an array");
    refused(&[json!([14, "nobody"])], "a place in the order without an agent");
    refused(&[json!([14, "ann"])], "two places for one agent");
    for header in [
        json!([0, "hypertoken", 2, 1000, 1000, 64]),
        json!([0, "hypertokem", 1, 1000, 1000, 64]),
        json!([0, "hypertoken", 1, 1000, 1000, 0]),
        json!([0, "hypertoken", 1, 1000, 1000, 129]),
        json!([0, "hypertoken", 1, 1000, 4294967296i64, 64]),
        json!([0, "hypertoken", 1, -1, 1000, 64]),
        json!([0, "hypertoken", 1, 1000, 1000]),
    ] {
        let b = [pack(&header), values(&base)[1..].concat()].concat();
        assert_eq!(Host::restore(&b, CHUNK).err().unwrap().0, "bad_snapshot", "{header}");
    }
}

// Crafted by hand: each of these once broke an engine.

/// The snapshot of an engine with records put in before the one at `at`, or at the end, and its
/// digest made to fit.
fn crafted(h: &mut Host, before: &[u8], records: &[Json]) -> Vec<u8> {
    let mut all = values(&h.stream(Op::Snapshot));
    let at = all.iter().position(|r| r.starts_with(before)).unwrap();
    all.splice(at..at, records.iter().map(pack));
    sealed(&all.concat())
}

#[test]
fn a_snapshot_whose_rules_have_fired_twice_is_refused_or_restored() {
    let b = crafted(&mut rich(), END, &[json!([8, 3, "fired", 1])]);
    if let Ok(mut h) = Host::restore(&b, CHUNK) {
        let patch = json!({"key": "rules", "patches": [{"path": ["zest"], "value": 1}]});
        let _ = h.dispatch("game:setState", &patch, NOW);
        scan_all(&h.stream(Op::State), 200).unwrap();
    }
}

#[test]
fn a_snapshot_whose_agent_has_a_field_twice_is_refused_or_restored() {
    let extra = json!([12, "zoe", "id", true, {}, {}, {"inventory": 1, "meta": 2}]);
    let b = crafted(&mut Host::standard(&json!({})), END, &[extra, json!([14, "zoe"])]);
    if let Ok(mut h) = Host::restore(&b, CHUNK) {
        scan_all(&h.stream(Op::State), 200).unwrap();
    }
}

#[test]
fn a_snapshot_with_entries_of_no_rules_is_refused_or_restored() {
    let b = crafted(&mut Host::standard(&json!({})), END, &[json!([8, 2, "a", 1])]);
    if let Ok(mut h) = Host::restore(&b, CHUNK) {
        alive(&mut Host::restore(&b, CHUNK).unwrap());
        let before = h.print();
        assert!(Host::restore(&before.snapshot, CHUNK).unwrap().print() == before);
    }
}

#[test]
fn a_snapshot_with_the_last_number_of_a_stack_is_refused_or_restored() {
    let mut h = Host::standard(&json!({"source": {"stacks": []}}));
    let b = crafted(&mut h, END, &[json!([5, 4294967295u32])]);
    if let Ok(mut h) = Host::restore(&b, CHUNK) {
        h.dispatch("source:addStack", &json!({"stack": {"tokens": []}}), NOW).unwrap();
    }
}

#[test]
fn a_snapshot_with_a_pile_of_no_stack_is_refused_or_restored() {
    let b = crafted(&mut Host::standard(&json!({})), END, &[json!({"id": "c"}), json!([1, 0, 0])]);
    if let Ok(mut h) = Host::restore(&b, CHUNK) {
        alive(&mut h);
    }
}

#[test]
fn a_setup_with_a_key_twice_is_refused() {
    let twice = |key: &str, one: &Json, two: &Json| {
        let entry = |v| [pack(&json!(key)), pack(v)].concat();
        [vec![0x82], entry(one), entry(two)].concat()
    };
    let source = |b: Vec<u8>| [b"\x81\xa6source".to_vec(), b].concat();
    for b in [
        twice("stack", &json!(null), &json!([])),
        twice("source", &json!({}), &json!(null)),
        twice("other", &json!(1), &json!(2)),
        source(twice("stacks", &json!([]), &json!([]))),
        source(twice("reshuffle", &json!({"threshold": 1}), &json!({"mode": "manual"}))),
    ] {
        let opened = fed(Op::Open, &limits_bytes(Limits::default()), &b, &[CHUNK]);
        assert!(opened.is_err(), "{b:02x?}");
    }
}

#[test]
fn a_setup_with_a_large_value_is_refused_or_opened_however_it_is_cut() {
    let b = pack(&json!({"note": "x".repeat(2000)}));
    let limits = limits_bytes(Limits { max_state: 1000, ..Limits::default() });
    let whole = fed(Op::Open, &limits, &b, &[CHUNK]).map(|mut h| h.digest());
    assert_eq!(whole, fed(Op::Open, &limits, &b, &[100]).map(|mut h| h.digest()));
}

#[test]
fn scan_knows_what_is_canonical() {
    check(1500, bytes(), |b| {
        let Some(n) = reference(&b, 100) else { return };
        assert_eq!(scan(&b, 100).unwrap().canonical, canonical_of(&b[..n]) == b[..n], "{b:02x?}");
    });
}

#[test]
fn the_digest_does_not_depend_on_how_integers_are_written() {
    let token = |n: &[u8]| [b"\x82\xa2id\xa1c\xa1n", n].concat();
    let ways: [&[&[u8]]; 3] = [
        &[b"\x05", b"\xcc\x05", b"\xd0\x05", b"\xd1\x00\x05", b"\xcb\x40\x14\0\0\0\0\0\0"],
        &[b"\xcd\x01\x00", b"\xd1\x01\x00", b"\xce\0\0\x01\0", b"\xd2\0\0\x01\0"],
        &[b"\xcf\0\0\0\x01\0\0\0\0", b"\xd3\0\0\0\x01\0\0\0\0"],
    ];
    for same in ways {
        let digests = same.iter().map(|n| {
            let mut h = rich();
            h.dispatch_bytes("stack:discard", &[b"\x81\xa4card", &token(n)[..]].concat(), NOW).unwrap();
            h.digest()
        });
        let digests: Vec<u64> = digests.collect();
        assert!(digests.iter().all(|d| *d == digests[0]), "{same:02x?}: {digests:x?}");
    }
}
