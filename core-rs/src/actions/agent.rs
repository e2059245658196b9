//! agent:*: players, what they own, and what passes between them.

use super::{action, number, stack, write_tokens};
use crate::engine::{Action, Context, Kind, default, optional, required};
use crate::error::{Error, Result};
use crate::payload::{Payload, add, amount, check_fields, quote};
use crate::sections::{Agent, At, Inventory, Map, Pile, map_of_entries};
use crate::state_writer::StateWriter;
use crate::token::Token;
use crate::value::Value;
use crate::write::Writer;
use std::collections::BTreeSet;

pub(super) const ACTIONS: &[Action] = &[
    action(
        "agent:create",
        "Adds an agent whose name is free; returns it.",
        &[required("name", Kind::String), optional("id", Kind::String), default("meta", Kind::Map, "{}")],
        create,
    ),
    action("agent:remove", "Removes an agent.", &[required("name", Kind::String)], |cx, p| {
        let a = named(cx, p, "name")?;
        cx.state.remove_agent(a);
        Ok(())
    }),
    action(
        "agent:setActive",
        "Makes an agent active or not.",
        &[required("name", Kind::String), default("active", Kind::Bool, "true")],
        |cx, p| {
            let a = named(cx, p, "name")?;
            cx.state.set_active(a, p.bool("active", true)?);
            Ok(())
        },
    ),
    action(
        "agent:setMeta",
        "Sets an entry of an agent's meta.",
        &[required("name", Kind::String), required("key", Kind::String), required("value", Kind::Any)],
        |cx, p| {
            let a = named(cx, p, "name")?;
            cx.state.set(At::Meta(a), p.name("key")?, p.need("value")?.bytes());
            Ok(())
        },
    ),
    action(
        "agent:giveResource",
        "Adds an amount of a resource.",
        &[required("name", Kind::String), required("resource", Kind::String), default("amount", Kind::Amount, "1")],
        |cx, p| {
            let a = named(cx, p, "name")?;
            let resource = p.str("resource")?;
            give(cx, a, resource, p.amount(1.0)?)
        },
    ),
    action(
        "agent:takeResource",
        "Takes an amount of a resource, not below 0.",
        &[required("name", Kind::String), required("resource", Kind::String), default("amount", Kind::Amount, "1")],
        |cx, p| {
            let a = named(cx, p, "name")?;
            let resource = p.str("resource")?;
            let left = held(cx, a, resource)? - p.amount(1.0)?;
            cx.state.set(At::Resources(a), resource, &number(left.max(0.0)));
            Ok(())
        },
    ),
    action(
        "agent:addToken",
        "Puts a token into an inventory.",
        &[required("name", Kind::String), required("token", Kind::Token)],
        |cx, p| {
            let a = named(cx, p, "name")?;
            cx.state.give_token(a, p.token("token")?);
            Ok(())
        },
    ),
    action(
        "agent:removeToken",
        "Takes a token out of an inventory and returns it.",
        &[required("name", Kind::String), required("tokenId", Kind::String)],
        |cx, p| {
            let a = named(cx, p, "name")?;
            let t = take_token(cx, a, "tokenId", p.str("tokenId")?)?;
            cx.out.raw(t.bytes());
            Ok(())
        },
    ),
    action("agent:get", "Returns an agent.", &[required("name", Kind::String)], |cx, p| {
        let a = named(cx, p, "name")?;
        write_agents(cx, &[a]);
        Ok(())
    }),
    action("agent:getAll", "Returns the agents in order of creation.", &[], |cx, _| {
        let all: Vec<u64> = cx.state.agents.items.keys().copied().collect();
        cx.out.array(all.len());
        write_agents(cx, &all);
        Ok(())
    }),
    action(
        "agent:transferResource",
        "Passes an amount of a resource on; fails if there is less.",
        RESOURCE_PASSES,
        |cx, p| {
            let (from, to) = (named(cx, p, "from")?, named(cx, p, "to")?);
            let (resource, amount) = (p.str("resource")?, p.amount(1.0)?);
            need_amount(cx, from, "amount", resource, amount)?;
            pass_amount(cx, from, to, resource, amount)?;
            resource_record(cx, p, "resource_transfer", resource, amount)
        },
    ),
    action("agent:transferToken", "Passes a token on.", TOKEN_PASSES, |cx, p| pass_token(cx, p, "token_transfer")),
    action(
        "agent:stealResource",
        "Takes up to an amount of a resource from another agent.",
        RESOURCE_PASSES,
        |cx, p| {
            let (from, to) = (named(cx, p, "from")?, named(cx, p, "to")?);
            let resource = p.str("resource")?;
            let amount = p.amount(1.0)?.min(held(cx, from, resource)?).max(0.0);
            pass_amount(cx, from, to, resource, amount)?;
            resource_record(cx, p, "steal_resource", resource, amount)
        },
    ),
    action("agent:stealToken", "Takes a token from another agent.", TOKEN_PASSES, |cx, p| {
        pass_token(cx, p, "steal_token")
    }),
    action(
        "agent:trade",
        "Swaps what two agents offer: {token: {id}} or {resource, amount} each.",
        &[
            required("agent1", Kind::String),
            required("agent2", Kind::String),
            required("offer1", Kind::MapOf("Offer")),
            required("offer2", Kind::MapOf("Offer")),
        ],
        trade,
    ),
    action(
        "agent:drawCards",
        "Draws up to count tokens from the stack into an inventory; returns them, top first.",
        &[required("name", Kind::String), default("count", Kind::Count, "1")],
        draw_cards,
    ),
    action(
        "agent:discardCards",
        "Moves tokens from an inventory to the stack's discards; returns those found. An id that the \
         agent does not hold is ignored.",
        &[required("name", Kind::String), required("tokenIds", Kind::Strings)],
        discard_cards,
    ),
];

