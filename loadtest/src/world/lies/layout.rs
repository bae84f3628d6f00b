//! Where what stands in a frame, byte by byte, from how the generator writes it.
//!
//! The walk follows the encoding with this crate's own reader. It knows the names of fields and the
//! order of a CAR, and nothing of what a relay makes of them.

use crate::wire::{Frame, read_head, read_varint, skip};

/// What a byte of a frame belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The first byte of an item: its type, and a length or a value.
    Head,
    /// The rest of a text's length.
    TextLength,
    /// The most significant byte of the rest of a byte string's length.
    BytesLength,
    /// A character of a field's name.
    Key(Place),
    /// A character of a field's text.
    Text(Place),
    /// A byte of a link that a field holds.
    Link(Place, CidPart),
    /// In the field `blocks`.
    Car(CarPart),
    /// Without a meaning of its own here.
    Other,
}

/// A field: of the payload, or of the op at an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The header's.
    Header(String),
    /// The payload's.
    Payload(String),
    /// An op's.
    Op(usize, String),
}

/// A byte of a CID, or what stands before it in a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CidPart {
    /// The number of the tag.
    Tag,
    /// The length of the byte string.
    Bytes,
    /// The multibase prefix.
    Multibase,
    Version,
    Codec,
    Hash,
    Length,
    Digest,
}

/// A byte of a CAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CarPart {
    /// The length of the header.
    HeaderLength,
    /// A head in the header.
    HeaderHead,
    /// A character of a name in the header.
    HeaderKey,
    /// The version's number.
    HeaderVersion,
    /// The root's link.
    Root(CidPart),
    /// The byte at a place of a section's length.
    SectionLength {
        at: usize,
        value: usize,
        /// Bytes of the CAR behind the length.
        left: usize,
    },
    /// The CID of the block with this index.
    Cid(usize, CidPart),
    /// A byte of the block with this index.
    Block(usize),
}

/// A frame's bytes ([`Frame::without_seq`]), each with its part.
pub(super) fn layout(frame: &Frame) -> Vec<Part> {
    let bytes = frame.without_seq();
    let mut walk =
        Walk { bytes, seq_at: frame.seq_at(), parts: vec![Part::Other; bytes.len()], at: 0 };
    walk.map(|name| Place::Header(name.to_owned()));
    walk.map(|name| Place::Payload(name.to_owned()));
    assert_eq!(walk.at, bytes.len(), "the generator's own frame");
    walk.parts
}

struct Walk<'a> {
    bytes: &'a [u8],
    seq_at: Option<usize>,
    parts: Vec<Part>,
    at: usize,
}

