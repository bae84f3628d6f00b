//! A tree that can be anything: read from honest nodes, changed without any rule, written again.

use std::collections::BTreeMap;

use protocol::cbor::{Reader, Rules, Value, Writer};
use protocol::cid::Cid;

use super::{Draw, path, record_cid};

/// A node and what is below it.
#[derive(Clone)]
pub(super) struct Node {
    left: Option<Below>,
    entries: Vec<Entry>,
    /// Not in the frame.
    hidden: bool,
    /// Changed: then nobody can vouch for what is hidden of it.
    lied: bool,
    /// A byte to change after encoding: its place, and what it is changed with.
    scratch: Option<(u8, u8)>,
}

#[derive(Clone)]
enum Below {
    Node(Box<Node>),
    /// No node at all.
    Nothing(Cid),
}

#[derive(Clone)]
struct Entry {
    key: Vec<u8>,
    value: Cid,
    right: Option<Below>,
    /// Added to the length of the prefix.
    prefix_off: u64,
}

/// A node as its block says.
pub(super) struct Parsed {
    pub(super) left: Option<Cid>,
    pub(super) entries: Vec<ParsedEntry>,
}

/// Key, value if its CID is of our kind, and the subtree after it.
type ParsedEntry = (Vec<u8>, Option<Cid>, Option<Cid>);

/// Reads a block in the plainest way; `None` if it is no node.
pub(super) fn parse(block: &[u8]) -> Option<Parsed> {
    let mut reader = Reader::new(block, Rules::DrislNoFloats);
    let Value::Map(mut map) = reader.value().ok()? else { return None };
    let (mut left, mut entries) = (None, None);
    while let Some(key) = map.next_key(&mut reader).ok()? {
        match key {
            "e" => entries = Some(parse_entries(&mut reader)?),
            "l" => left = Some(parse_link(&mut reader)?),
            _ => return None,
        }
    }
    reader.end().ok()?;
    Some(Parsed { left: left?, entries: entries? })
}

fn parse_entries(reader: &mut Reader<'_>) -> Option<Vec<ParsedEntry>> {
    let Value::Array(mut array) = reader.value().ok()? else { return None };
    let mut entries: Vec<ParsedEntry> = Vec::new();
    while array.next(reader).ok()? {
        let Value::Map(mut map) = reader.value().ok()? else { return None };
        let (mut suffix, mut prefix, mut right, mut value) = (None, None, None, None);
        while let Some(key) = map.next_key(reader).ok()? {
            match key {
                "k" => suffix = Some(reader.bytes().ok()??),
                "p" => prefix = Some(usize::try_from(reader.unsigned().ok()??).ok()?),
                "t" => right = Some(parse_link(reader)?),
                "v" => value = Some(reader.link().ok()??.cid()),
                _ => return None,
            }
        }
        let before = entries.last().map_or(&[][..], |(key, ..)| key);
        let key = [before.get(..prefix?)?, suffix?].concat();
        entries.push((key, value?, right?));
    }
    Some(entries)
}

fn parse_link(reader: &mut Reader<'_>) -> Option<Option<Cid>> {
    if reader.take_null() { Some(None) } else { Some(Some(reader.link().ok()??.cid()?)) }
}

impl Node {
    /// An honest tree; what is not shown is hidden.
    pub(super) fn read(nodes: &BTreeMap<Cid, Vec<u8>>, root: &Cid, shown: &[Cid]) -> Option<Self> {
        let parsed = parse(nodes.get(root)?)?;
        let below = |cid: Option<Cid>| {
            let node = Self::read(nodes, &cid?, shown)?;
            Some(Below::Node(node.into()))
        };
        let entry = |(key, value, right): ParsedEntry| {
            Some(Entry { key, value: value?, right: below(right), prefix_off: 0 })
        };
        Some(Self {
            left: below(parsed.left),
            entries: parsed.entries.into_iter().map(entry).collect::<Option<_>>()?,
            hidden: !shown.contains(root),
            lied: false,
            scratch: None,
        })
    }

    /// Changes one node.
    pub(super) fn lie(&mut self, draw: &mut Draw<'_>) {
        let ways = self.entries.len() + 1;
        let way = draw.below(2 * ways + 1);
        if way < ways
            && let Some(Below::Node(below)) = self.below_mut(way)
        {
            return below.lie(draw);
        }
        let what = draw.below(14);
        if what == 0 {
            self.hidden = !self.hidden;
        } else {
            self.lied = true;
            self.change(what, draw);
        }
    }

