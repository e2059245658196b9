//! A harness for native tests of a core. It drives an engine through the calls that a host makes.
//!
//! ```
//! use hypertoken_core::testing::Table;
//! use hypertoken_core::{Registry, Token, payload};
//!
//! let cards = [payload! { id: "ace" }, payload! { id: "king" }];
//! let mut table = Table::open(Registry::builtin(), &payload! { stack: cards });
//! let drawn: Vec<Token> = table.run("stack:draw", &payload! { count: 1 }).unwrap();
//! assert_eq!(drawn[0].id(), "king");
//! assert_eq!(table.run::<Token>("stack:removeAt", &payload! { position: 7 }).unwrap_err().code, "out_of_range");
//! assert_eq!(table.state::<Vec<Token>>(&["stack", "stack"]).len(), 1);
//! ```

use crate::abi::{CHUNK, Core, Op};
use crate::engine::Registry;
use crate::error::{Error, Result, code};
use crate::sections::Limits;
use crate::typed::{BAD_RESULT, decode, encode};
use crate::value::{Value, scan};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An event: its name, and its payload as MessagePack.
type Event = (String, Vec<u8>);

/// An engine, and the checks that every action of it has to pass:
///
/// - An action that fails leaves the digest of the state as it was, and its error has a code.
/// - The same action on an engine that was restored from a snapshot gives the same answer and the same
///   digest. Otherwise a host could not recover a game.
///
/// Each method panics, with the reason, if a check fails.
pub struct Table {
    registry: Registry,
    core: Core,
    /// The clock of the next action, in milliseconds since the epoch. It is 1,700,000,000,000 at
    /// first, and changes only if the test sets it.
    pub now: i64,
    actions: u64,
    events: Vec<Event>,
}

impl Table {
    /// Opens an engine of a registry's actions with a setup. Panics if the core refuses the setup.
    pub fn open(registry: Registry, setup: &(impl Serialize + ?Sized)) -> Table {
        Table::with_limits(registry, setup, Limits::default())
    }

    /// Does the same as [`Table::open`], with other limits than the default ones.
    pub fn with_limits(registry: Registry, setup: &(impl Serialize + ?Sized), limits: Limits) -> Table {
        let mut t = Table {
            core: Core::new(registry.clone()),
            registry,
            now: 1_700_000_000_000,
            actions: 0,
            events: Vec::new(),
        };
        let mut input = limits.max_state.to_le_bytes().to_vec();
        input.extend(limits.max_result.to_le_bytes());
        input.extend(limits.max_depth.to_le_bytes());
        let setup = encode("the setup", setup, usize::MAX).unwrap_or_else(|e| panic!("{e}"));
        let opened = send(&mut t.core, Op::Open, &input)
            .and_then(|_| feed(&mut t.core, &setup))
            .and_then(|()| send(&mut t.core, Op::Ready, &[]));
        opened.unwrap_or_else(|e| panic!("the core refuses the setup: {e}"));
        t
    }

    /// Runs an action and returns its result as a type; `()` takes no result but nil. The error is
    /// the action's own, or one with the code `bad_result` if the result is of another type.
    pub fn run<R: DeserializeOwned>(&mut self, action: &str, payload: &(impl Serialize + ?Sized)) -> Result<R> {
        let payload = encode("the payload", payload, usize::MAX)?;
        let result = self.run_bytes(action, &payload)?;
        decode(&format!("the result of {action}"), BAD_RESULT, &result)
    }

    /// Runs an action that has to fail, and returns the code of its error. Panics if it succeeds.
    pub fn refused(&mut self, action: &str, payload: &(impl Serialize + ?Sized)) -> String {
        let payload = encode("the payload", payload, usize::MAX).unwrap_or_else(|e| panic!("{e}"));
        match self.run_bytes(action, &payload) {
            Err(e) => e.code.into_owned(),
            Ok(result) => panic!("{action} succeeds, with {}", Value::trusted(&result).describe()),
        }
    }

