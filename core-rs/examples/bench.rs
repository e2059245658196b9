//! Times an action of each family natively, on a state of 52 and of a million tokens: the baseline for the benchmarks of
//! the Go package wasm, which run the same actions in WebAssembly.

use hypertoken_core::abi::{Core, Op};
use hypertoken_core::{Registry, Writer};
use std::time::{Duration, Instant};

type Write = fn(&mut Writer, usize);
type Undo = &'static [(&'static str, Write)];

/// An action, its payload, and the actions that put back what it took. The list is that of wasm/wasm_bench_test.go.
const ACTIONS: &[(&str, Write, Undo)] = &[
    ("debug:log", |w, _| numbers(w, &[("n", 1)]), &[]),
    ("stack:peek", |w, _| numbers(w, &[("count", 1)]), &[]),
    (
        "stack:insertAt",
        |w, n| {
            w.map(2);
            w.str("card");
            card(w);
            w.str("position");
            w.int(n as i64);
        },
        &[("stack:removeAt", |w, n| numbers(w, &[("position", n as i64)]))],
    ),
    ("stack:swap", |w, n| numbers(w, &[("i", 0), ("j", n as i64 - 1)]), &[]),
    ("stack:shuffle", |w, _| numbers(w, &[("seed", 42)]), &[]),
    (
        "space:lockZone",
        |w, _| {
            w.map(1);
            w.str("zone");
            w.str("z");
        },
        &[("space:lockZone", |w, _| {
            w.map(2);
            w.str("locked");
            w.bool(false);
            w.str("zone");
            w.str("z");
        })],
    ),
    ("source:shuffle", |w, _| numbers(w, &[("seed", 42)]), &[]),
    (
        "agent:addToken",
        |w, _| {
            w.map(2);
            w.str("name");
            w.str("Alice");
            w.str("token");
            card(w);
        },
        &[("agent:removeToken", |w, _| {
            w.map(2);
            w.str("name");
            w.str("Alice");
            w.str("tokenId");
            w.str("x");
        })],
    ),
    (
        "game:setProperty",
        |w, _| {
            w.map(2);
            w.str("key");
            w.str("pot");
            w.str("value");
            w.int(5);
        },
        &[],
    ),
    ("game:nextTurn", |w, _| numbers(w, &[("agentCount", 4)]), &[]),
    ("rule:initRules", |w, _| w.map(0), &[]),
    (
        "token:transform",
        |w, _| {
            w.map(2);
            w.str("properties");
            w.map(1);
            w.str("label");
            w.str("Y");
            w.str("token");
            card(w);
        },
        &[],
    ),
    (
        "tokens:count",
        |w, _| {
            w.map(2);
            w.str("predicate");
            w.str("kind:card");
            w.str("tokens");
            w.array(2);
            card(w);
            card(w);
        },
        &[],
    ),
];

fn numbers(w: &mut Writer, fields: &[(&str, i64)]) {
    w.map(fields.len());
    for (k, v) in fields {
        w.str(k);
        w.int(*v);
    }
}

fn token(w: &mut Writer, id: &str, label: &str, index: i64) {
    w.map(4);
    w.str("id");
    w.str(id);
    w.str("index");
    w.int(index);
    w.str("kind");
    w.str("card");
    w.str("label");
    w.str(label);
}

fn card(w: &mut Writer) {
    token(w, "x", "X", 1);
}

fn dispatch(action: &str, write: Write, n: usize) -> Vec<u8> {
    let mut w = Writer::default();
    write(&mut w, n);
    let name = (action.len() as u32).to_le_bytes();
    [&1i64.to_le_bytes()[..], &[0; 16], &name, action.as_bytes(), w.bytes()].concat()
}

fn send(core: &mut Core, op: Op, input: &[u8]) {
    core.input(input.len()).expect("below the bound").copy_from_slice(input);
    let r = core.call(op as u32, input.len());
    assert!(r.ok, "{op:?}: {}", String::from_utf8_lossy(r.body));
}

fn deck(n: usize) -> Vec<u8> {
    let mut tokens = Writer::default();
    tokens.array(n);
    (0..n).for_each(|i| token(&mut tokens, &format!("t{i}"), &format!("Token {i}"), i as i64));
    let mut w = Writer::default();
    w.map(2);
    w.str("source");
    w.map(1);
    w.str("stacks");
    w.array(1);
    w.raw(tokens.bytes());
    w.str("stack");
    w.raw(tokens.bytes());
    w.into_bytes()
}

fn main() {
    for n in [52, 1_000_000] {
        let mut core = Core::new(Registry::builtin());
        let limits = [&(1u64 << 30).to_le_bytes()[..], &(16u32 << 20).to_le_bytes(), &64u32.to_le_bytes()].concat();
        send(&mut core, Op::Open, &limits);
        deck(n).chunks(1 << 20).for_each(|piece| send(&mut core, Op::Feed, piece));
        send(&mut core, Op::Ready, &[]);
        let create: Write = |w, _| {
            w.map(1);
            w.str("name");
            w.str("Alice");
        };
        send(&mut core, Op::Dispatch, &dispatch("agent:create", create, n));
        for (action, write, undo) in ACTIONS {
            let mut calls = vec![dispatch(action, *write, n)];
            calls.extend(undo.iter().map(|(a, w)| dispatch(a, *w, n)));
            let (mut runs, start) = (0u32, Instant::now());
            while start.elapsed() < Duration::from_millis(200) {
                calls.iter().for_each(|c| send(&mut core, Op::Dispatch, c));
                runs += 1;
            }
            println!("native/tokens={n}/{action}\t{:.0} ns/op", start.elapsed().as_nanos() as f64 / runs as f64);
        }
    }
}
