//! token:*: actions that make tokens from the tokens of their payload. They do not change the
//! state.

use super::{action, string};
use crate::engine::{Action, Context, Kind, default, optional, required};
use crate::error::{Error, Result};
use crate::payload::Payload;
use crate::value::Value;
use crate::write::Writer;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(super) const ACTIONS: &[Action] = &[
    action(
        "token:transform",
        "Returns the token with the properties added or replaced. If they have an id that is no string, the result is no token.",
        &[required("token", Kind::Token), default("properties", Kind::Map, "{}")],
        |cx, p| {
            let token = p.token_value("token")?;
            let mut b = Builder::of(token);
            b.over(p.map("properties")?);
            b.set("_transformedFrom", string(id_of(token)));
            b.write(cx.out);
            Ok(())
        },
    ),
    action(
        "token:attach",
        "Returns the host with the attachment at the end of its _attachments.",
        &[
            required("host", Kind::Token),
            required("attachment", Kind::Token),
            default("attachmentType", Kind::String, "\"default\""),
        ],
        attach,
    ),
    action(
        "token:detach",
        "Returns the host without an attachment.",
        &[required("host", Kind::Token), required("attachmentId", Kind::String)],
        detach,
    ),
    action(
        "token:merge",
        "Returns two or more tokens as one: {merged, originals?}.",
        &[
            required("tokens", Kind::Tokens),
            default("properties", Kind::Map, "{}"),
            default("keepOriginals", Kind::Bool, "false"),
        ],
        merge,
    ),
    action(
        "token:split",
        "Returns count copies of a token, each with an id of its own.",
        &[
            required("token", Kind::Token),
            default("count", Kind::Count, "2"),
            optional("propertiesArray", Kind::ArrayOf("(map<any>|null)[]|null")),
        ],
        split,
    ),
];

/// Returns the id of a checked token.
pub(super) fn id_of(token: Value<'_>) -> &str {
    token.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// A map that is being made. An entry that is added replaces an entry with the same key.
#[derive(Clone, Default)]
pub(super) struct Builder<'a>(BTreeMap<&'a str, Cow<'a, [u8]>>);

impl<'a> Builder<'a> {
    pub(super) fn of(v: Value<'a>) -> Builder<'a> {
        let mut b = Builder::default();
        b.over(Some(v));
        b
    }
    pub(super) fn over(&mut self, v: Option<Value<'a>>) {
        let entries = v.and_then(Value::entries).into_iter().flatten();
        self.0.extend(entries.map(|(k, v)| (k, Cow::Borrowed(v.bytes()))));
    }
    pub(super) fn set(&mut self, key: &'a str, value: impl Into<Cow<'a, [u8]>>) {
        self.0.insert(key, value.into());
    }
    pub(super) fn write(&self, out: &mut Writer) {
        out.map(self.0.len());
        for (k, v) in &self.0 {
            out.str(k);
            out.raw(v);
        }
    }
    fn bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }
}

fn attachments<'a>(host: Value<'a>) -> Result<Vec<Value<'a>>> {
    match host.get("_attachments").filter(|a| !a.is_nil()) {
        None => Ok(Vec::new()),
        Some(a) => match a.items() {
            Some(items) => Ok(items.collect()),
            None => Err(Error::bad_payload(format!("field host._attachments: want an array, got {}", a.describe()))),
        },
    }
}

fn array(items: impl ExactSizeIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut w = Writer::default();
    w.array(items.len());
    items.for_each(|i| w.raw(i.as_ref()));
    w.into_bytes()
}

fn attach(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let host = p.token_value("host")?;
    let mut attachment = Builder::of(p.token_value("attachment")?);
    attachment.set("_attachmentType", string(p.opt_str("attachmentType")?.unwrap_or("default")));
    let attachment = attachment.bytes();
    let held = attachments(host)?;
    let mut all: Vec<&[u8]> = held.iter().map(|v| v.bytes()).collect();
    all.push(&attachment);
    let mut b = Builder::of(host);
    b.set("_attachments", array(all.into_iter()));
    b.write(cx.out);
    Ok(())
}

fn detach(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let host = p.token_value("host")?;
    let id = p.str("attachmentId")?;
    let mut b = Builder::of(host);
    if host.get("_attachments").is_some_and(|a| !a.is_nil()) {
        let mut rest = attachments(host)?;
        rest.retain(|a| a.get("id").and_then(Value::as_str) != Some(id));
        b.set("_attachments", array(rest.into_iter().map(|v| v.bytes())));
    }
    b.write(cx.out);
    Ok(())
}

/// Sets the id from the properties, or, if they have none, a new one.
fn identify<'a>(cx: &mut Context<'_>, b: &mut Builder<'a>, properties: Option<Value<'a>>, field: &str) -> Result {
    match properties.and_then(|p| p.get("id")).filter(|id| !id.is_nil()) {
        Some(id) if id.as_str().is_none() => {
            Err(Error::bad_payload(format!("field {field}.id: want a string, got {}", id.describe())))
        }
        Some(id) => {
            b.set("id", id.bytes());
            Ok(())
        }
        None => {
            b.set("id", string(&cx.identifier()));
            Ok(())
        }
    }
}

fn merge(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let tokens = p.tokens("tokens")?;
    let properties = p.map("properties")?;
    let keep = p.bool("keepOriginals", false)?;
    if tokens.len() < 2 {
        return Err(Error::insufficient(format!("field tokens: want at least 2, got {}", tokens.len())));
    }
    let mut b = Builder::default();
    tokens.iter().for_each(|t| b.over(Some(*t)));
    b.over(properties);
    b.set("_mergedFrom", array(tokens.iter().map(|t| string(id_of(*t)))));
    identify(cx, &mut b, properties, "properties")?;
    cx.out.map(1 + keep as usize);
    cx.out.str("merged");
    b.write(cx.out);
    if keep {
        cx.out.str("originals");
        cx.out.raw(&array(tokens.iter().map(|t| t.bytes())));
    }
    Ok(())
}

fn split(cx: &mut Context<'_>, p: &Payload<'_>) -> Result {
    let token = p.token_value("token")?;
    let count = p.count(2)?;
    let each = match p.get("propertiesArray").filter(|v| !v.is_nil()) {
        None => Vec::new(),
        Some(_) => p.array("propertiesArray")?,
    };
    let wrong = each.iter().enumerate().find(|(_, v)| !v.is_nil() && v.entries().is_none());
    if let Some((i, v)) = wrong {
        return Err(Error::bad_payload(format!("field propertiesArray[{i}]: want a map, got {}", v.describe())));
    }
    let mut base = Builder::of(token);
    base.set("_splitFrom", string(id_of(token)));
    cx.out.array(usize::try_from(count).unwrap_or(usize::MAX).min(u32::MAX as usize));
    for i in 0..count {
        let properties = each.get(i as usize).copied();
        let mut b = base.clone();
        b.over(properties);
        identify(cx, &mut b, properties, "propertiesArray[]")?;
        b.set("_splitFrom", string(id_of(token)));
        b.write(cx.out);
        if cx.out.overflown() {
            break;
        }
    }
    Ok(())
}