    fn run_bytes(&mut self, action: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.actions += 1;
        let mut input = self.now.to_le_bytes().to_vec();
        let mut entropy = [7; 16];
        entropy[..8].copy_from_slice(&self.actions.to_le_bytes());
        input.extend(entropy);
        input.extend((action.len() as u32).to_le_bytes());
        input.extend(action.as_bytes());
        input.extend(payload);

        let (before, snapshot) = (self.digest(), stream(&mut self.core, Op::Snapshot));
        let mut other = Core::new(self.registry.clone());
        restore(&mut other, &snapshot, action);
        let mut events = Vec::new();
        let result = dispatch(&mut self.core, &input, &mut events);
        let again = dispatch(&mut other, &input, &mut Vec::new());
        let after = self.digest();
        assert!(
            result == again && digest(&mut other) == after,
            "{action}: an engine that was restored from a snapshot answers {again:?}, the engine itself {result:?}, or \
             their digests differ: a handler may depend on the state, its payload, the clock and the entropy alone"
        );
        match &result {
            Err(e) if e.code.is_empty() => panic!("{action} fails without a code: a host closes the engine's instance"),
            Err(_) => assert_eq!(before, after, "{action} failed and changed the state"),
            Ok(_) => self.events.append(&mut events),
        }
        result
    }

    /// Returns the digest of the state.
    pub fn digest(&mut self) -> u64 {
        digest(&mut self.core)
    }

    /// Returns a part of the state, by the keys on the way to it: `["gameState", "winner"]`.
    /// Without keys, it returns the whole state. Panics if a key is missing, or if the part is not
    /// a T.
    pub fn state<T: DeserializeOwned>(&mut self, path: &[&str]) -> T {
        let state = stream(&mut self.core, Op::State);
        let mut v = Value::trusted(&state);
        for key in path {
            v = v.get(key).unwrap_or_else(|| panic!("the state has no {}: {key} is missing", path.join(".")));
        }
        decode(&path.join("."), code::BAD_STATE, v.bytes()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Returns the events of the actions that succeeded since the last call: the name and the
    /// payload of each. Panics if a payload is not a T.
    pub fn events<T: DeserializeOwned>(&mut self) -> Vec<(String, T)> {
        let typed = |(name, payload): Event| {
            let payload = decode(&format!("the event {name}"), BAD_RESULT, &payload).unwrap_or_else(|e| panic!("{e}"));
            (name, payload)
        };
        std::mem::take(&mut self.events).into_iter().map(typed).collect()
    }
}

fn send(core: &mut Core, op: Op, input: &[u8]) -> Result<Vec<u8>> {
    dispatch_as(core, op, input, &mut Vec::new())
}

fn dispatch(core: &mut Core, input: &[u8], events: &mut Vec<Event>) -> Result<Vec<u8>> {
    dispatch_as(core, Op::Dispatch, input, events)
}

fn dispatch_as(core: &mut Core, op: Op, input: &[u8], events: &mut Vec<Event>) -> Result<Vec<u8>> {
    core.input(input.len()).ok_or_else(|| Error::too_large("an input is at most 64 MiB"))?.copy_from_slice(input);
    let reply = core.call(op as u32, input.len());
    if !reply.ok {
        let e = Value::trusted(reply.body);
        let text = |key| e.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        return Err(Error::new(text("code"), text("message")));
    }
    let mut rest = reply.events;
    while let Ok(s) = scan(rest, usize::MAX) {
        let mut event = Value::trusted(&rest[..s.len]).items().into_iter().flatten();
        if let (Some(name), Some(payload)) = (event.next().and_then(Value::as_str), event.next()) {
            events.push((name.to_string(), payload.bytes().to_vec()));
        }
        rest = &rest[s.len..];
    }
    Ok(reply.body.to_vec())
}

fn feed(core: &mut Core, bytes: &[u8]) -> Result {
    bytes.chunks(CHUNK).try_for_each(|piece| send(core, Op::Feed, piece).map(drop))
}

fn restore(core: &mut Core, snapshot: &[u8], action: &str) {
    let restored =
        send(core, Op::Restore, &[]).and_then(|_| feed(core, snapshot)).and_then(|()| send(core, Op::Ready, &[]));
    restored.unwrap_or_else(|e| panic!("before {action}: a snapshot of the state can't be restored: {e}"));
}

fn stream(core: &mut Core, op: Op) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = send(core, op, &[]).and_then(|_| send(core, Op::Next, &[]));
    loop {
        match chunk {
            Ok(c) if c.is_empty() => return all,
            Ok(c) => all.extend(c),
            Err(e) => panic!("{e}"),
        }
        chunk = send(core, Op::Next, &[]);
    }
}

fn digest(core: &mut Core) -> u64 {
    let bytes = send(core, Op::Digest, &[]).unwrap_or_else(|e| panic!("{e}"));
    bytes.try_into().map(u64::from_le_bytes).expect("a digest has eight bytes")
}
