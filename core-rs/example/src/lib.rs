//! An example of a core with actions of its own: the built-in actions, and those that the guide's
//! snippets use.
//!
//! Build it like the built-in core, and give the file to the host (`hypertoken run --core`,
//! `Options.CorePath`).

use hypertoken_core::{
    Action, At, Context, Error, Kind, Payload, Pile, Record, Registry, Result, Section, Value, Writer, default, member,
    optional, required,
};
use std::collections::BTreeMap;

fn registry() -> Registry {
    let mut r = Registry::builtin();
    for a in ACTIONS {
        r.register(*a);
    }
    for (action, shape) in RESULTS {
        r.result(action, shape);
    }
    for record in RECORDS {
        r.record(*record);
    }
    r
}

hypertoken_core::export!(registry);

const ACTIONS: &[Action] = &[
    Action {
        name: "process:item",
        about: "Counts an item under the state's key processed; returns {item, processed}.",
        fields: &[required("item", Kind::Any)],
        handler: process_item,
    },
    Action {
        name: "slow:operation",
        about: "Works for rounds rounds (some ten milliseconds by default); returns a checksum.",
        fields: &[default("rounds", Kind::Whole, "10000000")],
        handler: |cx, p| work(cx, p, 10_000_000),
    },
    Action {
        name: "long:operation",
        about: "Works for rounds rounds (several seconds by default); returns a checksum.",
        fields: &[default("rounds", Kind::Whole, "5000000000")],
        handler: |cx, p| work(cx, p, 5_000_000_000),
    },
    Action {
        name: "risky:operation",
        about: "Changes the state and then fails, if asked to: what it changed is taken back.",
        fields: &[default("fail", Kind::Bool, "false")],
        handler: |cx, p| {
            let tries = counted(cx, "tries")?;
            if p.bool("fail", false)? {
                return Err(Error::new("risky", format!("field fail: true: try {tries} was asked to fail")));
            }
            cx.out.num(tries);
            Ok(())
        },
    },
    Action {
        name: "space:validate",
        about: "Looks through all zones for tokens that lie there twice: {placements, twice, zones}.",
        fields: &[],
        handler: validate,
    },
    Action {
        name: "agent:receive",
        about: "Puts tokens into the inventory of an agent, the first one by default; returns how many it holds.",
        fields: &[required("tokens", Kind::Tokens), optional("name", Kind::String)],
        handler: receive,
    },
    Action {
        name: "stack:recycle",
        about: "Puts the discards back into the stack, out of drawn too, and shuffles it; returns how many came back.",
        fields: &[optional("seed", Kind::Seed)],
        handler: recycle,
    },
];

/// The shapes of the results, for the list of actions and for the types that are made from it.
const RESULTS: &[(&str, &str)] = &[
    ("process:item", "ProcessedItem"),
    ("slow:operation", "int"),
    ("long:operation", "int"),
    ("risky:operation", "int"),
    ("space:validate", "Validation"),
    ("agent:receive", "int"),
    ("stack:recycle", "int"),
];

const RECORDS: &[Record] = &[
    Record {
        name: "ProcessedItem",
        about: "What process:item returns.",
        fields: &[member("item", "any", ""), member("processed", "int", "how many items there were so far")],
        rest: None,
    },
    Record {
        name: "Validation",
        about: "What space:validate found.",
        fields: &[
            member("placements", "int", "how many tokens lie in zones"),
            member("twice", "int", "how many of them lie there again"),
            member("zones", "int", ""),
        ],
        rest: None,
    },
];

/// Adds one to the number under a top-level key of the state, and returns the sum.
fn counted(cx: &mut Context<'_>, key: &str) -> Result<f64> {
    let old = cx.state.map(At::Extra).get(key);
    let n = old.and_then(|b| Value::parse(b, 1).ok()?.as_f64()).unwrap_or(0.0) + 1.0;
    let mut w = Writer::default();
    w.num(n);
    cx.state.set(At::Extra, key, w.bytes());
    Ok(n)
}

fn process_item(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let item = p.need("item")?;
    let n = counted(cx, "processed")?;
    cx.out.map(2);
    cx.out.str("item");
    cx.out.raw(item.bytes());
    cx.out.str("processed");
    cx.out.num(n);
    cx.emit("item:processed", item);
    Ok(())
}

fn work(cx: &mut Context<'_>, p: &Payload<'_>, rounds: i64) -> Result {
    let rounds = p.whole("rounds", Some(rounds), 0)?;
    let mut x = 1u32;
    for _ in 0..rounds {
        x = std::hint::black_box(x.wrapping_mul(747796405).wrapping_add(2891336453));
    }
    cx.out.int(x as i64);
    Ok(())
}

fn validate(cx: &mut Context<'_>, _: &Payload<'_>) -> Result {
    let mut ids: Vec<&str> = cx.state.zones().flat_map(|(_, z)| z.items.values().map(|p| p.token.id())).collect();
    ids.sort_unstable();
    let twice = ids.windows(2).filter(|w| w[0] == w[1]).count();
    cx.out.map(3);
    cx.out.str("placements");
    cx.out.int(ids.len() as i64);
    cx.out.str("twice");
    cx.out.int(twice as i64);
    cx.out.str("zones");
    cx.out.int(cx.state.zones().count() as i64);
    Ok(())
}

fn receive(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let tokens = p.tokens("tokens")?;
    let first = || cx.state.agents().next().map(|a| a.name.to_string());
    let name = p.opt_str("name")?.map(str::to_string).or_else(first);
    let name = name.ok_or_else(|| Error::not_found("there is no agent to receive anything; agent:create makes one"))?;
    let agent = cx.state.agent_order(&name)?;
    for t in tokens {
        cx.state.give_token(agent, hypertoken_core::Token::new(t, "tokens[]")?);
    }
    cx.out.int(cx.state.agent(agent).inventory.len() as i64);
    Ok(())
}

/// Puts the discards back on the stack. A token that was drawn and then discarded is in drawn,
/// too. If it stayed there, it would be there twice once it is drawn again. So for each token that
/// comes back, a token with the same id leaves drawn.
fn recycle(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    cx.state.need_stack()?;
    let rng = p.seed()?.map_or_else(|| cx.rng(), |(rng, _)| rng);
    let n = cx.state.pile(Pile::Discards).len();
    if n > 0 {
        let mut back: BTreeMap<&str, usize> = BTreeMap::new();
        cx.state.pile(Pile::Discards).iter().for_each(|t| *back.entry(t.id()).or_default() += 1);
        let stays = |t: &&hypertoken_core::Token| match back.get_mut(t.id()) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        };
        let drawn = cx.state.pile(Pile::Drawn).iter().filter(stays).cloned().collect();
        cx.state.replace(Section::Pile(Pile::Drawn, drawn));
        cx.state.move_top(Pile::Discards, Pile::Stack, n);
    }
    cx.state.shuffle(Pile::Stack, rng);
    cx.out.int(n as i64);
    Ok(())
}
