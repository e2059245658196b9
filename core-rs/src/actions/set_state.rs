//! game:setState: writes any top-level key of the state, also a built-in section, as a whole or by
//! patches.
//!
//! A built-in section is written as bytes, the bytes are changed, and then they are read back. If
//! they are no such section any more, the action fails.

use super::tree::Tree;
use crate::engine::Context;
use crate::error::{Error, Result, code};
use crate::payload::{Payload, check_fields, quote};
use crate::sections::{
    Agent, Agents, At, Inventory, Limits, Map, Pile, Placement, Rules, Section, Source, Unordered, Zones,
    map_of_entries,
};
use crate::state::State;
use crate::state_writer::section_bytes;
use crate::token::Token;
use crate::value::{Value, scan_all};
use crate::walk::Sec;
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

pub(super) fn set_state(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let key = p.name("key")?;
    let replace = p.bool("replace", false)?;
    let sec = Sec::of(key);
    let old: Option<Cow<'_, [u8]>> = match &sec {
        None => cx.state.extra.get(key).map(|b| Cow::Borrowed(&**b)),
        Some(Sec::Rules) if cx.state.rules.is_none() => None,
        Some(Sec::Stack) if cx.state.stack.is_none() => return cx.state.need_stack().map(drop),
        Some(Sec::Source) if cx.state.source.is_none() => return cx.state.need_source().map(drop),
        Some(s) => Some(Cow::Owned(section_bytes(cx.state, s.clone()))),
    };
    let new = match (p.get("value"), p.get("patches").filter(|v| !v.is_nil())) {
        (Some(_), Some(_)) => return Err(Error::bad_payload("field patches: want either value or patches, not both")),
        (None, None) => return Err(Error::bad_payload("field value: want value or patches, got neither")),
        (None, Some(_)) if replace => {
            return Err(Error::bad_payload("field replace: goes with value, not with patches"));
        }
        (Some(v), None) if replace => v.bytes().to_vec(),
        (Some(v), None) => merged(old.as_deref().map(Value::trusted), v)?,
        (None, Some(_)) => patched(old.as_deref().map(Value::trusted), p, &cx.state.limits)?,
    };
    // A built-in section contains values a few levels down, and each of them may be MaxDepth deep.
    let max_depth = cx.state.limits.max_depth as usize + if sec.is_some() { 8 } else { 0 };
    scan_all(&new, max_depth)
        .map_err(|e| Error { message: format!("{} as patched: {}", quote(key), e.message), ..e })?;
    match sec {
        None => {
            cx.out.raw(&new);
            cx.state.put(At::Extra, key, new.into());
        }
        Some(_) if old.as_deref() == Some(new.as_slice()) => cx.out.raw(&new),
        Some(sec) => {
            read_section(cx.state, &sec, Value::trusted(&new))?;
            cx.out.raw(&section_bytes(cx.state, sec));
        }
    }
    Ok(())
}

/// Merges a new value into an old one, shallowly. If the old value is a map, the entries of a new
/// map are put into it, and so are the items of a new array, under their indexes. In all other
/// cases the new value replaces the old one.
fn merged(old: Option<Value<'_>>, new: Value<'_>) -> Result<Vec<u8>> {
    let Some(old) = old.filter(|v| v.entries().is_some()) else { return Ok(new.bytes().to_vec()) };
    let indexes: Vec<String>;
    let entries: Vec<(&str, Value<'_>)> = match (new.entries(), new.items()) {
        (Some(entries), _) => entries.collect(),
        (_, Some(items)) => {
            indexes = (0..items.len()).map(|i| i.to_string()).collect();
            indexes.iter().map(String::as_str).zip(items).collect()
        }
        _ => return Ok(new.bytes().to_vec()),
    };
    let mut tree = Tree::new(old);
    tree.open_root()?;
    for (key, value) in entries {
        tree.put(&[key], value, "value")?;
    }
    Ok(tree.into_bytes())
}

