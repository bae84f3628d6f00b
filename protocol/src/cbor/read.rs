//! The pull reader.

use std::cmp::Ordering;

use super::{
    CID_HEAD, CborError, ENVELOPE_KEYS_MAX, ITEMS_MAX, MAJOR_ARRAY, MAJOR_BYTES, MAJOR_MAP,
    MAJOR_NEGATIVE, MAJOR_TAG, MAJOR_TEXT, MAJOR_UNSIGNED, NESTING_MAX, SIMPLE_FALSE,
    SIMPLE_FLOAT64, SIMPLE_NULL, SIMPLE_TRUE, TAG_CID, TEXT_BYTES_MAX, key_order,
};
use crate::cid::{CID_BYTES, Link};

/// What a reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Strict DRISL: shortest heads, sorted keys, 64-bit floats other than NaN and infinities.
    Drisl,
    /// Strict DRISL as the AT Protocol's data model has it: no floats.
    DrislNoFloats,
    /// As [`Rules::DrislNoFloats`], but unsorted keys and heads that are longer than needed are
    /// taken, and told by [`Reader::is_canonical`]; maps have at most [`ENVELOPE_KEYS_MAX`] keys.
    Envelope,
}

/// Reads one value after the other from a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    rules: Rules,
    canonical: bool,
    /// Arrays and maps that are open.
    depth: u8,
    /// Items of arrays and maps that may still be opened.
    items_left: u64,
    /// Bytes of text that may still come.
    text_left: u64,
    /// Under [`Rules::Envelope`] the keys of all open maps, innermost last. Unused otherwise:
    /// there the order of the keys alone rules duplicates out.
    keys: Vec<&'a str>,
}

