//! stack:*: the deck. Its top is the end of its array.

use super::{action, write_tokens};
use crate::engine::{Action, Context, Kind, default, optional, required};
use crate::error::{Error, Result};
use crate::payload::Payload;
use crate::sections::{Pile, Section};
use std::collections::VecDeque;

pub(super) const ACTIONS: &[Action] = &[
    action(
        "stack:draw",
        "Moves up to count tokens from the top to drawn; returns them, top first.",
        &[default("count", Kind::Count, "1")],
        draw,
    ),
    action(
        "stack:peek",
        "Returns up to count tokens from the top, top first.",
        &[default("count", Kind::Count, "1")],
        peek,
    ),
    action("stack:shuffle", "Shuffles the stack.", &[optional("seed", Kind::Seed)], shuffle),
    action(
        "stack:burn",
        "Moves up to count tokens from the top to discards; returns them in array order.",
        &[default("count", Kind::Count, "1")],
        burn,
    ),
    action("stack:reset", "Goes back to the setup's tokens; empties drawn and discards.", &[], reset),
    action("stack:cut", "Puts the tokens below position on top.", &[default("position", Kind::Whole, "0")], cut),
    action(
        "stack:insertAt",
        "Puts a card in; position 0 is the bottom, the size is the top.",
        &[required("card", Kind::Token), default("position", Kind::Whole, "0")],
        insert_at,
    ),
    action(
        "stack:removeAt",
        "Takes the token at position out and returns it.",
        &[default("position", Kind::Whole, "0")],
        remove_at,
    ),
    action(
        "stack:swap",
        "Swaps the tokens at i and j.",
        &[required("i", Kind::Whole), required("j", Kind::Whole)],
        swap,
    ),
    action("stack:reverse", "Turns the stack over; fails on an empty one.", &[], reverse),
    action(
        "stack:discard",
        "Puts a card on the discards; returns it. The card is not looked for anywhere, and not taken from anywhere.",
        &[required("card", Kind::Token)],
        discard,
    ),
];

/// Returns the field `count`, or the size of the stack if that is smaller.
fn up_to(cx: &Context<'_>, p: &Payload<'_>) -> Result<usize> {
    cx.state.need_stack()?;
    Ok(p.count(1)?.min(cx.state.pile(Pile::Stack).len() as u64) as usize)
}

fn top_first(cx: &mut Context<'_>, n: usize) {
    write_tokens(cx.out, n, cx.state.pile(Pile::Stack).iter().rev().take(n));
}

pub(super) fn draw(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let n = up_to(cx, p)?;
    top_first(cx, n);
    cx.state.move_top(Pile::Stack, Pile::Drawn, n);
    Ok(())
}

fn peek(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let n = up_to(cx, p)?;
    top_first(cx, n);
    Ok(())
}

fn shuffle(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    cx.state.need_stack()?;
    let rng = p.seed()?.map_or_else(|| cx.rng(), |(rng, _)| rng);
    cx.state.shuffle(Pile::Stack, rng);
    Ok(())
}

fn burn(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let n = up_to(cx, p)?;
    let pile = cx.state.pile(Pile::Stack);
    write_tokens(cx.out, n, pile.range(pile.len() - n..));
    cx.state.move_top(Pile::Stack, Pile::Discards, n);
    Ok(())
}

fn reset(cx: &mut Context<'_>, _: &Payload<'_>) -> Result {
    let tokens = cx.state.need_stack()?.iter().cloned().collect();
    cx.state.replace(Section::Pile(Pile::Stack, tokens));
    cx.state.replace(Section::Pile(Pile::Drawn, VecDeque::new()));
    cx.state.replace(Section::Pile(Pile::Discards, VecDeque::new()));
    Ok(())
}

/// Returns the last index of the stack; -1 if it is empty.
fn last(cx: &Context<'_>) -> Result<i64> {
    cx.state.need_stack()?;
    Ok(cx.state.pile(Pile::Stack).len() as i64 - 1)
}

fn cut(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let max = last(cx)? + 1;
    let at = p.position("position", Some(0), max)?;
    cx.state.rotate(Pile::Stack, at);
    Ok(())
}

fn insert_at(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let max = last(cx)? + 1;
    let card = p.token("card")?;
    let at = p.position("position", Some(0), max)?;
    cx.state.insert(Pile::Stack, at, card);
    Ok(())
}

fn remove_at(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let at = p.position("position", Some(0), last(cx)?)?;
    let t = cx.state.remove(Pile::Stack, at);
    cx.out.raw(t.bytes());
    Ok(())
}

fn swap(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let max = last(cx)?;
    let (i, j) = (p.position("i", None, max)?, p.position("j", None, max)?);
    cx.state.swap(Pile::Stack, i, j);
    Ok(())
}

fn reverse(cx: &mut Context<'_>, _: &Payload<'_>) -> Result {
    if last(cx)? < 0 {
        return Err(Error::insufficient("the stack is empty: there is nothing to reverse"));
    }
    cx.state.reverse(Pile::Stack);
    Ok(())
}

fn discard(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    cx.state.need_stack()?;
    let card = p.token("card")?;
    cx.out.raw(card.bytes());
    cx.state.push(Pile::Discards, card);
    Ok(())
}
