//! The calls that a host makes; ABI.md describes them for hosts. [`Core`] carries them out without
//! linear memory, so native tests run the same code as WebAssembly. [`export!`] makes exported
//! functions of them.

use crate::engine::{Engine, Registry, Request};
use crate::error::{Error, Result, code};
use crate::sections::Limits;
use crate::setup::SetupReader;
use crate::snapshot::{Restorer, SnapshotWriter};
use crate::state::State;
use crate::state_writer::StateWriter;
use crate::walk::Walk;
use crate::write::{KEPT, Writer};
use std::borrow::Cow;

/// The version of this interface.
pub const VERSION: u32 = 1;
/// The longest input of one call, in bytes.
pub const MAX_INPUT: usize = 64 << 20;
/// The longest chunk of a state or a snapshot, in bytes.
pub const CHUNK: usize = 1 << 20;

/// The calls of `ht_call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// Begins to open an engine; the input is its limits.
    Open = 1,
    /// Begins to restore an engine.
    Restore = 2,
    /// Hands over the next piece of the setup or the snapshot.
    Feed = 3,
    /// Says that the setup or the snapshot has been fed to its end, and makes the engine.
    Ready = 4,
    Dispatch = 5,
    Batch = 6,
    /// Begins to write a snapshot.
    Snapshot = 7,
    /// Begins to write the state.
    State = 8,
    /// Returns the next chunk of the state or the snapshot. An empty chunk is the end.
    Next = 9,
    Digest = 10,
    Actions = 11,
    /// Returns the records that the shapes in the list of actions name.
    Records = 12,
}

impl Op {
    /// All calls, sorted by number.
    pub const ALL: [Op; 12] = [
        Op::Open,
        Op::Restore,
        Op::Feed,
        Op::Ready,
        Op::Dispatch,
        Op::Batch,
        Op::Snapshot,
        Op::State,
        Op::Next,
        Op::Digest,
        Op::Actions,
        Op::Records,
    ];

    fn of(n: u32) -> Option<Op> {
        Op::ALL.get((n as usize).wrapping_sub(1)).copied()
    }
}

#[derive(Debug)]
enum Phase {
    Closed,
    Opening(Box<SetupReader>),
    Restoring(Box<Restorer>),
    Running(Box<Engine>),
}

#[derive(Debug)]
enum Stream {
    None,
    State(StateWriter, Walk),
    Snapshot(Box<SnapshotWriter>),
}

/// The answer of a call.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Whether the call succeeded. If not, `body` is the error: a map {code, message, index?}.
    pub ok: bool,
    /// Whether the state changed.
    pub changed: bool,
    pub body: &'a [u8],
    /// For a batch, 8 bytes for each member: the offset in `body` at which its result ends (u32),
    /// 1 if it failed (else 0), 1 if it changed the state (else 0), and two zero bytes.
    pub table: &'a [u8],
    /// The events, one after the other, each as MessagePack [name, payload].
    pub events: &'a [u8],
    /// The number of events.
    pub event_count: usize,
    /// Logical bytes of the state.
    pub state_bytes: u64,
}

/// A registry of actions, at most one engine, and the buffers of a call.
#[derive(Debug)]
pub struct Core {
    registry: Registry,
    phase: Phase,
    stream: Stream,
    input: Vec<u8>,
    body: Writer,
    table: Vec<u8>,
}

/// The outcome of a call that succeeded. Its result is in the body already.
struct Done {
    /// Whether the state changed.
    changed: bool,
    /// Whether the reply has the engine's events.
    events: bool,
}

/// The outcome of a call that changed nothing.
const READ: Done = Done { changed: false, events: false };

fn bad_request(message: impl Into<String>) -> Error {
    Error::new(code::BAD_REQUEST, message)
}

fn take<'a>(b: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (head, rest) = b.split_at_checked(n).ok_or_else(|| bad_request("the request is too short"))?;
    *b = rest;
    Ok(head)
}

fn take_u32(b: &mut &[u8]) -> Result<u32> {
    Ok(u32::from_le_bytes(take(b, 4)?.try_into().expect("four bytes")))
}

fn take_u64(b: &mut &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(take(b, 8)?.try_into().expect("eight bytes")))
}

/// Reads a dispatch: now (i64), 16 bytes of entropy, the length of the action (u32), the action,
/// the payload.
fn request<'a>(b: &mut &'a [u8]) -> Result<Request<'a>> {
    let now = take_u64(b)? as i64;
    if !(-crate::value::MAX_INT..=crate::value::MAX_INT).contains(&now) {
        return Err(Error::out_of_range(format!("now: {now} is outside ±{}", crate::value::MAX_INT)));
    }
    let entropy = take(b, 16)?.try_into().expect("sixteen bytes");
    let n = take_u32(b)? as usize;
    let action = take(b, n)?;
    let action = std::str::from_utf8(action).map_err(|_| bad_request("the action's name is not valid UTF-8"))?;
    Ok(Request { now, entropy, action, payload: std::mem::take(b) })
}

