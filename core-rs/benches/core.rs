//! Runs cases.json natively: the baseline of BenchmarkAction in the Go package wasm, which runs
//! the same in WebAssembly. `make bench-core` runs both and puts them side by side.

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, SamplingMode};
use hypertoken_core::abi::{CHUNK, Core, Op};
use hypertoken_core::{Limits, Registry};
use serde_json::{Map, Value as Json, json};
use std::cell::{LazyCell, RefCell};
use std::time::{Duration, Instant};
use support::{Host, limits_bytes, pack, request, unpack};

const CASES: &str = include_str!("cases.json");
/// The offset of the entropy in a dispatch.
const ENTROPY: usize = 8;

/// An engine of n tokens.
struct Bench {
    host: Host,
    sent: u64,
    words: Map<String, Json>,
    snapshot: Vec<u8>,
}

enum Step {
    Dispatch(Vec<u8>),
    Stream(Op),
    Digest,
    Restore,
}

impl Bench {
    fn new(n: usize, cases: &Json) -> Bench {
        let token = |i| json!({"id": format!("t{i}"), "index": i, "kind": "card", "label": format!("Token {i}")});
        let tokens: Vec<Json> = (0..n).map(token).collect();
        let limits = Limits { max_state: 2 << 30, max_result: 1 << 30, ..Limits::default() };
        let mut host = Host::new(Registry::builtin());
        host.call(Op::Open, &limits_bytes(limits)).unwrap();
        for piece in pack(&json!({"source": {"stacks": [&tokens]}, "stack": &tokens})).chunks(CHUNK) {
            host.call(Op::Feed, piece).unwrap();
        }
        host.call(Op::Ready, &[]).unwrap();
        let mut words = Map::new();
        words.insert("$card".into(), cases["card"].clone());
        words.insert("$hand".into(), (0..52).map(token).collect());
        words.insert("$tokens".into(), n.into());
        words.insert("$half".into(), (n / 2).into());
        words.insert("$some".into(), (n / 2).min(5000).into());
        words.insert("$last".into(), (n - 1).into());
        let mut b = Bench { host, sent: 0, words, snapshot: Vec::new() };
        for mut step in b.steps(&cases["setup"]) {
            b.run(&mut step);
        }
        for mut step in b.steps(&cases["fill"]) {
            (1..n).for_each(|_| b.run(&mut step));
            if let Step::Dispatch(input) = step {
                let placed = unpack(&b.host.call(Op::Dispatch, &input).unwrap());
                b.words.insert("$id".into(), placed["id"].clone());
            }
        }
        b.snapshot = b.host.stream(Op::Snapshot);
        b
    }

    fn fill(&self, v: &Json) -> Json {
        match v {
            Json::String(s) => self.words.get(s).unwrap_or(v).clone(),
            Json::Array(a) => a.iter().map(|v| self.fill(v)).collect(),
            Json::Object(m) => m.iter().map(|(k, v)| (k.clone(), self.fill(v))).collect(),
            _ => v.clone(),
        }
    }

    fn steps(&self, steps: &Json) -> Vec<Step> {
        let step = |s: &Json| match s[0].as_str().unwrap() {
            "@state" => Step::Stream(Op::State),
            "@snapshot" => Step::Stream(Op::Snapshot),
            "@digest" => Step::Digest,
            "@restore" => Step::Restore,
            action => Step::Dispatch(request(1, &[0; 16], action, &pack(&self.fill(&s[1])))),
        };
        steps.as_array().into_iter().flatten().map(step).collect()
    }

    fn run(&mut self, step: &mut Step) {
        match step {
            Step::Dispatch(input) => {
                self.sent += 1;
                input[ENTROPY..ENTROPY + 8].copy_from_slice(&self.sent.to_le_bytes());
                send(&mut self.host.core, Op::Dispatch, input);
            }
            Step::Stream(op) => {
                send(&mut self.host.core, *op, &[]);
                while send(&mut self.host.core, Op::Next, &[]) > 0 {}
            }
            Step::Digest => {
                send(&mut self.host.core, Op::Digest, &[]);
            }
            Step::Restore => {
                let mut core = Core::new(Registry::builtin());
                send(&mut core, Op::Restore, &[]);
                for piece in self.snapshot.chunks(CHUNK) {
                    send(&mut core, Op::Feed, piece);
                }
                send(&mut core, Op::Ready, &[]);
            }
        }
    }

    /// Times n steps, or as many times that as make whole blocks, and puts back what they did.
    fn time(&mut self, n: u64, steps: &mut [Step], repeat: u64, undo: &mut [Step]) -> Duration {
        let block = if undo.is_empty() { n.div_ceil(steps.len() as u64) } else { repeat };
        let (mut ran, mut time) = (0, Duration::ZERO);
        while ran < n {
            let start = Instant::now();
            for _ in 0..block {
                steps.iter_mut().for_each(|s| self.run(s));
            }
            time += start.elapsed();
            undo.iter_mut().for_each(|s| self.run(s));
            ran += block * steps.len() as u64;
        }
        time.mul_f64(n as f64 / ran as f64)
    }
}

/// Runs a call, and returns how long its answer is.
fn send(core: &mut Core, op: Op, input: &[u8]) -> usize {
    core.input(input.len()).expect("below the bound").copy_from_slice(input);
    let r = core.call(op as u32, input.len());
    assert!(r.ok, "{op:?}: {}", String::from_utf8_lossy(r.body));
    r.body.len()
}

fn main() {
    let cases: Json = serde_json::from_str(CASES).expect("cases.json is JSON");
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .sample_size(10)
        .nresamples(1001)
        .without_plots()
        .configure_from_args();
    let mut g = c.benchmark_group("core");
    g.sampling_mode(SamplingMode::Flat);
    for n in cases["tokens"].as_array().into_iter().flatten().filter_map(Json::as_u64) {
        // Made by the first case that is not filtered out.
        let engine = LazyCell::new(|| RefCell::new(Bench::new(n as usize, &cases)));
        let fits = |c: &&Json| c["most"].as_u64().is_none_or(|most| n <= most);
        for case in cases["cases"].as_array().into_iter().flatten().filter(fits) {
            let family = case["family"].as_str().expect("a case has a family");
            g.bench_function(BenchmarkId::new(family, n), |x| {
                let mut b = engine.borrow_mut();
                let (mut steps, mut undo) = (b.steps(&case["steps"]), b.steps(&case["undo"]));
                let repeat = b.fill(&case["repeat"]).as_u64().unwrap_or(1);
                x.iter_custom(|k| b.time(k, &mut steps, repeat, &mut undo));
            });
        }
    }
    g.finish();
}
