//! The memory that actions allocate, in bytes. An action allocates in proportion to the data that
//! it touches, and holds a small multiple of that at once.

mod support;

use hypertoken_core::Limits;
use hypertoken_core::abi::{CHUNK, Op};
use serde_json::{Value as Json, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use support::{Host, NOW, pack, request};

struct Counting;

thread_local! {
    /// Of this thread: bytes allocated so far, bytes held now, and the most that were held.
    static COUNT: Cell<(usize, isize, isize)> = const { Cell::new((0, 0, 0)) };
}

fn note(allocated: usize, held: isize) {
    // Nothing is counted while a thread ends.
    let _ = COUNT.try_with(|c| {
        let (all, now, most) = c.get();
        c.set((all + allocated, now + held, most.max(now + held)));
    });
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        note(l.size(), l.size() as isize);
        unsafe { System.alloc(l) }
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        note(0, -(l.size() as isize));
        unsafe { System.dealloc(p, l) }
    }
    unsafe fn realloc(&self, p: *mut u8, l: Layout, n: usize) -> *mut u8 {
        // Growing a buffer by doubling costs as much again as it holds at last: the growth alone
        // is counted.
        note(n.saturating_sub(l.size()), n as isize - l.size() as isize);
        unsafe { System.realloc(p, l, n) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the bytes that a dispatch allocates, and the most that it holds at once.
fn cost(h: &mut Host, action: &str, payload: &Json) -> (usize, usize) {
    let input = request(NOW, &h.entropy(), action, &pack(payload));
    let room = h.core.input(input.len()).unwrap();
    room.copy_from_slice(&input);
    let (before, held, _) = COUNT.get();
    COUNT.set((before, held, held));
    let ok = h.core.call(Op::Dispatch as u32, input.len()).ok;
    let (after, _, most) = COUNT.get();
    assert!(ok, "{action} failed");
    (after - before, (most - held) as usize)
}

fn open() -> Host {
    Host::open(&json!({}), Limits { max_result: 64 << 20, ..Limits::default() }, CHUNK).unwrap()
}

/// Patches do not copy the value each: the 24,000 on 12 MB would be 288 GB.
#[test]
fn patches_cost_what_they_touch() {
    for (what, value, path) in [
        (
            "a map of maps",
            json!((0..3000).map(|i| (i.to_string(), json!({"x": "y".repeat(300)}))).collect::<serde_json::Map<_, _>>()),
            "x",
        ),
        ("an array of arrays", json!(vec![json!(["y".repeat(300)]); 3000]), "0"),
    ] {
        let size = pack(&value).len();
        let mut h = open();
        h.dispatch("game:setState", &json!({"key": "k", "value": value}), NOW).unwrap();
        let patches: Vec<Json> = (0..3000).map(|i| json!({"path": [i.to_string(), path], "value": i})).collect();
        let payload = json!({"key": "k", "patches": patches});
        let (all, most) = cost(&mut h, "game:setState", &payload);
        let touched = size + pack(&payload).len();
        assert!(all < 12 * touched, "{what}: {all} bytes were allocated for {touched} bytes");
        assert!(most < 8 * touched, "{what}: {most} bytes were held for {touched} bytes");
    }
}

/// A value of many small items, which one patch opens. The index takes four bytes for each item,
/// and the items have no nodes.
#[test]
fn one_patch_of_many_items() {
    let mut h = open();
    h.dispatch("game:setState", &json!({"key": "k", "value": {"numbers": vec![7; 1 << 20]}}), NOW).unwrap();
    let size = 1 << 20;
    for payload in [
        json!({"key": "k", "patches": [{"path": ["numbers", "5"], "value": 1}]}),
        json!({"key": "k", "patches": [{"path": ["numbers", "1048576"], "value": 1}]}),
        json!({"key": "k", "value": {"other": 1}}),
    ] {
        let (_, most) = cost(&mut h, "game:setState", &payload);
        assert!(most < 12 * size, "{most} bytes were held for {size} bytes: {:.80}", payload.to_string());
    }
}
