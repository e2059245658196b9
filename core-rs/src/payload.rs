//! An action's payload. Its fields are read by name and type, and errors say what was expected.

use crate::engine::{Field, REST};
use crate::error::{Error, Result, clip};
use crate::near::nearest;
use crate::rng::Rng;
use crate::token::Token;
use crate::value::{MAX_INT, Value, as_int};
use smallvec::SmallVec;

/// The payload of one action.
#[derive(Debug)]
pub struct Payload<'a> {
    value: Value<'a>,
    fields: SmallVec<[(&'a str, Value<'a>); 8]>,
}

fn wrong<T>(field: &str, want: &str, got: Option<Value<'_>>) -> Result<T> {
    Err(wrong_error(field, want, got))
}

#[cold]
#[inline(never)]
fn wrong_error(field: &str, want: &str, got: Option<Value<'_>>) -> Error {
    let got = got.map_or("nothing".to_string(), Value::describe);
    Error::bad_payload(format!("field {field}: want {want}, got {got}"))
}

impl<'a> Payload<'a> {
    /// Returns the payload in a value, which must be a map. nil counts as an empty map.
    #[inline] // inlined, the payload is built in the caller's frame and not copied
    pub fn new(value: Value<'a>) -> Result<Payload<'a>> {
        match value.entries() {
            Some(e) => Ok(Payload { value, fields: e.collect() }),
            None if value.is_nil() => Ok(Payload { value, fields: SmallVec::new() }),
            None => Err(Error::bad_payload(format!("the payload must be a map, not {}", value.describe()))),
        }
    }

    /// Returns the name of the first member that is none of an action's fields; None if there is
    /// none.
    #[inline(always)]
    pub(crate) fn find_unknown(&self, fields: &[Field]) -> Option<&'a str> {
        self.fields.iter().find(|(k, _)| !fields.iter().any(|f| f.name == *k)).map(|(k, _)| *k)
    }

    /// Returns the payload as one value.
    pub fn value(&self) -> Value<'a> {
        self.value
    }

    /// Returns a field of any type; None if it is missing. A field that is nil is not missing.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.fields.iter().find(|(k, _)| *k == name).map(|(_, v)| *v)
    }

    /// Returns a field of any type. Fails if it is missing.
    pub fn need(&self, name: &str) -> Result<Value<'a>> {
        self.get(name).ok_or_else(|| Error::bad_payload(format!("field {name}: want a value, got nothing")))
    }

    pub fn str(&self, name: &str) -> Result<&'a str> {
        self.opt_str(name)?.map_or_else(|| wrong(name, "a string", None), Ok)
    }

    /// Returns a string that is not empty. Fails if the field is missing.
    pub fn name(&self, name: &str) -> Result<&'a str> {
        match self.str(name)? {
            "" => wrong(name, "a string that is not empty", self.get(name)),
            s => Ok(s),
        }
    }

    pub fn opt_str(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(v) => v.as_str().map_or_else(|| wrong(name, "a string", Some(v)), |s| Ok(Some(s))),
        }
    }

    pub fn bool(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.opt_bool(name)?.unwrap_or(default))
    }

    pub fn opt_bool(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(v) => v.as_bool().map_or_else(|| wrong(name, "a bool", Some(v)), |b| Ok(Some(b))),
        }
    }

    pub fn num(&self, name: &str, default: f64) -> Result<f64> {
        Ok(self.opt_num(name)?.unwrap_or(default))
    }

    pub fn opt_num(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(v) => v.as_f64().map_or_else(|| wrong(name, "a number", Some(v)), |n| Ok(Some(n))),
        }
    }

    /// Returns a whole number of at least `min`. Fails if the field is missing and has no default.
    pub fn whole(&self, name: &str, default: Option<i64>, min: i64) -> Result<i64> {
        match (self.opt_num(name)?, default) {
            (Some(f), _) => whole(name, f, min),
            (None, Some(d)) => Ok(d),
            (None, None) => wrong(name, "a whole number", None),
        }
    }

    /// Returns the field `count`, a whole number of at least 1.
    pub fn count(&self, default: i64) -> Result<u64> {
        self.whole("count", Some(default), 1).map(|n| n as u64)
    }

    /// Returns the field `amount`, a number of at least 0.
    pub fn amount(&self, default: f64) -> Result<f64> {
        let a = self.num("amount", default)?;
        amount("amount", a)
    }

    /// Returns a position from 0 to `max`. If `max` is below 0, there is no position, and the call
    /// fails.
    pub fn position(&self, name: &str, default: Option<i64>, max: i64) -> Result<usize> {
        let p = self.whole(name, default, i64::MIN)?;
        if !(0..=max).contains(&p) {
            return Err(Error::out_of_range(if max < 0 {
                format!("field {name}: {p} is out of range: there is nothing there")
            } else {
                format!("field {name}: {p} is outside 0..{max}")
            }));
        }
        Ok(p as usize)
    }

    pub fn token(&self, name: &str) -> Result<Token> {
        Token::new(self.token_value(name)?, name)
    }

    /// Returns a token as a value, for an action that does not keep it.
    pub fn token_value(&self, name: &str) -> Result<Value<'a>> {
        match self.get(name) {
            None => wrong(name, "a token (a map with a string id)", None),
            Some(v) => check_token(v, name),
        }
    }

    pub fn map(&self, name: &str) -> Result<Option<Value<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(v) if v.entries().is_some() => Ok(Some(v)),
            Some(v) => wrong(name, "a map", Some(v)),
        }
    }

    pub fn array(&self, name: &str) -> Result<Vec<Value<'a>>> {
        match self.get(name).map(|v| (v, v.items())) {
            Some((_, Some(items))) => Ok(items.collect()),
            Some((v, None)) => wrong(name, "an array", Some(v)),
            None => wrong(name, "an array", None),
        }
    }

    /// Returns an array of strings.
    pub fn strings(&self, name: &str) -> Result<Vec<&'a str>> {
        let items = self.array(name)?;
        let each = |(i, v): (usize, Value<'a>)| {
            v.as_str().map_or_else(|| wrong(&format!("{name}[{i}]"), "a string", Some(v)), Ok)
        };
        items.into_iter().enumerate().map(each).collect()
    }

    /// Returns an array of tokens as values, for an action that does not keep them.
    pub fn tokens(&self, name: &str) -> Result<Vec<Value<'a>>> {
        check_tokens(self.array(name)?, name)
    }

    /// Returns decks: an array of arrays of tokens as values, for an action that does not keep
    /// them.
    pub fn decks(&self, name: &str) -> Result<Vec<Vec<Value<'a>>>> {
        let deck = |(i, d): (usize, Value<'a>)| {
            let field = format!("{name}[{i}]");
            match d.items() {
                Some(items) => check_tokens(items.collect(), &field),
                None => wrong(&field, "an array of tokens", Some(d)),
            }
        };
        self.array(name)?.into_iter().enumerate().map(deck).collect()
    }

    /// Returns the field `seed`, and the generator that it starts; None if it is missing or nil.
    pub fn seed(&self) -> Result<Option<(Rng, Value<'a>)>> {
        let Some(v) = self.get("seed").filter(|v| !v.is_nil()) else { return Ok(None) };
        match seed_rng(v) {
            Some(rng) => Ok(Some((rng, v))),
            None => wrong("seed", "a number or a string", Some(v)),
        }
    }
}

