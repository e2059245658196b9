//! What the tests share: JSON in and out of the core, through the calls that a host makes.
#![allow(dead_code)]

use hypertoken_core::abi::{CHUNK, Core, Op};
use hypertoken_core::{Entries, Limits, Registry, Value, Writer};
use serde_json::{Map, Value as Json};

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
