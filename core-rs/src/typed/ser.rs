//! A serde serializer: it makes values of types. It writes MessagePack, with the keys of maps
//! sorted by bytes.

use super::fault::Fault;
use super::raw;
use crate::error::code;
use crate::value::{MAX_INT, Value};
use crate::write::Writer;
use serde::ser::{self, Serialize, Serializer};

/// Writes one value. Beyond the writer's limit nothing is written; see [`Writer::overflown`].
pub(crate) struct Encoder<'w>(pub(crate) &'w mut Writer);

impl Encoder<'_> {
    fn whole(self, n: Option<i64>, text: impl std::fmt::Display) -> Result<(), Fault> {
        match n.filter(|n| (-MAX_INT..=MAX_INT).contains(n)) {
            Some(n) => {
                self.0.int(n);
                Ok(())
            }
            None => Err(Fault::new(code::OUT_OF_RANGE, format!("{text} is outside ±{MAX_INT}"))),
        }
    }
}

impl<'w> Serializer for Encoder<'w> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Sequence<'w>;
    type SerializeTuple = Sequence<'w>;
    type SerializeTupleStruct = Sequence<'w>;
    type SerializeTupleVariant = Sequence<'w>;
    type SerializeMap = Map<'w>;
    type SerializeStruct = Map<'w>;
    type SerializeStructVariant = Map<'w>;

    fn serialize_bool(self, v: bool) -> Result<(), Fault> {
        self.0.bool(v);
        Ok(())
    }
    fn serialize_i8(self, v: i8) -> Result<(), Fault> {
        self.whole(Some(v.into()), v)
    }
    fn serialize_i16(self, v: i16) -> Result<(), Fault> {
        self.whole(Some(v.into()), v)
    }
    fn serialize_i32(self, v: i32) -> Result<(), Fault> {
        self.whole(Some(v.into()), v)
    }
    fn serialize_i64(self, v: i64) -> Result<(), Fault> {
        self.whole(Some(v), v)
    }
    fn serialize_i128(self, v: i128) -> Result<(), Fault> {
        self.whole(v.try_into().ok(), v)
    }
    fn serialize_u8(self, v: u8) -> Result<(), Fault> {
        self.whole(Some(v.into()), v)
    }
    fn serialize_u16(self, v: u16) -> Result<(), Fault> {
        self.whole(Some(v.into()), v)
    }
    fn serialize_u32(self, v: u32) -> Result<(), Fault> {
        self.whole(Some(v.into()), v)
    }
    fn serialize_u64(self, v: u64) -> Result<(), Fault> {
        self.whole(v.try_into().ok(), v)
    }
    fn serialize_u128(self, v: u128) -> Result<(), Fault> {
        self.whole(v.try_into().ok(), v)
    }
    fn serialize_f32(self, v: f32) -> Result<(), Fault> {
        self.serialize_f64(v.into())
    }
    fn serialize_f64(self, v: f64) -> Result<(), Fault> {
        if !v.is_finite() {
            return Err(Fault::bad(format!("a number must be finite, not {v}")));
        }
        self.0.num(v);
        Ok(())
    }
    fn serialize_char(self, v: char) -> Result<(), Fault> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<(), Fault> {
        self.0.str(v);
        Ok(())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<(), Fault> {
        v.serialize(self)
    }
    fn serialize_none(self) -> Result<(), Fault> {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<(), Fault> {
        v.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Fault> {
        self.0.nil();
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Fault> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, v: &T) -> Result<(), Fault> {
        if name == raw::NAME {
            // A raw value hands its bytes over as an array of numbers, as it does for other
            // formats.
            return raw::take(v).map(|bytes| self.0.raw(&bytes));
        }
        v.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        v: &T,
    ) -> Result<(), Fault> {
        self.0.map(1);
        self.0.str(variant);
        v.serialize(Encoder(self.0)).map_err(|f| f.under(variant))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'w>, Fault> {
        Ok(Sequence { start: self.0.len(), out: self.0, items: 0 })
    }
    fn serialize_tuple(self, _: usize) -> Result<Sequence<'w>, Fault> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Sequence<'w>, Fault> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Sequence<'w>, Fault> {
        self.0.map(1);
        self.0.str(variant);
        self.serialize_seq(None)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Map<'w>, Fault> {
        Ok(Map { start: self.0.len(), out: self.0, entries: Vec::new(), key: 0 })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map<'w>, Fault> {
        self.serialize_map(None)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Map<'w>, Fault> {
        self.0.map(1);
        self.0.str(variant);
        self.serialize_map(None)
    }
}

/// An array. Its header is written after its items, when their number is known.
pub(crate) struct Sequence<'w> {
    out: &'w mut Writer,
    start: usize,
    items: usize,
}

impl Sequence<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Fault> {
        self.items += 1;
        v.serialize(Encoder(self.out)).map_err(|f| f.under_index(self.items - 1))
    }

    fn finish(self) -> Result<(), Fault> {
        if !self.out.overflown() {
            let body = self.out.bytes()[self.start..].to_vec();
            self.out.truncate(self.start);
            self.out.array(self.items);
            self.out.raw(&body);
        }
        Ok(())
    }
}

/// A map. Its entries are written as they come, and are sorted at the end.
pub(crate) struct Map<'w> {
    out: &'w mut Writer,
    start: usize,
    /// For each entry, the offsets at which its key begins and its value ends.
    entries: Vec<(usize, usize)>,
    /// The offset at which the current key begins.
    key: usize,
}

impl Map<'_> {
    fn name<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        let mut w = Writer::default();
        key.serialize(Encoder(&mut w))?;
        let key = Value::trusted(w.bytes());
        self.key = self.out.len();
        match (key.as_str(), key.as_f64(), key.as_bool()) {
            (Some(s), ..) => self.out.str(s),
            (_, Some(n), _) => self.out.str(&n.to_string()),
            (.., Some(b)) => self.out.str(&b.to_string()),
            _ => return Err(Fault::bad(format!("a map key must be a string, not {}", key.describe()))),
        }
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Fault> {
        v.serialize(Encoder(self.out)).map_err(|f| match self.out.bytes().get(self.key..) {
            Some(key) => f.under(Value::trusted(key).as_str().unwrap_or_default()),
            None => f,
        })?;
        self.entries.push((self.key, self.out.len()));
        Ok(())
    }

    fn finish(mut self) -> Result<(), Fault> {
        if self.out.overflown() {
            return Ok(());
        }
        let all = self.out.bytes();
        let key = |&(from, to): &(usize, usize)| Value::trusted(&all[from..to]).as_str().unwrap_or_default();
        self.entries.sort_by(|a, b| key(a).cmp(key(b)));
        let body: Vec<u8> = self.entries.iter().flat_map(|&(from, to)| &all[from..to]).copied().collect();
        self.out.truncate(self.start);
        self.out.map(self.entries.len());
        self.out.raw(&body);
        Ok(())
    }
}

macro_rules! sequence {
    ($($trait:ident $method:ident;)*) => {$(
        impl ser::$trait for Sequence<'_> {
            type Ok = ();
            type Error = Fault;
            fn $method<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Fault> {
                self.item(v)
            }
            fn end(self) -> Result<(), Fault> {
                self.finish()
            }
        }
    )*};
}

sequence! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = Fault;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.name(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Fault> {
        self.value(v)
    }
    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Map<'_> {
            type Ok = ();
            type Error = Fault;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, v: &T) -> Result<(), Fault> {
                self.name(key)?;
                self.value(v)
            }
            fn end(self) -> Result<(), Fault> {
                self.finish()
            }
        }
    )*};
}

fields!(SerializeStruct SerializeStructVariant);