/// Refuses a member of a payload that is none of the action's fields, unless the last field is
/// [`rest`].
///
/// [`rest`]: crate::rest
#[cold]
#[inline(never)]
pub(crate) fn refuse_member(key: &str, fields: &[Field], action: &str) -> Result {
    if fields.last().is_some_and(|f| f.name == REST) {
        return Ok(());
    }
    let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
    Err(unknown(format!("unknown field {}", quote(key)), key, &names, action))
}

/// Fails if a map has a member that is not in `names`. `field` names the map in the error. A value
/// that is no map passes.
pub(crate) fn check_fields(map: Value<'_>, field: &str, names: &[&str]) -> Result {
    match map.entries().into_iter().flatten().find(|(k, _)| !names.contains(k)) {
        None => Ok(()),
        Some((key, _)) => Err(unknown_member(key, names, field)),
    }
}

/// Returns the error for a member that a map must not have.
#[cold]
#[inline(never)]
pub(crate) fn unknown_member(key: &str, names: &[&str], field: &str) -> Error {
    unknown(format!("unknown field {} in {field}", quote(key)), key, names, field)
}

/// Returns the error for a member that no action reads. It names the field that may have been
/// meant, or else all fields.
fn unknown(what: String, key: &str, names: &[&str], owner: &str) -> Error {
    Error::bad_payload(match (nearest(key, names.iter().copied()), names) {
        (Some(near), _) => format!("{what}: did you mean {near:?}?"),
        (None, []) => format!("{what}: {owner} takes no fields"),
        (None, names) => format!("{what}: {owner} takes {}", names.join(", ")),
    })
}

/// Returns the generator that a seed starts; None if the value is neither a number nor a string.
pub(crate) fn seed_rng(v: Value<'_>) -> Option<Rng> {
    v.as_f64().map(Rng::from_number).or_else(|| v.as_str().map(Rng::from_string))
}

/// Returns a float as a whole number. Fails if it is not whole, or below `min`.
pub(crate) fn whole(field: &str, f: f64, min: i64) -> Result<i64> {
    let Some(i) = as_int(f) else {
        return Err(Error::out_of_range(format!("field {field}: {f} is not a whole number within ±{MAX_INT}")));
    };
    if i < min {
        return Err(Error::out_of_range(format!("field {field}: {i} is below {min}")));
    }
    Ok(i)
}

pub(crate) fn amount(field: &str, a: f64) -> Result<f64> {
    if a < 0.0 {
        return Err(Error::out_of_range(format!("field {field}: {a} is below 0")));
    }
    Ok(a)
}

fn check_token<'a>(v: Value<'a>, field: &str) -> Result<Value<'a>> {
    match v.get("id").map(Value::as_str) {
        Some(Some(_)) => Ok(v),
        _ if v.entries().is_none() => wrong(field, "a token (a map with a string id)", Some(v)),
        _ => wrong(&format!("{field}.id"), "a string", v.get("id")),
    }
}

fn check_tokens<'a>(items: Vec<Value<'a>>, field: &str) -> Result<Vec<Value<'a>>> {
    let each = |(i, v): (usize, Value<'a>)| check_token(v, &format!("{field}[{i}]"));
    items.into_iter().enumerate().map(each).collect()
}

/// Returns the sum of two amounts. Fails if the sum is not finite, or is outside ±[`MAX_INT`]
/// although both amounts are whole.
pub(crate) fn add(field: &str, a: f64, b: f64) -> Result<f64> {
    let sum = a + b;
    let exact = as_int(a).is_some() && as_int(b).is_some();
    if !sum.is_finite() || (exact && sum.abs() > MAX_INT as f64) {
        return Err(Error::out_of_range(format!("field {field}: {a} and {b} leave ±{MAX_INT}")));
    }
    Ok(sum)
}

/// Returns a name, clipped and quoted, for a message.
pub(crate) fn quote(s: &str) -> String {
    format!("{:?}", clip(s))
}
