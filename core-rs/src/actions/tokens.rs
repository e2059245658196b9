//! tokens:*: actions that search or change arrays of tokens. They do not change the state.

use super::{action, boolean, token::Builder};
use crate::engine::{Action, Context, Kind, default, optional, required};
use crate::error::{Error, Result};
use crate::payload::{Payload, quote, whole};
use crate::rng::{Rng, string_hash};
use crate::sections::Pile;
use crate::state::shuffle as shuffle_slice;
use crate::token::Token;
use crate::value::Value;
use crate::write::Writer;

pub(super) const ACTIONS: &[Action] = &[
    action(
        "tokens:shuffle",
        "Returns the decks, shuffled.",
        &[required("decks", Kind::Decks), optional("seed", Kind::Seed)],
        shuffle,
    ),
    action(
        "tokens:draw",
        "Draws counts[k] tokens from deck k: {drawn (top first), decks (the rest)}.",
        &[required("decks", Kind::Decks), required("counts", Kind::ArrayOf("int[]"))],
        draw,
    ),
    action(
        "tokens:filter",
        "Returns the tokens that are reversed, normal, merged or split.",
        &[
            required("tokens", Kind::Tokens),
            default("predicate", Kind::StringOf("'merged'|'normal'|'reversed'|'split'"), "\"reversed\""),
        ],
        filter,
    ),
    action("tokens:map", "Returns the tokens after flip, merge or unmerge.", CHANGES, change),
    action("tokens:forEach", "Returns the tokens after flip, merge or unmerge.", CHANGES, change),
    action(
        "tokens:find",
        "Returns the first token that fits, or null.",
        &[required("tokens", Kind::Tokens), default("predicate", Kind::String, "\"reversed\"")],
        |cx, p| {
            let predicate = Predicate::of(p)?;
            let found = p.tokens("tokens")?.into_iter().find(|t| predicate.fits(*t));
            cx.out.raw(found.unwrap_or(Value::NIL).bytes());
            Ok(())
        },
    ),
    action(
        "tokens:count",
        "Returns how many tokens fit.",
        &[required("tokens", Kind::Tokens), default("predicate", Kind::String, "\"reversed\"")],
        |cx, p| {
            let predicate = Predicate::of(p)?;
            let n = p.tokens("tokens")?.into_iter().filter(|t| predicate.fits(*t)).count();
            cx.out.int(n as i64);
            Ok(())
        },
    ),
    action(
        "tokens:collect",
        "Returns the tokens of stack, drawn, discards, source, or a zone's name, in order.",
        &[required("sources", Kind::Strings)],
        collect,
    ),
];

const CHANGES: &[crate::engine::Field] =
    &[required("tokens", Kind::Tokens), default("operation", Kind::StringOf("'flip'|'merge'|'unmerge'"), "\"flip\"")];