/// The longest code of an error that is written, in bytes. The rest is left out.
const MAX_CODE: usize = 256;
/// The longest message of an error that is written, in bytes. A handler may repeat any part of a
/// payload in its message, and a host treats a core as broken if an error has more than 64 KiB.
const MAX_MESSAGE: usize = 8 << 10;

/// Returns the beginning of a text, at most `max` bytes. If the text is longer, the result ends
/// with three dots.
fn bounded(text: &str, max: usize) -> Cow<'_, str> {
    const DOTS: &str = "...";
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = (0..=max - DOTS.len()).rfind(|i| text.is_char_boundary(*i)).unwrap_or(0);
    Cow::Owned(format!("{}{DOTS}", &text[..end]))
}

/// Writes an error. An error does not count as a result: the writer's limit is raised by its
/// length.
fn write_error(out: &mut Writer, e: &Error, index: Option<usize>) {
    let mut w = Writer::default();
    w.map(2 + index.is_some() as usize);
    w.str("code");
    w.str(&bounded(&e.code, MAX_CODE));
    if let Some(i) = index {
        w.str("index");
        w.int(i as i64);
    }
    w.str("message");
    w.str(&bounded(&e.message, MAX_MESSAGE));
    out.raise(w.len());
    out.raw(w.bytes());
}

/// An error of a call. In a batch, the number says which member failed.
struct Failed(Error, Option<usize>);

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed(e, None)
    }
}

impl Core {
    /// Returns a core with these actions, and without an engine.
    pub fn new(registry: Registry) -> Core {
        Core {
            registry,
            phase: Phase::Closed,
            stream: Stream::None,
            input: Vec::new(),
            body: Writer::default(),
            table: Vec::new(),
        }
    }

    /// Returns a buffer for `len` bytes of input; None if `len` is above [`MAX_INPUT`].
    pub fn input(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > MAX_INPUT {
            return None;
        }
        if len < KEPT {
            self.input.truncate(len);
            self.input.shrink_to(KEPT);
        }
        self.input.resize(len, 0);
        Some(&mut self.input)
    }

