//! Values between SQLite, documents and JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde_json::json;
use storysync_crdt::Value;

use crate::app::schema::{Column, Table};

/// Key of the JSON object that stands for bytes (base64).
const BLOB_KEY: &str = "$base64";
/// Key of the JSON object that stands for a double JSON can't spell (infinities).
const REAL_KEY: &str = "$real";

/// Opens the bytes that stand for TEXT which is not UTF-8 (half an emoji, cut by an app that counts
/// in UTF-16): documents hold UTF-8 only, and both the bytes and their storage class must come
/// through. No picture or archive begins so.
const ILL_FORMED_TEXT: &[u8] = b"\0storysync: TEXT that is not UTF-8\0";

/// Reads a column.
#[must_use]
pub fn from_sql(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Integer(i),
        ValueRef::Real(f) => Value::Real(f),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob([ILL_FORMED_TEXT, bytes].concat()),
        },
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// Binds a value.
#[must_use]
pub fn to_sql(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Integer(i) => ValueRef::Integer(*i),
        Value::Real(f) => ValueRef::Real(*f),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Blob(bytes) => match bytes.strip_prefix(ILL_FORMED_TEXT) {
            Some(text) => ValueRef::Text(text),
            None => ValueRef::Blob(bytes),
        },
    })
}

/// The JSON that stands for a value in every interface.
#[must_use]
pub fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(i) => json!(i),
        Value::Real(f) if f.is_finite() => json!(f),
        Value::Real(f) => json!({ REAL_KEY: f.to_string() }),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!({ BLOB_KEY: STANDARD.encode(bytes) }),
    }
}

/// The JSON that stands for a value of a column: 0 and 1 are false and true where the app declares
/// the column so. Any other number stays one.
#[must_use]
pub fn to_json_of(table: Option<&Table>, column: &str, value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(bit @ (0 | 1))
            if table.and_then(|table| table.column(column)).is_some_and(Column::is_boolean) =>
        {
            json!(*bit == 1)
        }
        value => to_json(value),
    }
}

/// The value a JSON stands for; `None` for arrays and objects that mean nothing here.
#[must_use]
pub fn from_json(json: &serde_json::Value) -> Option<Value> {
    match json {
        serde_json::Value::Null => Some(Value::Null),
        serde_json::Value::Bool(b) => Some(Value::Integer(i64::from(*b))),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Some(Value::Integer(integer)),
            None => number.as_f64().map(Value::Real),
        },
        serde_json::Value::String(text) => Some(Value::Text(text.clone())),
        serde_json::Value::Object(object) => match (object.get(BLOB_KEY), object.get(REAL_KEY)) {
            (Some(serde_json::Value::String(text)), None) => {
                STANDARD.decode(text).ok().map(Value::Blob)
            }
            (None, Some(serde_json::Value::String(text))) => text.parse().ok().map(Value::Real),
            _ => None,
        },
        serde_json::Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_stays_text() {
        let half_an_emoji = b"a\xed\xa0\xbdb".as_slice();
        let value = from_sql(ValueRef::Text(half_an_emoji));
        assert_eq!(to_sql(&value), ToSqlOutput::Borrowed(ValueRef::Text(half_an_emoji)));
        let blob = Value::Blob(half_an_emoji.to_vec());
        assert_eq!(to_sql(&blob), ToSqlOutput::Borrowed(ValueRef::Blob(half_an_emoji)));
    }
}