const RESOURCE_PASSES: &[crate::engine::Field] = &[
    required("from", Kind::String),
    required("to", Kind::String),
    required("resource", Kind::String),
    default("amount", Kind::Amount, "1"),
];

const TOKEN_PASSES: &[crate::engine::Field] =
    &[required("from", Kind::String), required("to", Kind::String), required("tokenId", Kind::String)];

/// Returns the order of the agent that a field names. Fails if there is no such agent.
fn named(cx: &Context<'_>, p: &Payload<'_>, field: &str) -> Result<u64> {
    cx.state.agent_order(p.str(field)?)
}

fn write_agents(cx: &mut Context<'_>, orders: &[u64]) {
    let mut w = StateWriter::default();
    std::mem::swap(&mut w.out, cx.out);
    orders.iter().for_each(|a| w.whole_agent(cx.state.agent(*a)));
    std::mem::swap(&mut w.out, cx.out);
}

fn create(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let name = p.name("name")?;
    let id = p.opt_str("id")?;
    let meta = map_of_entries(&mut p.map("meta")?.and_then(Value::entries).into_iter().flatten());
    cx.state.need_free_name(name)?;
    let id = id.map_or_else(|| cx.identifier(), str::to_string);
    let a = cx.state.add_agent(Agent {
        id: id.into(),
        name: name.into(),
        active: true,
        meta,
        resources: Map::new(),
        inventory: Inventory::default(),
        extra: Map::new(),
    });
    write_agents(cx, &[a]);
    Ok(())
}

/// Returns how much of a resource an agent has; 0 if it never had any.
fn held(cx: &Context<'_>, agent: u64, resource: &str) -> Result<f64> {
    match cx.state.map(At::Resources(agent)).get(resource).map(|v| Value::trusted(v)) {
        None => Ok(0.0),
        Some(v) => v.as_f64().ok_or_else(|| {
            Error::bad_state(format!(
                "resource {} of agent {} is {}, not a number",
                quote(resource),
                quote(&cx.state.agent(agent).name),
                v.describe()
            ))
        }),
    }
}

fn give(cx: &mut Context<'_>, agent: u64, resource: &str, amount: f64) -> Result {
    let sum = add("amount", held(cx, agent, resource)?, amount)?;
    cx.state.set(At::Resources(agent), resource, &number(sum));
    Ok(())
}

fn need_amount(cx: &Context<'_>, agent: u64, field: &str, resource: &str, amount: f64) -> Result {
    let has = held(cx, agent, resource)?;
    if has < amount {
        return Err(Error::insufficient(format!(
            "field {field}: agent {} has {has} of {}, not {amount}",
            quote(&cx.state.agent(agent).name),
            quote(resource)
        )));
    }
    Ok(())
}

/// Moves an amount of a resource from one agent to another. The caller has checked that it is
/// there.
fn pass_amount(cx: &mut Context<'_>, from: u64, to: u64, resource: &str, amount: f64) -> Result {
    let left = held(cx, from, resource)? - amount;
    cx.state.set(At::Resources(from), resource, &number(left));
    give(cx, to, resource, amount)
}

fn missing_token(cx: &Context<'_>, agent: u64, field: &str, id: &str) -> Error {
    Error::not_found(format!(
        "field {field}: agent {} does not hold the token {}",
        quote(&cx.state.agent(agent).name),
        quote(id)
    ))
}

fn take_token(cx: &mut Context<'_>, agent: u64, field: &str, id: &str) -> Result<Token> {
    cx.state.take_token(agent, id).ok_or_else(|| missing_token(cx, agent, field, id))
}