/// Applies the patches to a value, one after the other, and returns the new value.
fn patched(old: Option<Value<'_>>, p: &Payload<'_>, limits: &Limits) -> Result<Vec<u8>> {
    let patches = p.array("patches")?;
    if patches.is_empty() {
        return Err(Error::bad_payload("field patches: want an array of at least one patch"));
    }
    let mut tree = Tree::new(old.unwrap_or(Value::NIL));
    let mut keys: Vec<&str> = Vec::new();
    for (i, patch) in patches.iter().enumerate() {
        let field = format!("patches[{i}]");
        check_fields(*patch, &field, &["path", "value"])?;
        let path = patch.get("path").and_then(Value::items);
        let path = path
            .filter(|p| p.len() > 0)
            .ok_or_else(|| Error::bad_payload(format!("field {field}.path: want an array of at least one key")))?;
        if path.len() > limits.max_depth as usize {
            return Err(Error::new(
                code::TOO_DEEP,
                format!("field {field}.path: {} keys are more than {} (MaxDepth)", path.len(), limits.max_depth),
            ));
        }
        keys.clear();
        for v in path {
            let wrong = || Error::bad_payload(format!("field {field}.path: want strings, got {}", v.describe()));
            keys.push(v.as_str().ok_or_else(wrong)?);
        }
        let value = patch
            .get("value")
            .ok_or_else(|| Error::bad_payload(format!("field {field}.value: want a value, got nothing")))?;
        tree.put(&keys, value, &field)?;
    }
    Ok(tree.into_bytes())
}

fn malformed<T>(what: &str, want: &str, got: Option<Value<'_>>) -> Result<T> {
    Err(malformed_error(what, want, got))
}

#[cold]
#[inline(never)] // it is called in many places
fn malformed_error(what: &str, want: &str, got: Option<Value<'_>>) -> Error {
    let got = got.map_or("nothing".to_string(), Value::describe);
    Error::bad_state(format!("{what}: want {want}, got {got}"))
}

#[inline(never)] // it is called in many places
fn map_of(v: Value<'_>, what: &str) -> Result<Map> {
    match v.entries() {
        Some(mut e) => Ok(map_of_entries(&mut e)),
        None => malformed(what, "a map", Some(v)),
    }
}

#[inline(never)] // it is called in many places
fn tokens_of(v: Option<Value<'_>>, what: &str) -> Result<Vec<Token>> {
    match v.and_then(Value::items) {
        Some(items) => items
            .enumerate()
            .map(|(i, t)| Token::new(t, &format!("{what}[{i}]")).map_err(|e| Error::bad_state(e.message)))
            .collect(),
        None => malformed(what, "an array of tokens", v),
    }
}

#[inline(never)] // it is called in many places
fn field<'a, T>(v: Value<'a>, what: &str, key: &str, want: &str, get: fn(Value<'a>) -> Option<T>) -> Result<T> {
    let f = v.get(key);
    match f.and_then(get) {
        Some(x) => Ok(x),
        None => malformed(&format!("{what}.{key}"), want, f),
    }
}

#[inline(never)] // it is called in many places
fn others(v: Value<'_>, own: &[&str]) -> Map {
    map_of_entries(&mut v.entries().into_iter().flatten().filter(|(k, _)| !own.contains(k)))
}

