//! Where a script takes its decisions from: the bytes a fuzzer hands in, or a seed that replays.

/// A source of decisions.
#[derive(Debug, Clone)]
pub enum Choices<'a> {
    /// Bytes; when they end, the script ends.
    Bytes(&'a [u8]),
    /// xorshift64*: small, and the same everywhere. Never ends by itself.
    Seed(u64),
}

impl Choices<'_> {
    /// Decisions that follow from a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Whether there is nothing left to decide by.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }

    /// A number below `sides`; 0 when nothing is left.
    pub fn roll(&mut self, sides: usize) -> usize {
        if sides < 2 {
            return 0;
        }
        match self {
            Self::Bytes(bytes) => {
                let (first, rest) =
                    bytes.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
                *bytes = rest;
                usize::from(first) % sides
            }
            Self::Seed(state) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                let rolled = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
                usize::try_from(rolled % sides as u64).unwrap_or(0)
            }
        }
    }

    /// Whether one of `sides` came up.
    pub fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    /// One of several.
    pub fn pick<'b, T>(&mut self, from: &'b [T]) -> Option<&'b T> {
        let place = self.roll(from.len());
        from.get(place)
    }
}
