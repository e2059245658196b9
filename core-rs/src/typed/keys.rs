//! Makes types of the keys of maps. Keys are strings; numbers, bools and variants without data are
//! parsed from their text.

use super::fault::Fault;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

pub(super) struct KeyDecoder<'de>(pub(super) &'de str);

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ident $want:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.0.parse::<$type>() {
                Ok(v) => visitor.$visit(v),
                Err(_) => Err(Fault::bad(concat!("want ", $want, " as the key")).under(self.0)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for KeyDecoder<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.0)
    }

    parsed! {
        deserialize_bool visit_bool bool "true or false";
        deserialize_i8 visit_i8 i8 "a whole number of 8 bits";
        deserialize_i16 visit_i16 i16 "a whole number of 16 bits";
        deserialize_i32 visit_i32 i32 "a whole number of 32 bits";
        deserialize_i64 visit_i64 i64 "a whole number of 64 bits";
        deserialize_u8 visit_u8 u8 "a whole number of 0 to 255";
        deserialize_u16 visit_u16 u16 "a whole number of 0 to 65535";
        deserialize_u32 visit_u32 u32 "a whole number of 0 to 4294967295";
        deserialize_u64 visit_u64 u64 "a whole number from 0 on";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        BorrowedStrDeserializer::<Fault>::new(self.0).deserialize_enum(name, known, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