/// The condition of a query: which tokens it matches.
enum Predicate<'a> {
    Set(&'static str),
    Unset(&'static str),
    Is(&'static str, &'a str),
    Unknown,
}

impl<'a> Predicate<'a> {
    fn of(p: &Payload<'a>) -> Result<Predicate<'a>> {
        let name = p.opt_str("predicate")?.unwrap_or("reversed");
        Ok(match name {
            "reversed" => Predicate::Set("rev"),
            "normal" => Predicate::Unset("rev"),
            "merged" => Predicate::Set("merged"),
            "split" => Predicate::Set("split"),
            _ => match (name.strip_prefix("kind:"), name.strip_prefix("group:")) {
                (Some(k), _) => Predicate::Is("kind", k),
                (_, Some(g)) => Predicate::Is("group", g),
                _ => Predicate::Unknown,
            },
        })
    }
    fn fits(&self, t: Value<'_>) -> bool {
        match self {
            Predicate::Set(field) => truthy(t, field),
            Predicate::Unset(field) => !truthy(t, field),
            Predicate::Is(field, value) => t.get(field).and_then(Value::as_str) == Some(value),
            Predicate::Unknown => false,
        }
    }
}

fn truthy(t: Value<'_>, field: &str) -> bool {
    t.get(field).is_some_and(|v| !v.is_falsy())
}

fn write_values<'a>(out: &mut Writer, n: usize, values: impl Iterator<Item = Value<'a>>) {
    out.array(n);
    values.for_each(|v| out.raw(v.bytes()));
}

fn filter(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let predicate = Predicate::of(p)?;
    if let Predicate::Is(..) | Predicate::Unknown = predicate {
        let name = quote(p.opt_str("predicate")?.unwrap_or_default());
        return Err(Error::bad_payload(format!("field predicate: want reversed, normal, merged or split, got {name}")));
    }
    let fit: Vec<_> = p.tokens("tokens")?.into_iter().filter(|t| predicate.fits(*t)).collect();
    write_values(cx.out, fit.len(), fit.into_iter());
    Ok(())
}

fn change(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let operation = p.opt_str("operation")?.unwrap_or("flip");
    let (field, value) = match operation {
        "flip" => ("rev", None),
        "merge" => ("merged", Some(true)),
        "unmerge" => ("merged", Some(false)),
        other => {
            return Err(Error::bad_payload(format!(
                "field operation: want flip, merge or unmerge, got {}",
                quote(other)
            )));
        }
    };
    let tokens = p.tokens("tokens")?;
    cx.out.array(tokens.len());
    for t in tokens {
        let mut b = Builder::of(t);
        b.set(field, boolean(value.unwrap_or_else(|| !truthy(t, field))));
        b.write(cx.out);
    }
    Ok(())
}

fn shuffle(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let decks = p.decks("decks")?;
    let seed = match p.get("seed").filter(|v| !v.is_nil()) {
        None => None,
        Some(v) => Some(match (v.as_str(), v.as_f64()) {
            (Some(s), _) => s.to_string(),
            (_, Some(n)) => whole("seed", n, -crate::value::MAX_INT)?.to_string(),
            _ => {
                return Err(Error::bad_payload(format!(
                    "field seed: want a whole number or a string, got {}",
                    v.describe()
                )));
            }
        }),
    };
    cx.out.array(decks.len());
    for (k, mut deck) in decks.into_iter().enumerate() {
        let rng = match &seed {
            Some(seed) => Rng::Mulberry32(string_hash(&format!("{seed}-{k}"))),
            None => Rng::from_string(&format!("{}-{k}", cx.identifier())),
        };
        shuffle_slice(&mut deck, rng);
        write_values(cx.out, deck.len(), deck.into_iter());
    }
    Ok(())
}

fn draw(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let decks = p.decks("decks")?;
    let counts = p.array("counts")?;
    if decks.len() != counts.len() {
        let (d, c) = (decks.len(), counts.len());
        return Err(Error::bad_payload(format!("field counts: want one for each of the {d} decks, got {c}")));
    }
    let mut cuts = Vec::with_capacity(decks.len());
    for (i, (deck, n)) in decks.iter().zip(&counts).enumerate() {
        let field = format!("counts[{i}]");
        let Some(f) = n.as_f64() else {
            return Err(Error::bad_payload(format!("field {field}: want a whole number, got {}", n.describe())));
        };
        let n = whole(&field, f, 0)?;
        cuts.push(deck.len() - (n as u64).min(deck.len() as u64) as usize);
    }
    cx.out.map(2);
    cx.out.str("decks");
    cx.out.array(decks.len());
    for (deck, cut) in decks.iter().zip(&cuts) {
        write_values(cx.out, *cut, deck[..*cut].iter().copied());
    }
    cx.out.str("drawn");
    cx.out.array(decks.len());
    for (deck, cut) in decks.iter().zip(&cuts) {
        write_values(cx.out, deck.len() - cut, deck[*cut..].iter().rev().copied());
    }
    Ok(())
}

fn collect(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let sources = p.strings("sources")?;
    let pile = |name: &str| match name {
        "stack" => Some(Pile::Stack),
        "drawn" => Some(Pile::Drawn),
        "discards" | "discard" => Some(Pile::Discards),
        "source" => Some(Pile::Source),
        _ => None,
    };
    // The payload may name a source any number of times. So the bytes of the collected tokens are
    // bounded here, and not only when the result is written.
    let (mut tokens, mut bytes): (Vec<&Token>, usize) = (Vec::new(), 0);
    let mut take = |t| {
        tokens.push(t);
        bytes += Token::bytes(t).len();
        bytes <= cx.state.limits.max_result as usize
    };
    for name in sources {
        let fits = match (pile(name), cx.state.zone(name)) {
            (Some(p), _) => cx.state.pile(p).iter().all(&mut take),
            (None, Some(z)) => z.items.values().map(|p| &p.token).all(&mut take),
            (None, None) => true,
        };
        if !fits {
            break;
        }
    }
    super::write_tokens(cx.out, tokens.len(), tokens.into_iter());
    Ok(())
}