    /// Whether a node that was changed cannot be reached through nodes that are shown.
    pub(super) fn hides_a_lie(&self, is_reached: bool) -> bool {
        let is_reached = is_reached && !self.hidden;
        let right = self.entries.iter().map(|entry| &entry.right);
        let mut below = std::iter::once(&self.left).chain(right).flatten();
        (self.lied && !is_reached)
            || below.any(|below| match below {
                Below::Node(node) => node.hides_a_lie(is_reached),
                Below::Nothing(_) => false,
            })
    }

    fn change(&mut self, what: usize, draw: &mut Draw<'_>) {
        let at = draw.below(self.entries.len());
        let place = draw.below(self.entries.len() + 1);
        let entry = self.entries.get_mut(at);
        match (what, entry) {
            (1, Some(entry)) => entry.value = record_cid(draw),
            (2, Some(_)) => drop(self.entries.remove(at)),
            (3, Some(entry)) => {
                let double = entry.clone();
                self.entries.insert(place, double);
            }
            (4, Some(_)) => self.entries.swap(at, place.saturating_sub(1)),
            (5, Some(entry)) => entry.key = path(draw).into_bytes(),
            (6, Some(entry)) => entry.prefix_off = u64::from(draw.byte()),
            (7, _) => {
                let (key, value) = (path(draw).into_bytes(), record_cid(draw));
                self.entries.insert(place, Entry { key, value, right: None, prefix_off: 0 });
            }
            (8, _) => *self.place_mut(place) = None,
            (9, _) => *self.place_mut(place) = Some(Below::Nothing(record_cid(draw))),
            (10, _) => {
                let below = self.place_mut(place).take();
                let empty = Self::pointing(below);
                *self.place_mut(place) = Some(Below::Node(empty.into()));
            }
            (11, _) => {
                let below = self.place_mut(place).take();
                let other = draw.below(self.entries.len() + 1);
                *self.place_mut(other) = below;
            }
            (12, _) => self.scratch = Some((draw.byte(), draw.byte())),
            _ => self.entries.clear(),
        }
    }

    fn pointing(left: Option<Below>) -> Self {
        Self { left, entries: Vec::new(), hidden: false, lied: true, scratch: None }
    }

    fn place_mut(&mut self, at: usize) -> &mut Option<Below> {
        match at.checked_sub(1) {
            None => &mut self.left,
            Some(before) => &mut self.entries[before].right,
        }
    }

    fn below_mut(&mut self, at: usize) -> Option<&mut Below> {
        self.place_mut(at).as_mut()
    }

    /// Encodes it and all below it: its CID.
    pub(super) fn write(
        &self,
        nodes: &mut BTreeMap<Cid, Vec<u8>>,
        shown: &mut BTreeMap<Cid, Vec<u8>>,
    ) -> Cid {
        let mut block = Vec::new();
        let mut writer = Writer::new(&mut block);
        writer.map(2);
        writer.text("e");
        writer.array(self.entries.len());
        let mut previous: &[u8] = &[];
        for entry in &self.entries {
            let right = write_below(entry.right.as_ref(), nodes, shown);
            let shared = previous.iter().zip(&entry.key).take_while(|(a, b)| a == b).count();
            previous = &entry.key;
            writer.map(4);
            writer.text("k");
            writer.bytes(&entry.key[shared..]);
            writer.text("p");
            writer.unsigned(shared as u64 + entry.prefix_off);
            writer.text("t");
            write_link(&mut writer, right);
            writer.text("v");
            writer.cid(&entry.value);
        }
        writer.text("l");
        let left = write_below(self.left.as_ref(), nodes, shown);
        write_link(&mut writer, left);
        if let Some((at, with)) = self.scratch {
            let at = usize::from(at) % block.len();
            block[at] ^= with;
        }
        let cid = Cid::of_cbor(&block);
        if !self.hidden {
            shown.insert(cid, block.clone());
        }
        nodes.insert(cid, block);
        cid
    }
}

fn write_below(
    below: Option<&Below>,
    nodes: &mut BTreeMap<Cid, Vec<u8>>,
    shown: &mut BTreeMap<Cid, Vec<u8>>,
) -> Option<Cid> {
    match below? {
        Below::Node(node) => Some(node.write(nodes, shown)),
        Below::Nothing(cid) => Some(*cid),
    }
}

fn write_link(writer: &mut Writer<'_>, cid: Option<Cid>) {
    match cid {
        Some(cid) => writer.cid(&cid),
        None => writer.null(),
    }
}