    /// Runs a call on the first `len` bytes of the input.
    pub fn call(&mut self, op: u32, len: usize) -> Reply<'_> {
        let input = std::mem::take(&mut self.input);
        self.body.reset(usize::MAX);
        self.table.clear();
        if op != Op::Next as u32 && !matches!(self.stream, Stream::None) {
            self.stream = Stream::None;
        }
        let result = match (Op::of(op), input.get(..len)) {
            (None, _) => Err(bad_request(format!("there is no call {op}")).into()),
            (_, None) => Err(bad_request(format!("the input is {} bytes long, not {len}", input.len())).into()),
            (Some(op), Some(input)) => self.run(op, input),
        };
        self.input = input;
        let (ok, done) = match result {
            Ok(done) => (true, done),
            Err(Failed(e, index)) => {
                self.body.reset(usize::MAX);
                self.table.clear();
                write_error(&mut self.body, &e, index);
                (false, READ)
            }
        };
        let (events, event_count, state_bytes) = match &self.phase {
            Phase::Running(e) => {
                let ev = e.events();
                let (b, n) = if done.events { (ev.out.bytes(), ev.count) } else { (&[][..], 0) };
                (b, n, e.state().logical_bytes())
            }
            _ => (&[][..], 0, 0),
        };
        Reply {
            ok,
            changed: done.changed,
            body: self.body.bytes(),
            table: &self.table,
            events,
            event_count,
            state_bytes,
        }
    }

    fn run(&mut self, op: Op, input: &[u8]) -> std::result::Result<Done, Failed> {
        match op {
            Op::Open => {
                self.phase = Phase::Closed;
                let mut b = input;
                let (state, result, depth) = (take_u64(&mut b)?, take_u32(&mut b)?, take_u32(&mut b)?);
                if depth == 0 || depth > Limits::MAX_DEPTH {
                    let max = Limits::MAX_DEPTH;
                    return Err(Error::out_of_range(format!("MaxDepth: {depth} is outside 1..{max}")).into());
                }
                let max = crate::value::MAX_INT as u64;
                if state > max {
                    return Err(Error::out_of_range(format!("MaxStateBytes: {state} is above {max}")).into());
                }
                let limits = Limits { max_state: state, max_result: result, max_depth: depth };
                self.phase = Phase::Opening(Box::new(SetupReader::new(limits)));
                Ok(READ)
            }
            Op::Restore => {
                self.phase = Phase::Restoring(Box::new(Restorer::new()));
                Ok(READ)
            }
            Op::Feed => {
                let result = match &mut self.phase {
                    Phase::Opening(r) => r.feed(input),
                    Phase::Restoring(r) => r.feed(input),
                    _ => Err(bad_request("feed: nothing is being opened or restored")),
                };
                if result.is_err() {
                    self.phase = Phase::Closed;
                }
                Ok(result.map(|()| READ)?)
            }
            Op::Ready => {
                let state: State = match std::mem::replace(&mut self.phase, Phase::Closed) {
                    Phase::Opening(r) => r.finish()?,
                    Phase::Restoring(r) => r.finish()?,
                    other => {
                        self.phase = other;
                        return Err(bad_request("ready: nothing is being opened or restored").into());
                    }
                };
                self.phase = Phase::Running(Box::new(Engine::new(self.registry.clone(), state)));
                Ok(READ)
            }
            Op::Dispatch => self.dispatch(input),
            Op::Batch => self.batch(input),
            Op::Snapshot => {
                let w = SnapshotWriter::new(self.engine()?.state());
                self.stream = Stream::Snapshot(Box::new(w));
                Ok(READ)
            }
            Op::State => {
                let walk = Walk::new(self.engine()?.state(), false);
                self.stream = Stream::State(StateWriter::default(), walk);
                Ok(READ)
            }
            Op::Next => self.next(),
            Op::Digest => {
                let digest = self.engine()?.digest();
                self.body.raw(&digest.to_le_bytes());
                Ok(READ)
            }
            Op::Actions => {
                self.registry.list(&mut self.body);
                Ok(READ)
            }
            Op::Records => {
                self.registry.list_records(&mut self.body);
                Ok(READ)
            }
        }
    }

    fn engine(&mut self) -> Result<&mut Engine> {
        match &mut self.phase {
            Phase::Running(e) => Ok(e),
            _ => Err(bad_request("no engine is open")),
        }
    }

    fn dispatch(&mut self, mut input: &[u8]) -> std::result::Result<Done, Failed> {
        let Phase::Running(engine) = &mut self.phase else { return Err(bad_request("no engine is open").into()) };
        let r = request(&mut input)?;
        engine.begin(&mut self.body);
        let changed = engine.run(&r, &mut self.body)?;
        engine.commit();
        Ok(Done { changed, events: true })
    }

    /// Runs a batch. The input is the mode (u32: 0 for atomic, 1 for independent), the number of
    /// members (u32), then for each member its length (u32) and its dispatch.
    fn batch(&mut self, mut input: &[u8]) -> std::result::Result<Done, Failed> {
        let Phase::Running(engine) = &mut self.phase else { return Err(bad_request("no engine is open").into()) };
        let atomic = match take_u32(&mut input)? {
            0 => true,
            1 => false,
            n => return Err(bad_request(format!("there is no batch mode {n}")).into()),
        };
        let count = take_u32(&mut input)? as usize;
        // All lengths are checked before the first member runs. So a request that breaks the ABI
        // has no effect.
        let mut members = Vec::with_capacity(count.min(input.len() / 28));
        for _ in 0..count {
            let n = take_u32(&mut input)? as usize;
            members.push(take(&mut input, n)?);
        }
        if !input.is_empty() {
            return Err(bad_request(format!("{} bytes follow the batch", input.len())).into());
        }
        engine.begin(&mut self.body);
        let mark = engine.state().mark();
        let mut any = false;
        for (i, mut m) in members.into_iter().enumerate() {
            let result = request(&mut m).and_then(|r| engine.run(&r, &mut self.body));
            let (failed, changed) = match result {
                Ok(changed) => (false, changed),
                Err(e) if atomic => {
                    engine.abort(mark);
                    return Err(Failed(e, Some(i)));
                }
                Err(e) => {
                    write_error(&mut self.body, &e, None);
                    (true, false)
                }
            };
            any |= changed;
            if !atomic {
                engine.commit();
            }
            self.table.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
            self.table.extend_from_slice(&[failed as u8, changed as u8, 0, 0]);
        }
        engine.commit();
        Ok(Done { changed: any, events: true })
    }

    fn next(&mut self) -> std::result::Result<Done, Failed> {
        let Phase::Running(engine) = &self.phase else { return Err(bad_request("no engine is open").into()) };
        let state = engine.state();
        let pending = match &mut self.stream {
            Stream::None => return Err(bad_request("next: neither a state nor a snapshot is being written").into()),
            Stream::State(w, walk) => {
                while w.out.len() < CHUNK && walk.step(state, w) {}
                &mut w.out
            }
            Stream::Snapshot(w) => {
                while w.out.len() < CHUNK && w.step(state) {}
                &mut w.out
            }
        };
        let n = pending.len().min(CHUNK);
        self.body.raw(&pending.bytes()[..n]);
        pending.drop_front(n);
        if n == 0 {
            self.stream = Stream::None;
        }
        Ok(READ)
    }
}

