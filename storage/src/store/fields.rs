//! Reading and writing the fields of rows.

/// What is left of a row. Every read is `None` past the end: the row is then corrupt.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of a row of this version; no other is known.
    pub(crate) fn of(row: &'a [u8], version: u8) -> Option<Self> {
        let (first, rest) = row.split_first()?;
        (*first == version).then_some(Self(rest))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let bytes = usize::from(u16::from_be_bytes(self.array()?));
        let (front, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        std::str::from_utf8(front).ok()
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// `Some` if nothing is left.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends a text. Every text that is stored is bounded far below 64 KiB where it enters.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = u16::try_from(text.len()).expect("stored texts are bounded where they enter");
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
