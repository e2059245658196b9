//! A core for tests of hosts: the built-in actions, and actions that misbehave.

use hypertoken_core::abi::export;
use hypertoken_core::{Action, Kind, Registry, default};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The number of calls of `test:differ` in this instance. It is deliberately not part of the
/// state.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// The length that the next reply claims, if `test:lie` has set it; else 0.
static LIE: AtomicU32 = AtomicU32::new(0);

fn registry() -> Registry {
    let mut r = Registry::builtin();
    for a in ACTIONS {
        r.register(*a);
    }
    r
}

const ACTIONS: &[Action] = &[
    Action {
        name: "test:spin",
        about: "Never ends.",
        fields: &[],
        handler: |_, _| {
            loop {
                std::hint::spin_loop();
            }
        },
    },
    Action {
        name: "test:work",
        about: "Counts to rounds; returns the count.",
        fields: &[default("rounds", Kind::Whole, "1000000")],
        handler: |cx, p| {
            let rounds = p.whole("rounds", Some(1_000_000), 0)?;
            let mut n = 0i64;
            while std::hint::black_box(n) < rounds {
                n += 1;
            }
            cx.out.int(n);
            Ok(())
        },
    },
    Action {
        name: "test:trap",
        about: "Changes the state, then traps.",
        fields: &[],
        handler: |cx, _| {
            cx.state.lock("trapped", true);
            panic!("test:trap");
        },
    },
    Action {
        name: "test:grow",
        about: "Changes the state, then takes memory until there is none.",
        fields: &[],
        handler: |cx, _| {
            cx.state.lock("grown", true);
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(std::hint::black_box(vec![1; 1 << 20]));
            }
        },
    },
    Action {
        name: "test:huge",
        about: "Changes the state, then returns a string of bytes bytes.",
        fields: &[default("bytes", Kind::Whole, "33554432")],
        handler: |cx, p| {
            cx.state.lock("huge", true);
            let n = p.whole("bytes", Some(32 << 20), 0)?;
            cx.out.str(&"x".repeat(n as usize));
            Ok(())
        },
    },
    Action {
        name: "test:differ",
        about: "Returns how often this instance ran it: a replay elsewhere differs.",
        fields: &[],
        handler: |cx, _| {
            cx.state.lock("differ", !cx.state.is_locked("differ"));
            cx.out.int(CALLS.fetch_add(1, Relaxed) as i64);
            Ok(())
        },
    },
    Action {
        name: "test:lie",
        about: "Makes the reply claim a result of length bytes.",
        fields: &[default("length", Kind::Whole, "4294967295")],
        handler: |cx, p| {
            cx.state.lock("lied", true);
            LIE.store(p.whole("length", Some(u32::MAX as i64), 0)? as u32, Relaxed);
            Ok(())
        },
    },
];

#[unsafe(no_mangle)]
pub extern "C" fn ht_abi() -> u32 {
    export::version()
}

#[unsafe(no_mangle)]
pub extern "C" fn ht_reply() -> u32 {
    export::reply() as usize as u32
}

#[unsafe(no_mangle)]
pub extern "C" fn ht_input(len: u32) -> u32 {
    export::input(registry, len) as usize as u32
}

#[unsafe(no_mangle)]
pub extern "C" fn ht_call(op: u32, len: u32) -> u32 {
    let status = export::call(registry, op, len);
    let lie = LIE.swap(0, Relaxed);
    if lie != 0 {
        // SAFETY: the reply is a static array of twelve words; the fourth is the length of the
        // body.
        unsafe { &*export::reply().add(3) }.store(lie, Relaxed);
    }
    status
}