/// The bodies of the functions that [`export!`] exports.
#[doc(hidden)]
pub mod export {
    use super::{Core, Registry, VERSION};
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// The reply as words of 32 bits; ABI.md has the table. It is static, so a host can read it
    /// even after a trap.
    static REPLY: [AtomicU32; 12] = [const { AtomicU32::new(0) }; 12];
    const OUT_OF_MEMORY: u32 = 2;

    thread_local! {
        static CORE: RefCell<Option<Core>> = const { RefCell::new(None) };
    }

    fn with<R>(registry: fn() -> Registry, f: impl FnOnce(&mut Core) -> R) -> R {
        CORE.with(|c| f(c.borrow_mut().get_or_insert_with(|| Core::new(registry()))))
    }

    pub fn version() -> u32 {
        VERSION
    }

    pub fn reply() -> *const AtomicU32 {
        REPLY.as_ptr()
    }

    pub fn input(registry: fn() -> Registry, len: u32) -> *mut u8 {
        with(registry, |c| c.input(len as usize).map_or(std::ptr::null_mut(), |b| b.as_mut_ptr()))
    }

    pub fn call(registry: fn() -> Registry, op: u32, len: u32) -> u32 {
        with(registry, |c| {
            let r = c.call(op, len as usize);
            let words = [
                !r.ok as u32,
                r.changed as u32,
                r.body.as_ptr() as usize as u32,
                r.body.len() as u32,
                r.table.as_ptr() as usize as u32,
                r.table.len() as u32,
                r.events.as_ptr() as usize as u32,
                r.events.len() as u32,
                r.event_count as u32,
                0,
                r.state_bytes as u32,
                (r.state_bytes >> 32) as u32,
            ];
            REPLY.iter().zip(words).for_each(|(a, w)| a.store(w, Relaxed));
            words[0]
        })
    }

    /// The system allocator. If memory is exhausted, it notes this in the reply, so that a host
    /// can tell the trap that follows from other traps.
    #[cfg(target_arch = "wasm32")]
    struct Noting;

    #[cfg(target_arch = "wasm32")]
    #[global_allocator]
    static ALLOCATOR: Noting = Noting;

    #[cfg(target_arch = "wasm32")]
    // SAFETY: every method passes its call on to the system allocator.
    unsafe impl std::alloc::GlobalAlloc for Noting {
        unsafe fn alloc(&self, l: std::alloc::Layout) -> *mut u8 {
            note(unsafe { std::alloc::System.alloc(l) })
        }
        unsafe fn dealloc(&self, p: *mut u8, l: std::alloc::Layout) {
            unsafe { std::alloc::System.dealloc(p, l) }
        }
        unsafe fn alloc_zeroed(&self, l: std::alloc::Layout) -> *mut u8 {
            note(unsafe { std::alloc::System.alloc_zeroed(l) })
        }
        unsafe fn realloc(&self, p: *mut u8, l: std::alloc::Layout, n: usize) -> *mut u8 {
            note(unsafe { std::alloc::System.realloc(p, l, n) })
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn note(p: *mut u8) -> *mut u8 {
        if p.is_null() {
            REPLY[0].store(OUT_OF_MEMORY, Relaxed);
        }
        p
    }

    #[cfg(not(target_arch = "wasm32"))]
    const _: u32 = OUT_OF_MEMORY;

    /// The version of the compiler that made this core, in a custom section of the module.
    #[cfg(target_arch = "wasm32")]
    #[used]
    #[unsafe(link_section = "hypertoken.toolchain")]
    static TOOLCHAIN: [u8; env!("HYPERTOKEN_TOOLCHAIN").len()] = {
        let text = env!("HYPERTOKEN_TOOLCHAIN").as_bytes();
        let mut b = [0; env!("HYPERTOKEN_TOOLCHAIN").len()];
        let mut i = 0;
        while i < b.len() {
            b[i] = text[i];
            i += 1;
        }
        b
    };
}

/// Exports the functions of the ABI from a crate of type `cdylib`. `$registry` is a
/// `fn() -> Registry` that returns the core's actions.
#[macro_export]
macro_rules! export {
    ($registry:path) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn ht_abi() -> u32 {
            $crate::abi::export::version()
        }
        #[unsafe(no_mangle)]
        pub extern "C" fn ht_reply() -> u32 {
            $crate::abi::export::reply() as usize as u32
        }
        #[unsafe(no_mangle)]
        pub extern "C" fn ht_input(len: u32) -> u32 {
            $crate::abi::export::input($registry, len) as usize as u32
        }
        #[unsafe(no_mangle)]
        pub extern "C" fn ht_call(op: u32, len: u32) -> u32 {
            $crate::abi::export::call($registry, op, len)
        }
    };
}