fn pass_token(cx: &mut Context<'_>, p: &Payload<'_>, kind: &str) -> Result {
    let (from, to) = (named(cx, p, "from")?, named(cx, p, "to")?);
    let id = p.str("tokenId")?;
    let t = take_token(cx, from, "tokenId", id)?;
    cx.state.give_token(to, t);
    let mut w = Writer::default();
    w.map(5);
    entry(&mut w, "from", p.str("from")?);
    w.str("timestamp");
    w.num(cx.now as f64);
    entry(&mut w, "to", p.str("to")?);
    entry(&mut w, "token", id);
    entry(&mut w, "type", kind);
    cx.state.add_transaction(w.into_bytes().into());
    Ok(())
}

fn entry(w: &mut Writer, key: &str, value: &str) {
    w.str(key);
    w.str(value);
}

fn resource_record(cx: &mut Context<'_>, p: &Payload<'_>, kind: &str, resource: &str, amount: f64) -> Result {
    let mut w = Writer::default();
    w.map(6);
    w.str("amount");
    w.num(amount);
    entry(&mut w, "from", p.str("from")?);
    entry(&mut w, "resource", resource);
    w.str("timestamp");
    w.num(cx.now as f64);
    entry(&mut w, "to", p.str("to")?);
    entry(&mut w, "type", kind);
    cx.state.add_transaction(w.into_bytes().into());
    Ok(())
}

/// One side of a trade.
enum Offer<'a> {
    Token(&'a str),
    Amount(&'a str, f64),
}

/// Reads the offer of a field. Fails if the agent does not have what the offer promises.
fn offer<'a>(cx: &Context<'_>, p: &Payload<'a>, field: &str, agent: u64) -> Result<Offer<'a>> {
    let Some(v) = p.map(field)? else {
        return Err(Error::bad_payload(format!(
            "field {field}: want {{token: {{id}}}} or {{resource, amount}}, got nothing"
        )));
    };
    check_fields(v, field, &["amount", "resource", "token"])?;
    let o = Payload::new(v)?;
    if let Some(t) = o.get("token") {
        let id = t.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| Error::bad_payload(format!("field {field}.token.id: want a string")))?;
        if cx.state.agent(agent).inventory.find(id).is_none() {
            return Err(missing_token(cx, agent, field, id));
        }
        return Ok(Offer::Token(id));
    }
    let resource = o.str("resource").map_err(|e| Error { message: format!("{field}: {}", e.message), ..e })?;
    let Some(n) = o.opt_num("amount").map_err(|e| Error { message: format!("{field}: {}", e.message), ..e })? else {
        return Err(Error::bad_payload(format!("field {field}.amount: want a number, got nothing")));
    };
    let n = amount(&format!("{field}.amount"), n)?;
    need_amount(cx, agent, &format!("{field}.amount"), resource, n)?;
    Ok(Offer::Amount(resource, n))
}

fn trade(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let (one, two) = (named(cx, p, "agent1")?, named(cx, p, "agent2")?);
    let offers = [(one, two, offer(cx, p, "offer1", one)?), (two, one, offer(cx, p, "offer2", two)?)];
    for (from, to, offer) in offers {
        match offer {
            Offer::Token(id) => {
                let t = take_token(cx, from, "offer", id)?;
                cx.state.give_token(to, t);
            }
            Offer::Amount(resource, n) => pass_amount(cx, from, to, resource, n)?,
        }
    }
    let mut w = Writer::default();
    w.map(8);
    entry(&mut w, "agent1", p.str("agent1")?);
    entry(&mut w, "agent2", p.str("agent2")?);
    entry(&mut w, "from", p.str("agent1")?);
    for f in ["offer1", "offer2"] {
        w.str(f);
        w.raw(p.need(f)?.bytes());
    }
    w.str("timestamp");
    w.num(cx.now as f64);
    entry(&mut w, "to", p.str("agent2")?);
    entry(&mut w, "type", "trade");
    cx.state.add_transaction(w.into_bytes().into());
    Ok(())
}

fn draw_cards(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let a = named(cx, p, "name")?;
    let before = cx.state.pile(Pile::Drawn).len();
    stack::draw(cx, p)?;
    if cx.out.overflown() {
        return Ok(());
    }
    let drawn: Vec<Token> = cx.state.pile(Pile::Drawn).range(before..).rev().cloned().collect();
    for t in drawn {
        cx.state.give_token(a, t);
    }
    Ok(())
}

fn discard_cards(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let a = named(cx, p, "name")?;
    let ids = p.strings("tokenIds")?;
    cx.state.need_stack()?;
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for id in ids {
        if seen.insert(id)
            && let Some(t) = cx.state.take_token(a, id)
        {
            cx.state.push(Pile::Discards, t.clone());
            found.push(t);
        }
    }
    write_tokens(cx.out, found.len(), found.iter());
    Ok(())
}
