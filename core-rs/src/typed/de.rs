//! A serde deserializer: it makes types of values, and reads checked MessagePack in place.

use super::fault::Fault;
use super::keys::KeyDecoder;
use super::raw;
use crate::error::code;
use crate::value::{Entries, Items, MAX_INT, Value, as_int};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Reads one value. The recursion is as deep as the value, which MaxDepth bounds.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'de>(pub(crate) Value<'de>);

impl<'de> Decoder<'de> {
    fn number(self, want: &str) -> Result<f64, Fault> {
        self.0.as_f64().ok_or_else(|| Fault::wrong(want, self.0))
    }

    fn text(self) -> Result<&'de str, Fault> {
        self.0.as_str().ok_or_else(|| Fault::wrong("a string", self.0))
    }

    /// Returns a whole number from `min` to `max`.
    fn whole(self, min: i64, max: i64) -> Result<i64, Fault> {
        let f = self.number("a whole number")?;
        let Some(n) = as_int(f) else {
            let text = format!("{f} is not a whole number within ±{MAX_INT}");
            return Err(Fault::new(code::OUT_OF_RANGE, text));
        };
        let (min, max) = (min.max(-MAX_INT), max.min(MAX_INT));
        if !(min..=max).contains(&n) {
            return Err(Fault::new(code::OUT_OF_RANGE, format!("{n} is outside {min}..{max}")));
        }
        Ok(n)
    }

    fn sequence<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let items = self.0.items().ok_or_else(|| Fault::wrong("an array", self.0))?;
        let len = items.len();
        let mut items = Sequence { items, next: 0 };
        let v = visitor.visit_seq(&mut items)?;
        if items.next < len {
            return Err(Fault::bad(format!("want {} items, got {len}", items.next)));
        }
        Ok(v)
    }

    fn entries<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let entries = self.0.entries().ok_or_else(|| Fault::wrong("a map", self.0))?;
        visitor.visit_map(Map { entries, value: None })
    }
}

macro_rules! whole {
    ($($method:ident $visit:ident $type:ident $min:expr, $max:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(self.whole($min as i64, $max as i64)? as $type)
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let v = self.0;
        if let Some(f) = v.as_f64() {
            return match as_int(f) {
                Some(n) if n >= 0 => visitor.visit_u64(n as u64),
                Some(n) => visitor.visit_i64(n),
                None => visitor.visit_f64(f),
            };
        }
        if let Some(s) = v.as_str() {
            return visitor.visit_borrowed_str(s);
        }
        if let Some(b) = v.as_bool() {
            return visitor.visit_bool(b);
        }
        match (v.is_nil(), v.items()) {
            (true, _) => visitor.visit_unit(),
            (_, Some(_)) => self.sequence(visitor),
            _ => self.entries(visitor),
        }
    }

    whole! {
        deserialize_i8 visit_i8 i8 i8::MIN, i8::MAX;
        deserialize_i16 visit_i16 i16 i16::MIN, i16::MAX;
        deserialize_i32 visit_i32 i32 i32::MIN, i32::MAX;
        deserialize_i64 visit_i64 i64 i64::MIN, i64::MAX;
        deserialize_i128 visit_i64 i64 i64::MIN, i64::MAX;
        deserialize_u8 visit_u8 u8 0, u8::MAX;
        deserialize_u16 visit_u16 u16 0, u16::MAX;
        deserialize_u32 visit_u32 u32 0, u32::MAX;
        deserialize_u64 visit_u64 u64 0, i64::MAX;
        deserialize_u128 visit_u64 u64 0, i64::MAX;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.0.as_bool().ok_or_else(|| Fault::wrong("a bool", self.0))?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let f = self.number("a number")?;
        if !(f as f32).is_finite() {
            return Err(Fault::new(code::OUT_OF_RANGE, format!("{f} is outside ±{}", f32::MAX)));
        }
        visitor.visit_f32(f as f32)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f64(self.number("a number")?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut chars = self.text()?.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => visitor.visit_char(c),
            _ => Err(Fault::wrong("a string of one character", self.0)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_nil() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    /// Accepts nil and an empty map: both are the payload of an action without fields.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.entries().map(|mut e| e.next()) {
            Some(Some((name, _))) => Err(serde::de::Error::unknown_field(name, &[])),
            Some(None) => visitor.visit_unit(),
            None if self.0.is_nil() => visitor.visit_unit(),
            None => Err(Fault::wrong("nothing", self.0)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        if name == raw::NAME {
            visitor.visit_borrowed_bytes(self.0.bytes())
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.sequence(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.entries(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.entries(visitor)
    }

    /// A variant without data is the string of its name. A variant with data is a map with one
    /// entry, from its name to the data.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if let Some(name) = self.0.as_str() {
            return visitor.visit_enum(Variant { name, data: None });
        }
        let mut entries = self.0.entries().into_iter().flatten();
        match (entries.next(), entries.next()) {
            (Some((name, data)), None) => visitor.visit_enum(Variant { name, data: Some(data) }),
            _ => Err(Fault::wrong(format!("one of {}", known.join(", ")), self.0)),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Decoder<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

struct Sequence<'de> {
    items: Items<'de>,
    next: usize,
}

impl<'de> SeqAccess<'de> for &mut Sequence<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        self.next += 1;
        seed.deserialize(Decoder(item)).map(Some).map_err(|f| f.under_index(self.next - 1))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Map<'de> {
    entries: Entries<'de>,
    /// The entry whose key has been read, but not yet its value.
    value: Option<(&'de str, Value<'de>)>,
}

impl<'de> MapAccess<'de> for Map<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(KeyDecoder(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) = self.value.take().ok_or_else(|| Fault::bad("a value is read before its key"))?;
        seed.deserialize(Decoder(value)).map_err(|f| f.under(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Variant<'de> {
    name: &'de str,
    data: Option<Value<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        let v = seed.deserialize(BorrowedStrDeserializer::<Fault>::new(self.name))?;
        Ok((v, self))
    }
}

impl<'de> Variant<'de> {
    fn data(&self) -> Result<Decoder<'de>, Fault> {
        let missing = || Fault::bad(format!("want a map with data for {}, got the string {:?}", self.name, self.name));
        self.data.map(Decoder).ok_or_else(missing)
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.data {
            Some(v) if !v.is_nil() => Err(Fault::wrong("nothing", v).under(self.name)),
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.data()?).map_err(|f| f.under(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.data()?.sequence(visitor).map_err(|f| f.under(self.name))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.data()?.entries(visitor).map_err(|f| f.under(self.name))
    }
}