/// Reads a section back and puts it into the state.
fn read_section(s: &mut State, sec: &Sec, v: Value<'_>) -> Result {
    match sec {
        Sec::GameState => s.replace(Section::GameState(map_of(v, "gameState")?)),
        Sec::GameLoop => {
            let m = map_of(v, "gameLoop")?;
            for key in ["turn", "activeAgentIndex", "maxTurns"] {
                field(v, "gameLoop", key, "a number", Value::as_f64)?;
            }
            field(v, "gameLoop", "running", "a bool", Value::as_bool)?;
            field(v, "gameLoop", "phase", "a string", Value::as_str)?;
            s.replace(Section::GameLoop(m));
        }
        Sec::Rules => {
            let fired =
                v.get("fired").map_or_else(|| malformed("rules.fired", "a map", None), |f| map_of(f, "rules.fired"))?;
            s.replace(Section::Rules(Some(Rules { fired, extra: others(v, &["fired"]) })));
        }
        Sec::Transactions => {
            let Some(items) = v.items() else { return malformed("transactions", "an array", Some(v)) };
            let all = items.enumerate().map(|(i, t)| match t.entries() {
                Some(_) => Ok(t.bytes().into()),
                None => malformed(&format!("transactions[{i}]"), "a map", Some(t)),
            });
            s.replace(Section::Transactions(all.collect::<Result<_>>()?));
        }
        Sec::Locked => {
            let Some(items) = v.items() else { return malformed("locked", "an array of zone names", Some(v)) };
            let mut all = BTreeSet::new();
            for z in items {
                match z.as_str() {
                    Some(z) => all.insert(z.into()),
                    None => return malformed("locked[]", "a string", Some(z)),
                };
            }
            s.make_zones();
            s.replace(Section::Locked(all));
        }
        Sec::Stack => {
            only(v, "stack", &["stack", "drawn", "discards"])?;
            for (p, key) in [(Pile::Stack, "stack"), (Pile::Drawn, "drawn"), (Pile::Discards, "discards")] {
                let tokens: VecDeque<Token> = tokens_of(v.get(key), &format!("stack.{key}"))?.into();
                s.replace(Section::Pile(p, tokens));
            }
        }
        Sec::Source => read_source(s, v)?,
        Sec::Zones => {
            let zones = read_zones(v)?;
            s.replace(Section::Zones(zones));
        }
        Sec::Agents => {
            let agents = read_agents(s, v)?;
            s.replace(Section::Agents(agents));
        }
        Sec::Extra(_) | Sec::AgentOrder | Sec::Reset | Sec::SourceStacks => {}
    }
    Ok(())
}

fn only(v: Value<'_>, what: &str, keys: &[&str]) -> Result {
    let Some(mut entries) = v.entries() else { return malformed(what, "a map", Some(v)) };
    match entries.find(|(k, _)| !keys.contains(k)) {
        None => Ok(()),
        Some((k, _)) => Err(Error::bad_state(format!("{what}: has no field {}", quote(k)))),
    }
}

fn read_source(s: &mut State, v: Value<'_>) -> Result {
    only(v, "source", &["tokens", "burned", "seed", "stackIds", "reshufflePolicy"])?;
    for (p, key) in [(Pile::Source, "tokens"), (Pile::Burned, "burned")] {
        let tokens: VecDeque<Token> = tokens_of(v.get(key), &format!("source.{key}"))?.into();
        s.replace(Section::Pile(p, tokens));
    }
    let mut source: Source = s.need_source()?.clone();
    let ids: Vec<&str> =
        v.get("stackIds").and_then(Value::items).into_iter().flatten().filter_map(Value::as_str).collect();
    if !ids.iter().copied().eq(source.stacks.iter().map(|s| &*s.id)) {
        return Err(Error::bad_state("source.stackIds: only source:addStack and source:removeStack change the stacks"));
    }
    let seed = v.get("seed").unwrap_or(Value::NIL);
    if !seed.is_nil() && crate::payload::seed_rng(seed).is_none() {
        return malformed("source.seed", "a number, a string or nil", Some(seed));
    }
    let policy = v.get("reshufflePolicy").unwrap_or(Value::NIL);
    let mode = policy.get("mode").filter(|m| m.as_str().is_some());
    let mode = mode.map_or_else(|| malformed("source.reshufflePolicy.mode", "a string", policy.get("mode")), Ok)?;
    let threshold = policy.get("threshold").unwrap_or(Value::NIL);
    if !threshold.is_nil() && threshold.as_f64().is_none() {
        return malformed("source.reshufflePolicy.threshold", "a number or nil", Some(threshold));
    }
    source.seed = seed.bytes().into();
    source.mode = mode.bytes().into();
    source.threshold = threshold.bytes().into();
    s.replace(Section::Source(Some(Box::new(source))));
    Ok(())
}

