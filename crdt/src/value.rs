//! Values as SQLite stores them and as automerge carries them.

use automerge::ScalarValue;

/// The text that stands in a document for a reference that resolves to no row anywhere.
pub const NOWHERE: &str = "nowhere";

/// One column's value: SQLite's storage classes, one to one with automerge scalars.
#[derive(Debug, Clone)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A 64-bit integer; also what a boolean from JavaScript becomes.
    Integer(i64),
    /// A double. SQLite stores NaN as NULL, so NaN never arises from a table.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// The value of an automerge scalar, or `None` for the kinds no column can hold.
    #[must_use]
    pub fn from_scalar(scalar: &ScalarValue) -> Option<Self> {
        match scalar {
            ScalarValue::Null => Some(Self::Null),
            ScalarValue::Int(i) | ScalarValue::Timestamp(i) => Some(Self::Integer(*i)),
            ScalarValue::Uint(u) => i64::try_from(*u).ok().map(Self::Integer),
            ScalarValue::Boolean(b) => Some(Self::Integer(i64::from(*b))),
            ScalarValue::F64(f) => Some(Self::Real(*f)),
            ScalarValue::Str(s) => Some(Self::Text(s.to_string())),
            ScalarValue::Bytes(b) => Some(Self::Blob(b.clone())),
            ScalarValue::Counter(_) | ScalarValue::Unknown { .. } => None,
        }
    }

    /// The automerge scalar that carries this value.
    #[must_use]
    pub fn to_scalar(&self) -> ScalarValue {
        match self {
            Self::Null => ScalarValue::Null,
            Self::Integer(i) => ScalarValue::Int(*i),
            Self::Real(f) => ScalarValue::F64(*f),
            Self::Text(s) => ScalarValue::Str(s.as_str().into()),
            Self::Blob(b) => ScalarValue::Bytes(b.clone()),
        }
    }

    /// Text, when it is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Integer, when it is one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(i) => Some(*i),
            _ => None,
        }
    }

    /// Whether this is SQL NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Bytes the value takes in a change, roughly: what limits are counted in.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }

    /// A self-delimiting encoding: equal exactly for equal values.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_canonical(&mut bytes);
        bytes
    }

    /// Appends a self-delimiting encoding: a tag byte, and for text and bytes a length in front.
    pub(crate) fn write_canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Integer(i) => {
                out.push(1);
                out.extend_from_slice(&i.to_be_bytes());
            }
            Self::Real(f) => {
                out.push(2);
                out.extend_from_slice(&f.to_bits().to_be_bytes());
            }
            Self::Text(text) => {
                out.push(3);
                write_length_prefixed(text.as_bytes(), out);
            }
            Self::Blob(bytes) => {
                out.push(4);
                write_length_prefixed(bytes, out);
            }
        }
    }
}

pub(crate) fn write_length_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Equality as a table sees it: same storage class and same bits (so a NaN equals itself).
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Blob(a), Self::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}
