//! source:*: several stacks from which tokens are drawn as if they were one.

use super::{action, write_tokens};
use crate::engine::{Action, Context, Kind, default, optional, required};
use crate::error::{Error, Result};
use crate::payload::{Payload, check_fields, quote, seed_rng};
use crate::sections::{Pile, Section};
use crate::sort::sort_names;
use crate::state_writer::section_bytes;
use crate::token::Token;
use crate::value::Value;
use crate::walk::Sec;
use std::collections::VecDeque;
use std::rc::Rc;

pub(super) const ACTIONS: &[Action] = &[
    action(
        "source:draw",
        "Takes count tokens from the top; returns one for count 1, else an array, top first.",
        &[default("count", Kind::Count, "1")],
        draw,
    ),
    action(
        "source:shuffle",
        "Shuffles; if a seed is given, the source keeps it.",
        &[optional("seed", Kind::Seed)],
        shuffle,
    ),
    action(
        "source:burn",
        "Moves count tokens from the top to burned; returns them in array order.",
        &[default("count", Kind::Count, "1")],
        burn,
    ),
    action(
        "source:addStack",
        "Adds the tokens of a stack.",
        &[required("stack", Kind::MapOf("AddedStack"))],
        add_stack,
    ),
    action(
        "source:removeStack",
        "Takes the remaining tokens of a stack out again.",
        &[required("stackId", Kind::String)],
        remove_stack,
    ),
    action("source:reset", "Goes back to all tokens of all stacks in order; empties burned.", &[], reset),
    action("source:inspect", "Returns the source: {stacks, stackIds, tokens, burned, ...}.", &[], inspect),
];

/// Returns the field `count`. Fails if the source has fewer tokens.
fn exactly(cx: &Context<'_>, p: &Payload<'_>) -> Result<usize> {
    cx.state.need_source()?;
    let (n, left) = (p.count(1)?, cx.state.pile(Pile::Source).len());
    if n > left as u64 {
        return Err(Error::insufficient(format!("field count: {n} is above the {left} tokens that are left")));
    }
    Ok(n as usize)
}

/// Shuffles with the source's seed, or, if it has none, with entropy.
fn reshuffle(cx: &mut Context<'_>) -> Result {
    let seed = &cx.state.need_source()?.seed;
    let rng = seed_rng(Value::trusted(seed)).unwrap_or_else(|| cx.rng());
    cx.state.shuffle(Pile::Source, rng);
    Ok(())
}

fn draw(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let n = exactly(cx, p)?;
    if n > 1 {
        cx.out.array(n);
    }
    for _ in 0..n {
        let t = cx.state.remove(Pile::Source, cx.state.pile(Pile::Source).len() - 1);
        cx.out.raw(t.bytes());
        if cx.out.overflown() {
            return Ok(());
        }
    }
    let s = cx.state.need_source()?;
    let auto = Value::trusted(&s.mode).as_str() == Some("auto");
    let threshold = Value::trusted(&s.threshold).as_f64();
    let left = cx.state.pile(Pile::Source).len();
    if auto && threshold.is_some_and(|t| left as f64 <= t) {
        reshuffle(cx)?;
    }
    Ok(())
}

fn shuffle(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    cx.state.need_source()?;
    if let Some((_, seed)) = p.seed()? {
        cx.state.set_source_seed(seed.bytes().into());
    }
    reshuffle(cx)
}

fn burn(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let n = exactly(cx, p)?;
    let pile = cx.state.pile(Pile::Source);
    write_tokens(cx.out, n, pile.range(pile.len() - n..));
    cx.state.move_top(Pile::Source, Pile::Burned, n);
    Ok(())
}

fn add_stack(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    cx.state.need_source()?;
    let stack = p.map("stack")?.ok_or_else(|| Error::bad_payload("field stack: want a map {tokens}, got nothing"))?;
    check_fields(stack, "stack", &["tokens"])?;
    let tokens = Payload::new(stack)?.tokens("tokens")?;
    let tokens: Rc<[Token]> = tokens.into_iter().map(|v| Token::new(v, "stack.tokens[]")).collect::<Result<_>>()?;
    for t in tokens.iter() {
        cx.state.push(Pile::Source, t.clone());
    }
    cx.state.add_source_stack(tokens);
    Ok(())
}

fn remove_stack(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let id = p.str("stackId")?;
    let s = cx.state.need_source()?;
    let at = s.stacks.iter().position(|s| &*s.id == id);
    let at = at.ok_or_else(|| Error::not_found(format!("field stackId: the source has no stack {}", quote(id))))?;
    // Tokens are told apart by their ids. Of each id, as many tokens are removed as the stack had.
    let tokens = s.stacks[at].tokens.clone();
    let mut brought: Vec<(&str, u32)> = tokens.iter().map(|t| (t.id(), 1)).collect();
    sort_names(&mut brought);
    brought.dedup_by(|next, first| {
        let same = next.0 == first.0;
        if same {
            first.1 += 1;
        }
        same
    });
    let mut stays = |t: &&Token| match brought.binary_search_by(|(id, _)| (*id).cmp(t.id())) {
        Ok(i) if brought[i].1 > 0 => {
            brought[i].1 -= 1;
            false
        }
        _ => true,
    };
    let rest: VecDeque<Token> = cx.state.pile(Pile::Source).iter().filter(|t| stays(t)).cloned().collect();
    cx.state.replace(Section::Pile(Pile::Source, rest));
    cx.state.remove_source_stack(at);
    Ok(())
}

fn reset(cx: &mut Context<'_>, _: &Payload<'_>) -> Result {
    let all = cx.state.need_source()?.stacks.iter().flat_map(|s| s.tokens.iter().cloned()).collect();
    cx.state.replace(Section::Pile(Pile::Source, all));
    cx.state.replace(Section::Pile(Pile::Burned, VecDeque::new()));
    Ok(())
}

fn inspect(cx: &mut Context<'_>, _: &Payload<'_>) -> Result {
    let stacks = cx.state.need_source()?.stacks.len();
    let section = section_bytes(cx.state, Sec::Source);
    let fields: Vec<_> = Value::trusted(&section).entries().into_iter().flatten().collect();
    cx.out.map(fields.len() + 1);
    for (k, v) in fields {
        if k == "tokens" {
            cx.out.str("stacks");
            cx.out.int(stacks as i64);
        }
        cx.out.str(k);
        cx.out.raw(v.bytes());
    }
    Ok(())
}