impl Walk<'_> {
    fn map(&mut self, place: impl Fn(&str) -> Place) {
        let entries = self.head();
        for _ in 0..entries {
            let name = self.text(|name| Part::Key(place(name)));
            self.value(&place(&name));
        }
    }

    fn value(&mut self, place: &Place) {
        if self.seq_at == Some(self.at) {
            return;
        }
        let (major, _, _) = self.peek();
        match (major, place) {
            (MAJOR_BYTES, Place::Payload(name)) if name == "blocks" => self.blocks(),
            (MAJOR_LIST, Place::Payload(name)) if name == "ops" => {
                for index in 0..usize::try_from(self.head()).expect("few ops") {
                    self.map(|name| Place::Op(index, name.to_owned()));
                }
            }
            (MAJOR_TEXT, _) => drop(self.text(|_| Part::Text(place.clone()))),
            (MAJOR_TAG, _) => self.link(|part| Part::Link(place.clone(), part)),
            _ => {
                self.parts[self.at] = Part::Head;
                self.at = skip(self.bytes, self.at).expect("a whole value");
            }
        }
    }

    /// Marks a head and goes behind it; its argument.
    fn head(&mut self) -> u64 {
        let (major, argument, next) = self.peek();
        self.parts[self.at] = Part::Head;
        if next > self.at + 1 {
            match major {
                MAJOR_TEXT => self.parts[self.at + 1] = Part::TextLength,
                MAJOR_BYTES => self.parts[self.at + 1] = Part::BytesLength,
                _ => {}
            }
        }
        self.at = next;
        argument
    }

    fn text(&mut self, part: impl Fn(&str) -> Part) -> String {
        let length = usize::try_from(self.head()).expect("a short text");
        let text = std::str::from_utf8(&self.bytes[self.at..self.at + length]).expect("a text");
        let part = part(text);
        self.parts[self.at..self.at + length].fill(part);
        self.at += length;
        text.to_owned()
    }

    fn link(&mut self, part: impl Fn(CidPart) -> Part) {
        self.parts[self.at] = Part::Head;
        let heads = [CidPart::Tag, CidPart::Bytes, CidPart::Bytes, CidPart::Multibase];
        for (offset, head) in heads.into_iter().enumerate() {
            self.parts[self.at + 1 + offset] = part(head);
        }
        // The head of the byte string, between the tag and the length.
        self.parts[self.at + 2] = Part::Head;
        self.at += 1 + heads.len();
        self.cid(part);
    }

    fn cid(&mut self, part: impl Fn(CidPart) -> Part) {
        for known in [CidPart::Version, CidPart::Codec, CidPart::Hash, CidPart::Length] {
            self.parts[self.at] = part(known);
            self.at += 1;
        }
        self.parts[self.at..self.at + DIGEST_BYTES].fill(part(CidPart::Digest));
        self.at += DIGEST_BYTES;
    }

    fn blocks(&mut self) {
        let length = usize::try_from(self.head()).expect("a short CAR");
        let end = self.at + length;
        let header_end = self.varint(|_, _, _| CarPart::HeaderLength);
        self.car_header();
        assert_eq!(self.at, header_end, "a header of one root");
        let mut index = 0;
        while self.at < end {
            let section_end = self.varint(|at, next, value| CarPart::SectionLength {
                at,
                value,
                left: end - next,
            });
            self.cid(|part| Part::Car(CarPart::Cid(index, part)));
            self.parts[self.at..section_end].fill(Part::Car(CarPart::Block(index)));
            self.at = section_end;
            index += 1;
        }
    }

    /// `{"roots": [link], "version": 1}`
    fn car_header(&mut self) {
        self.car_head();
        self.car_key("roots");
        self.car_head();
        let heads = self.at;
        self.link(|part| Part::Car(CarPart::Root(part)));
        self.parts[heads] = Part::Car(CarPart::HeaderHead);
        self.parts[heads + 2] = Part::Car(CarPart::HeaderHead);
        self.car_key("version");
        self.parts[self.at] = Part::Car(CarPart::HeaderVersion);
        self.at += 1;
    }

    fn car_head(&mut self) {
        self.parts[self.at] = Part::Car(CarPart::HeaderHead);
        self.at += 1;
    }

    fn car_key(&mut self, key: &str) {
        self.car_head();
        self.parts[self.at..self.at + key.len()].fill(Part::Car(CarPart::HeaderKey));
        self.at += key.len();
    }

    /// Marks a length and goes behind it; where what it counts ends.
    fn varint(&mut self, part: impl Fn(usize, usize, usize) -> CarPart) -> usize {
        let (value, next) = read_varint(self.bytes, self.at).expect("a length");
        let value = usize::try_from(value).expect("a short section");
        for at in 0..next - self.at {
            self.parts[self.at + at] = Part::Car(part(at, next, value));
        }
        self.at = next;
        next + value
    }

    fn peek(&self) -> (u8, u64, usize) {
        read_head(self.bytes, self.at).expect("a head")
    }
}

const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_LIST: u8 = 4;
const MAJOR_TAG: u8 = 6;
const DIGEST_BYTES: usize = 32;