/// A value, or the head of one.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// An integer from 0.
    Unsigned(u64),
    /// The integer −1 − n.
    Negative(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A text.
    Text(&'a str),
    /// An array, whose items come next.
    Array(Array),
    /// A map, whose entries come next.
    Map(Map<'a>),
    /// A CID.
    Link(Link<'a>),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// A 64-bit float, finite.
    Float(f64),
}

/// An array that is being read. It must be read to its end, or skipped with
/// [`Reader::skip_rest`], before the reader is used for what follows it.
#[derive(Clone, Debug)]
pub struct Array {
    left: u64,
    closed: bool,
}

/// A map that is being read. It must be read to its end, or skipped with [`Reader::skip_rest`],
/// before the reader is used for what follows it: duplicate keys may be found at its end only.
#[derive(Clone, Debug)]
pub struct Map<'a> {
    left: u64,
    closed: bool,
    sorted: bool,
    previous: Option<&'a str>,
    /// Where this map's keys begin in the reader's `keys`.
    keys_from: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the front of `bytes`.
    pub fn new(bytes: &'a [u8], rules: Rules) -> Self {
        Self::in_room(bytes, rules, Vec::new())
    }

    /// As [`Reader::new`], with a list that another reader used for keys. It must be empty.
    pub(crate) fn in_room(bytes: &'a [u8], rules: Rules, keys: Vec<&'a str>) -> Self {
        Self {
            bytes,
            at: 0,
            rules,
            canonical: true,
            depth: 0,
            items_left: ITEMS_MAX,
            text_left: TEXT_BYTES_MAX,
            keys,
        }
    }

    /// Gives the list for keys back.
    pub(crate) fn into_room(self) -> Vec<&'a str> {
        self.keys
    }

    /// How many bytes were read: between two values, the end of one and the start of the next.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether everything that was read so far is canonical.
    #[inline]
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// That nothing follows.
    #[inline]
    pub fn end(&self) -> Result<(), CborError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(CborError) }
    }

    /// The next value, or the head of the next array or map.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, CborError> {
        let initial = *self.bytes.get(self.at).ok_or(CborError)?;
        Ok(match initial >> 5 {
            MAJOR_UNSIGNED => Value::Unsigned(self.head()?),
            MAJOR_NEGATIVE => Value::Negative(self.head()?),
            MAJOR_BYTES => Value::Bytes(self.bytes_here()?),
            MAJOR_TEXT => Value::Text(self.text_here()?),
            MAJOR_ARRAY => Value::Array(self.open_array()?),
            MAJOR_MAP => Value::Map(self.open_map()?),
            MAJOR_TAG => Value::Link(self.link_here()?),
            _ => self.simple(initial)?,
        })
    }

    /// Reads over the next value, checking it whole.
    // Recurses to NESTING_MAX at most: `open` refuses more.
    pub fn skip(&mut self) -> Result<(), CborError> {
        let initial = *self.bytes.get(self.at).ok_or(CborError)?;
        match initial >> 5 {
            MAJOR_UNSIGNED | MAJOR_NEGATIVE => self.head().map(drop),
            MAJOR_BYTES => self.bytes_here().map(drop),
            MAJOR_TEXT => self.text_here().map(drop),
            MAJOR_ARRAY => self.open_array().and_then(|array| self.skip_array(array)),
            MAJOR_MAP => self.open_map().and_then(|map| self.skip_map(map)),
            MAJOR_TAG => self.link_here().map(drop),
            _ => self.simple(initial).map(drop),
        }
    }

    /// Reads over what is left of a value that [`Reader::value`] gave.
    pub fn skip_rest(&mut self, value: Value<'a>) -> Result<(), CborError> {
        match value {
            Value::Array(array) => self.skip_array(array),
            Value::Map(map) => self.skip_map(map),
            _ => Ok(()),
        }
    }

    /// The next value if it is a text; one of another type is read over.
    #[inline]
    pub fn text(&mut self) -> Result<Option<&'a str>, CborError> {
        if self.next_is(MAJOR_TEXT) { self.text_here().map(Some) } else { self.skip_other() }
    }

    /// The next value if it is a byte string; one of another type is read over.
    #[inline]
    pub fn bytes(&mut self) -> Result<Option<&'a [u8]>, CborError> {
        if self.next_is(MAJOR_BYTES) { self.bytes_here().map(Some) } else { self.skip_other() }
    }

    /// The next value if it is an integer from 0; one of another type is read over.
    #[inline]
    pub fn unsigned(&mut self) -> Result<Option<u64>, CborError> {
        if self.next_is(MAJOR_UNSIGNED) { self.head().map(Some) } else { self.skip_other() }
    }

    /// The next value if it is a CID; one of another type is read over.
    #[inline]
    pub fn link(&mut self) -> Result<Option<Link<'a>>, CborError> {
        if self.next_is(MAJOR_TAG) { self.link_here().map(Some) } else { self.skip_other() }
    }

    /// The next value if it is a boolean; one of another type is read over.
    #[inline]
    pub fn boolean(&mut self) -> Result<Option<bool>, CborError> {
        if self.take_literal(&[SIMPLE_TRUE]) {
            Ok(Some(true))
        } else if self.take_literal(&[SIMPLE_FALSE]) {
            Ok(Some(false))
        } else {
            self.skip_other()
        }
    }

    /// Takes a `null` if it stands next; anything else stays.
    #[inline]
    pub fn take_null(&mut self) -> bool {
        self.take_literal(&[SIMPLE_NULL])
    }

    /// Takes exactly these bytes if they stand next; anything else stays. For objects of which
    /// only one encoding is right.
    #[inline]
    pub(crate) fn take_literal(&mut self, literal: &[u8]) -> bool {
        let found = self.bytes[self.at..].starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    /// What was not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Moves on over values that the caller has read itself, strictly.
    #[inline]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Takes so many bytes.
    #[inline]
    pub(crate) fn take_array<const N: usize>(&mut self) -> Result<&'a [u8; N], CborError> {
        let taken = self.bytes[self.at..].first_chunk().ok_or(CborError)?;
        self.at += N;
        Ok(taken)
    }

    fn skip_array(&mut self, mut array: Array) -> Result<(), CborError> {
        while array.next(self)? {
            self.skip()?;
        }
        Ok(())
    }

    fn skip_map(&mut self, mut map: Map<'a>) -> Result<(), CborError> {
        while map.next_key(self)?.is_some() {
            self.skip()?;
        }
        Ok(())
    }

    #[cold]
    fn skip_other<T>(&mut self) -> Result<Option<T>, CborError> {
        self.skip().map(|()| None)
    }

    /// Reads a head and gives its argument; the major type was looked at by the caller.
    #[inline]
    fn head(&mut self) -> Result<u64, CborError> {
        let info = *self.bytes.get(self.at).ok_or(CborError)? & 0x1f;
        self.at += 1;
        if info < 24 { Ok(u64::from(info)) } else { self.long_argument(info) }
    }

    fn long_argument(&mut self, info: u8) -> Result<u64, CborError> {
        let (argument, shortest_from) = match info {
            24 => (u64::from(u8::from_be_bytes(*self.take_array()?)), 24),
            25 => (u64::from(u16::from_be_bytes(*self.take_array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(*self.take_array()?)), 1 << 16),
            27 => (u64::from_be_bytes(*self.take_array()?), 1 << 32),
            // 28 to 30 mean nothing; 31 is an indefinite length.
            _ => return Err(CborError),
        };
        if argument < shortest_from {
            self.deviate()?;
        }
        Ok(argument)
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], CborError> {
        let len = usize::try_from(len).map_err(|_| CborError)?;
        let taken = self.bytes[self.at..].get(..len).ok_or(CborError)?;
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn bytes_here(&mut self) -> Result<&'a [u8], CborError> {
        let len = self.head()?;
        self.take(len)
    }

    #[inline]
    fn text_here(&mut self) -> Result<&'a str, CborError> {
        let len = self.head()?;
        self.text_left = self.text_left.checked_sub(len).ok_or(CborError)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| CborError)
    }

    #[inline]
    fn link_here(&mut self) -> Result<Link<'a>, CborError> {
        if self.take_literal(&CID_HEAD) {
            return match Link::read(self.take_array::<CID_BYTES>()?) {
                Ok((link, CID_BYTES)) => Ok(link),
                _ => Err(CborError),
            };
        }
        self.other_link_here()
    }

    fn other_link_here(&mut self) -> Result<Link<'a>, CborError> {
        if self.head()? != TAG_CID || !self.next_is(MAJOR_BYTES) {
            return Err(CborError);
        }
        let Some((0, cid)) = self.bytes_here()?.split_first() else {
            return Err(CborError);
        };
        match Link::read(cid) {
            Ok((link, len)) if len == cid.len() => Ok(link),
            _ => Err(CborError),
        }
    }

    fn simple(&mut self, initial: u8) -> Result<Value<'a>, CborError> {
        self.at += 1;
        match initial {
            SIMPLE_FALSE => Ok(Value::Bool(false)),
            SIMPLE_TRUE => Ok(Value::Bool(true)),
            SIMPLE_NULL => Ok(Value::Null),
            SIMPLE_FLOAT64 if self.rules == Rules::Drisl => {
                let float = f64::from_be_bytes(*self.take_array()?);
                if float.is_finite() { Ok(Value::Float(float)) } else { Err(CborError) }
            }
            _ => Err(CborError),
        }
    }

    #[inline]
    fn open_array(&mut self) -> Result<Array, CborError> {
        let left = self.head()?;
        self.open(left)?;
        Ok(Array { left, closed: false })
    }

    #[inline]
    fn open_map(&mut self) -> Result<Map<'a>, CborError> {
        let left = self.head()?;
        self.open(left.checked_mul(2).ok_or(CborError)?)?;
        if self.rules == Rules::Envelope && self.keys.capacity() == 0 {
            self.keys.reserve(KEYS_RESERVED);
        }
        Ok(Map { left, closed: false, sorted: true, previous: None, keys_from: self.keys.len() })
    }

    #[inline]
    fn open(&mut self, items: u64) -> Result<(), CborError> {
        // Every item that is claimed would have to come, so a claim may be refused at once.
        self.items_left = self.items_left.checked_sub(items).ok_or(CborError)?;
        self.depth += 1;
        if self.depth <= NESTING_MAX { Ok(()) } else { Err(CborError) }
    }

    /// Notes an encoding that is not canonical, where that is taken.
    fn deviate(&mut self) -> Result<(), CborError> {
        self.canonical = false;
        if self.rules == Rules::Envelope { Ok(()) } else { Err(CborError) }
    }

    #[inline]
    fn next_is(&self, major: u8) -> bool {
        self.bytes.get(self.at).is_some_and(|initial| initial >> 5 == major)
    }
}

