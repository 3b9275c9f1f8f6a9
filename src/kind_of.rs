//! What bytes in a column are, for people: by how they begin.

/// What bytes are, by how they begin.
#[must_use]
pub(crate) fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: &[(&[u8], &str)] = &[
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"GIF8", "a GIF picture"),
        (b"RIFF", "a WebP picture or sound"),
        (b"%PDF", "a PDF"),
        (b"PK\x03\x04", "a ZIP archive or office document"),
        (b"SQLite format 3", "an SQLite database"),
        (b"\x1f\x8b", "gzip"),
        (b"OggS", "Ogg sound"),
        (b"ID3", "MP3 sound"),
    ];
    KINDS.iter().find(|(beginning, _)| bytes.starts_with(beginning)).map(|(_, kind)| *kind)
}