fn read_zones(v: Value<'_>) -> Result<Zones> {
    let mut scratch = State::new(Limits { max_state: u64::MAX, ..Limits::default() });
    let Some(zones) = v.entries() else { return malformed("zones", "a map", Some(v)) };
    for (name, zone) in zones {
        scratch.create_zone(name);
        let what = format!("zones.{}", crate::error::clip(name));
        let Some(items) = zone.items() else { return malformed(&what, "an array of placements", Some(zone)) };
        for (i, p) in items.enumerate() {
            let what = format!("{what}[{i}]");
            let placement = read_placement(p, &what)?;
            if scratch.has_placement(&placement.id) {
                return Err(Error::bad_state(format!(
                    "{what}.id: the placement {} lies in the zones twice",
                    quote(&placement.id)
                )));
            }
            scratch.place(name, placement);
        }
    }
    scratch.make_zones();
    Ok(std::mem::take(&mut scratch.zones))
}

fn read_placement(p: Value<'_>, what: &str) -> Result<Placement> {
    let token =
        p.get("tokenSnapshot").map_or_else(|| malformed(&format!("{what}.tokenSnapshot"), "a token", None), Ok)?;
    let token = Token::new(token, &format!("{what}.tokenSnapshot")).map_err(|e| Error::bad_state(e.message))?;
    let mut extra =
        others(p, &["id", "tokenSnapshot", "x", "y", "faceUp", "reversed", "ts", "label", "tokenId", "tags"]);
    if let Some(id) = p.get("tokenId").filter(|id| id.as_str() != Some(token.id())) {
        extra.insert("tokenId".into(), id.bytes().into());
    }
    if let Some(tags) = p.get("tags").filter(|t| t.items().is_none_or(|i| i.len() > 0)) {
        if tags.items().is_none() {
            return malformed(&format!("{what}.tags"), "an array", Some(tags));
        }
        extra.insert("tags".into(), tags.bytes().into());
    }
    Ok(Placement {
        id: field(p, what, "id", "a string", Value::as_str)?.into(),
        token,
        x: field(p, what, "x", "a number", Value::as_f64)?,
        y: field(p, what, "y", "a number", Value::as_f64)?,
        face_up: field(p, what, "faceUp", "a bool", Value::as_bool)?,
        reversed: field(p, what, "reversed", "a bool", Value::as_bool)?,
        ts: field(p, what, "ts", "a number", Value::as_f64)?,
        label: p.get("label").unwrap_or(Value::NIL).bytes().into(),
        extra,
    })
}

/// Reads the agents. Those that exist already keep their order; new ones follow, sorted by name.
fn read_agents(s: &State, v: Value<'_>) -> Result<Agents> {
    let Some(entries) = v.entries() else { return malformed("agents", "a map", Some(v)) };
    let names = entries.clone().map(|(name, _)| name);
    let mut new = Vec::with_capacity(entries.len());
    for (name, a) in entries {
        new.push(Some(read_agent(name, a)?));
    }
    let mut new = Unordered::new(names, new);
    let mut agents = Agents::default();
    for a in s.agents() {
        if let Some(a) = new.take(&a.name) {
            agents.push(a);
        }
    }
    for a in new.rest() {
        agents.push(a);
    }
    Ok(agents)
}

fn read_agent(name: &str, a: Value<'_>) -> Result<Agent> {
    let what = format!("agents.{}", crate::error::clip(name));
    if a.entries().is_none() {
        return malformed(&what, "a map", Some(a));
    }
    if a.get("name").and_then(Value::as_str) != Some(name) {
        return malformed(&format!("{what}.name"), &format!("the string {}", quote(name)), a.get("name"));
    }
    let map = |key: &str| match a.get(key) {
        Some(m) => map_of(m, &format!("{what}.{key}")),
        None => malformed(&format!("{what}.{key}"), "a map", None),
    };
    let mut inventory = Inventory::default();
    for t in tokens_of(a.get("inventory"), &format!("{what}.inventory"))? {
        inventory.push(t);
    }
    Ok(Agent {
        id: field(a, &what, "id", "a string", Value::as_str)?.into(),
        name: name.into(),
        active: field(a, &what, "active", "a bool", Value::as_bool)?,
        meta: map("meta")?,
        resources: map("resources")?,
        inventory,
        extra: others(a, &["id", "name", "active", "meta", "resources", "inventory"]),
    })
}
