//! Values that are passed on as bytes, tokens, and the payloads that `payload!` makes.

use super::fault::Fault;
use super::ser::Encoder;
use crate::error::{Result, code};
use crate::token::Token;
use crate::value::{Value, scan_all};
use crate::write::Writer;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// The name of a newtype. By this name, the serializer and the deserializer of this crate know a
/// value that is passed on as bytes.
pub(super) const NAME: &str = "$hypertoken::Raw";

/// Any value. Its bytes are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(Box<[u8]>);

impl Raw {
    /// Returns the value of anything that serde can write.
    pub fn new(value: &(impl Serialize + ?Sized)) -> Result<Raw> {
        super::encode("the value", value, usize::MAX).map(|b| Raw(b.into()))
    }

    /// Returns the value, to be read in place.
    pub fn value(&self) -> Value<'_> {
        Value::trusted(&self.0)
    }

    /// Returns the value as a type. Fails with `bad_payload` if it is not of that type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        super::decode("the value", code::BAD_PAYLOAD, &self.0)
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_newtype_struct(NAME, &self.0)
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_newtype_struct(NAME, self.bytes())
    }
}

/// Returns the bytes of a raw value. serde hands them over as an array of numbers.
pub(super) fn take(v: &(impl Serialize + ?Sized)) -> std::result::Result<Vec<u8>, Fault> {
    let mut w = Writer::default();
    v.serialize(Encoder(&mut w))?;
    let items = Value::trusted(w.bytes()).items().into_iter().flatten();
    Ok(items.filter_map(Value::as_f64).map(|n| n as u8).collect())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Raw, D::Error> {
        d.deserialize_newtype_struct(NAME, Rebuild).map(|b| Raw(b.into()))
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Token, D::Error> {
        let bytes = d.deserialize_newtype_struct(NAME, Rebuild)?;
        Token::new(Value::trusted(&bytes), "token").map_err(|e| de::Error::custom(e.message))
    }
}

/// Takes a value's bytes. If another deserializer of serde has buffered the value, it makes the
/// bytes again.
struct Rebuild;

impl<'de> Visitor<'de> for Rebuild {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_borrowed_bytes<E: de::Error>(self, v: &'de [u8]) -> std::result::Result<Vec<u8>, E> {
        Ok(v.to_vec())
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> std::result::Result<Vec<u8>, D::Error> {
        d.deserialize_any(Rebuild)
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> std::result::Result<Vec<u8>, E> {
        rebuilt(&v)
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> std::result::Result<Vec<u8>, E> {
        rebuilt(&v)
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> std::result::Result<Vec<u8>, E> {
        rebuilt(&v)
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> std::result::Result<Vec<u8>, E> {
        rebuilt(&v)
    }
    fn visit_str<E: de::Error>(self, v: &str) -> std::result::Result<Vec<u8>, E> {
        rebuilt(v)
    }
    fn visit_unit<E: de::Error>(self) -> std::result::Result<Vec<u8>, E> {
        rebuilt(&())
    }
    fn visit_none<E: de::Error>(self) -> std::result::Result<Vec<u8>, E> {
        rebuilt(&())
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> std::result::Result<Vec<u8>, D::Error> {
        d.deserialize_any(Rebuild)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Vec<u8>, A::Error> {
        let mut all: Vec<Raw> = Vec::new();
        while let Some(v) = items.next_element()? {
            all.push(v);
        }
        rebuilt(&all)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Vec<u8>, A::Error> {
        let mut all: std::collections::BTreeMap<String, Raw> = Default::default();
        while let Some((k, v)) = entries.next_entry()? {
            all.insert(k, v);
        }
        rebuilt(&all)
    }
}

fn rebuilt<E: de::Error>(v: &(impl Serialize + ?Sized)) -> std::result::Result<Vec<u8>, E> {
    let mut w = Writer::default();
    v.serialize(Encoder(&mut w)).map_err(E::custom)?;
    debug_assert!(scan_all(w.bytes(), usize::MAX).is_ok());
    Ok(w.into_bytes())
}

/// The fields of a payload that [`payload!`](crate::payload) makes.
#[derive(Clone, Copy, Debug)]
pub struct Fields<L>(pub L);

/// A list of fields: either empty, or a name, a value and a list of fields.
pub trait FieldList {
    /// The number of fields.
    const LEN: usize;
    /// Writes the fields.
    fn put<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error>;
}

impl FieldList for () {
    const LEN: usize = 0;
    fn put<M: SerializeMap>(&self, _: &mut M) -> std::result::Result<(), M::Error> {
        Ok(())
    }
}

impl<V: Serialize, R: FieldList> FieldList for (&str, V, R) {
    const LEN: usize = 1 + R::LEN;
    fn put<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        map.serialize_entry(self.0, &self.1)?;
        self.2.put(map)
    }
}

impl<L: FieldList> Serialize for Fields<L> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(L::LEN))?;
        self.0.put(&mut map)?;
        map.end()
    }
}
