//! A value that is changed in many places and written once.
//!
//! Parts that no change touches stay as the bytes that came. A container on the way to a change is
//! opened once: it gets an index, four bytes for each item, in which later changes search. So the
//! cost of a further change depends on its path, not on the value's size. The memory is that of
//! the indexes and of the changes.

use crate::error::{Error, Result};
use crate::payload::quote;
use crate::sort::sort_names;
use crate::value::Value;
use crate::write::Writer;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::slice::Iter;

/// The node of the whole value.
const ROOT: u32 = 0;

/// A value that is being changed. Nodes refer to each other by their index. A node that is
/// replaced stays in the list, but no node refers to it.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    /// The nodes of the entries that are open or changed, by the node of their map and their key.
    entries: BTreeMap<(u32, &'a str), u32>,
    /// The nodes of the items that are open or changed, by the node of their array and their
    /// index.
    items: BTreeMap<(u32, u32), u32>,
}

#[derive(Debug)]
enum Node<'a> {
    /// A value that is not open.
    Plain(Value<'a>),
    /// An open map: its old value, the offsets of the old entries, sorted by their keys, and the
    /// number of new keys.
    Map { old: Value<'a>, at: Box<[u32]>, added: usize },
    /// An open array: its old value, the offsets of the old items, and the number of items now.
    Array { old: Value<'a>, at: Box<[u32]>, len: usize },
}

impl<'a> Tree<'a> {
    /// Returns a tree over a value. If there is no value yet, it is nil.
    pub(super) fn new(value: Value<'a>) -> Tree<'a> {
        Tree { nodes: vec![Node::Plain(value)], entries: BTreeMap::new(), items: BTreeMap::new() }
    }

    /// Puts a value at a path of at least one key. Maps that are missing on the way are made; they
    /// also replace nil, false, 0 and "". Fails if the path leads into another value that is no
    /// container, or to an index of an array that is greater than its length. `field` names the
    /// path in the error.
    pub(super) fn put(&mut self, path: &[&'a str], value: Value<'a>, field: &str) -> Result {
        let Some((last, way)) = path.split_last() else { return Ok(()) };
        let mut node = ROOT;
        for key in way {
            node = self.child(node, key, None, field)?;
        }
        self.child(node, last, Some(value), field).map(drop)
    }

    /// Opens the whole value. So its keys are sorted when it is written, even if nothing changes
    /// it.
    pub(super) fn open_root(&mut self) -> Result {
        self.open(ROOT, "", "")
    }

    /// Opens a node, and returns the node of one of its keys. With `new`, that node gets this
    /// value.
    fn child(&mut self, node: u32, key: &'a str, new: Option<Value<'a>>, field: &str) -> Result<u32> {
        self.open(node, key, field)?;
        let next = self.nodes.len() as u32;
        let (link, old) = match &mut self.nodes[node as usize] {
            Node::Map { old, at, added } => {
                let found = || at.binary_search_by(|at| old.key_at(*at).cmp(key)).ok();
                match self.entries.entry((node, key)) {
                    std::collections::btree_map::Entry::Occupied(e) => (e.into_mut(), None),
                    std::collections::btree_map::Entry::Vacant(e) => {
                        let value = found().map(|i| old.entry_at(at[i]).1);
                        *added += value.is_none() as usize;
                        (e.insert(next), Some(value.unwrap_or(Value::NIL)))
                    }
                }
            }
            Node::Array { old, at, len } => {
                let i = key.parse::<u32>().ok().filter(|i| *i as usize <= *len && *key == i.to_string());
                let i = i.ok_or_else(|| {
                    Error::out_of_range(format!(
                        "field {field}.path: {} is no index of an array of {len}, nor its end",
                        quote(key)
                    ))
                })?;
                *len = (*len).max(i as usize + 1);
                match self.items.entry((node, i)) {
                    std::collections::btree_map::Entry::Occupied(e) => (e.into_mut(), None),
                    std::collections::btree_map::Entry::Vacant(e) => {
                        let value = at.get(i as usize).map(|at| old.item_at(*at));
                        (e.insert(next), Some(value.unwrap_or(Value::NIL)))
                    }
                }
            }
            Node::Plain(_) => unreachable!("the node is open"),
        };
        if let Some(value) = new.or(old) {
            *link = next;
            self.nodes.push(Node::Plain(value));
        }
        Ok(*link)
    }

    fn open(&mut self, node: u32, key: &str, field: &str) -> Result {
        let Node::Plain(v) = self.nodes[node as usize] else { return Ok(()) };
        self.nodes[node as usize] = if v.entries().is_some() {
            let mut at: Box<[u32]> = v.offsets().collect();
            if !at.is_sorted_by_key(|at| v.key_at(*at)) {
                let mut keys: Vec<(&str, u32)> = at.iter().map(|at| (v.key_at(*at), *at)).collect();
                sort_names(&mut keys);
                at = keys.into_iter().map(|(_, at)| at).collect();
            }
            Node::Map { old: v, at, added: 0 }
        } else if let Some(items) = v.items() {
            Node::Array { old: v, at: v.offsets().collect(), len: items.len() }
        } else if v.is_falsy() {
            Node::Map { old: v, at: Box::default(), added: 0 }
        } else {
            let got = v.describe();
            return Err(Error::bad_payload(format!("field {field}.path: {} leads into {got}, not a map", quote(key))));
        };
        Ok(())
    }

    /// Returns the changed value. The keys of maps that were opened are sorted. There is no
    /// recursion.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut out = Writer::default();
        let mut open: Vec<Container<'_, 'a>> = Vec::new();
        let mut next = Some(ROOT);
        loop {
            if let Some(node) = next.take() {
                match &self.nodes[node as usize] {
                    Node::Plain(v) => out.raw(v.bytes()),
                    Node::Map { old, at, added } => {
                        out.map(at.len() + added);
                        let changed = self.entries.range((node, "")..(node + 1, "")).peekable();
                        open.push(Container::Map { old: *old, at: at.iter(), changed });
                    }
                    Node::Array { old, at, len } => {
                        out.array(*len);
                        let changed = self.items.range((node, 0)..(node + 1, 0)).peekable();
                        open.push(Container::Array { old: *old, at, changed, next: 0, len: *len });
                    }
                }
            }
            match open.last_mut() {
                None => return out.into_bytes(),
                Some(container) => match container.write_on(&mut out) {
                    Some(node) => next = Some(node),
                    None => drop(open.pop()),
                },
            }
        }
    }
}

/// An open container that is being written.
enum Container<'t, 'a> {
    Map { old: Value<'a>, at: Iter<'t, u32>, changed: Peekable<Range<'t, (u32, &'a str), u32>> },
    Array { old: Value<'a>, at: &'t [u32], changed: Peekable<Range<'t, (u32, u32), u32>>, next: usize, len: usize },
}

impl Container<'_, '_> {
    /// Writes items up to the next one that has a node, and returns that node; None at the end.
    fn write_on(&mut self, out: &mut Writer) -> Option<u32> {
        match self {
            Container::Map { old, at, changed } => loop {
                let kept = at.as_slice().first().map(|at| old.entry_at(*at));
                match (kept, changed.peek()) {
                    (None, None) => return None,
                    (Some((key, value)), change) if change.is_none_or(|((_, k), _)| key < *k) => {
                        at.next();
                        out.str(key);
                        out.raw(value.bytes());
                    }
                    (kept, Some(((_, key), node))) => {
                        if kept.is_some_and(|(k, _)| k == *key) {
                            at.next();
                        }
                        let node = **node;
                        out.str(key);
                        changed.next();
                        return Some(node);
                    }
                    (Some(_), None) => unreachable!("written above"),
                }
            },
            Container::Array { old, at, changed, next, len } => {
                while *next < *len {
                    let i = *next;
                    *next += 1;
                    if let Some((_, node)) = changed.next_if(|((_, at), _)| *at as usize == i) {
                        return Some(*node);
                    }
                    out.raw(old.item_at(at[i]).bytes());
                }
                None
            }
        }
    }
}