impl Array {
    /// Whether another item stands next.
    #[inline]
    pub fn next(&mut self, reader: &mut Reader<'_>) -> Result<bool, CborError> {
        if self.left > 0 {
            self.left -= 1;
            return Ok(true);
        }
        if !self.closed {
            self.closed = true;
            reader.depth -= 1;
        }
        Ok(false)
    }

    /// How many items are left by the array's own claim: not a size to allocate by.
    #[inline]
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<'a> Map<'a> {
    /// The next key, whose value then stands next; `None` at the map's end.
    #[inline]
    pub fn next_key(&mut self, reader: &mut Reader<'a>) -> Result<Option<&'a str>, CborError> {
        if self.left == 0 {
            return self.close(reader).map(|()| None);
        }
        self.left -= 1;
        if !reader.next_is(MAJOR_TEXT) {
            return Err(CborError);
        }
        let key = reader.text_here()?;
        match self.previous.map(|previous| key_order(previous, key)) {
            None | Some(Ordering::Less) => {}
            Some(Ordering::Equal) => return Err(CborError),
            Some(Ordering::Greater) => {
                reader.deviate()?;
                self.sorted = false;
            }
        }
        self.previous = Some(key);
        if reader.rules == Rules::Envelope {
            if reader.keys.len() - self.keys_from >= ENVELOPE_KEYS_MAX {
                return Err(CborError);
            }
            reader.keys.push(key);
        }
        Ok(Some(key))
    }

    /// How many entries are left by the map's own claim: not a size to allocate by.
    #[inline]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether the keys came in canonical order so far.
    pub(super) fn is_sorted(&self) -> bool {
        self.sorted
    }

    #[inline]
    fn close(&mut self, reader: &mut Reader<'a>) -> Result<(), CborError> {
        if self.closed {
            return Ok(());
        }
        self.closed = true;
        reader.depth -= 1;
        if !self.sorted {
            let keys = &mut reader.keys[self.keys_from..];
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(CborError);
            }
        }
        reader.keys.truncate(self.keys_from);
        Ok(())
    }
}

/// Room for the keys of an event's maps, so that its reader allocates once.
const KEYS_RESERVED: usize = 32;
