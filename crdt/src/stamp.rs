//! Times as apps write them: three dialects of text, compared as instants, kept as written.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// What stands where nobody knows the time: a row that existed before its table had such a column.
/// A constant, so that two copies of one file, migrated apart, say the same.
pub const UNKNOWN_STAMP: &str = "1970-01-01 00:00:00.000000";

/// A time as found in a table or a document.
///
/// Storymaster writes `YYYY-MM-DD HH:MM:SS` and `YYYY-MM-DD HH:MM:SS.ffffff`, both UTC; files its
/// old scripts migrated hold `YYYY-MM-DDTHH:MM:SS.ffffff` in a local zone nobody recorded, which is
/// read as UTC because every device must read it alike. Text with an offset (RFC 3339) is taken at
/// its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(Timestamp);

impl Stamp {
    /// Reads any of the dialects; `None` when the text is no time, or says that it is unknown.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let timestamp = match text.parse::<Timestamp>() {
            Ok(timestamp) => timestamp,
            Err(_) => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
        };
        (timestamp != Timestamp::UNIX_EPOCH).then_some(Self(timestamp))
    }

    /// A time from milliseconds since 1970 UTC; times out of any calendar become the epoch.
    #[must_use]
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        Self(Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Milliseconds since 1970 UTC.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        self.0.as_millisecond()
    }

    /// `YYYY-MM-DD HH:MM:SS.ffffff` in UTC: what we write into tables, as Storymaster does.
    #[must_use]
    pub fn to_table_text(self) -> String {
        self.0.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string()
    }

    /// RFC 3339 in UTC with a `Z`, microseconds: what every interface prints.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_dialects_and_rfc3339_name_the_same_instant() {
        let plain = Stamp::parse("2026-11-22 08:25:57");
        assert!(plain.is_some());
        for text in [
            "2026-11-22 08:25:57.000000",
            "2026-11-22T08:25:57.000000",
            "2026-11-22T09:25:57+01:00",
            "2026-11-22T08:25:57Z",
        ] {
            assert_eq!(Stamp::parse(text), plain, "{text}");
        }
    }

    #[test]
    fn unknown_and_nonsense_are_no_time() {
        for text in [UNKNOWN_STAMP, "", "yesterday", "2026-13-01"] {
            assert_eq!(Stamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn table_text_reads_back() {
        let stamp = Stamp::from_unix_ms(1_795_300_000_123);
        assert_eq!(Stamp::parse(&stamp.to_table_text()), Some(stamp));
        assert_eq!(Stamp::parse(&stamp.to_rfc3339()), Some(stamp));
    }
}
