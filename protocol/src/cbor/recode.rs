//! Repair: a value that was read leniently, written canonically.

use std::ops::Range;

use super::{Array, CborError, Map, Reader, Value, Writer, key_order};

/// Reads the reader's next value and writes it canonically: keys sorted, heads the shortest.
pub fn recode(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CborError> {
    let from = writer.position();
    let mut unsorted = Vec::new();
    copy(reader, writer, &mut unsorted)?;
    if !unsorted.is_empty() {
        unsorted.sort_unstable_by_key(|map| map.whole.start);
        let out = writer.buffer();
        let written = out.split_off(from);
        let sorter = Sorter { written: &written, from, unsorted: &unsorted };
        sorter.emit(&(from..from + written.len()), out);
    }
    Ok(())
}

/// A map whose keys did not come in order. Its entries were written as they came; where they
/// stand tells the order in which they belong.
struct Unsorted {
    /// All of them.
    whole: Range<usize>,
    /// Each, in the order of the keys.
    entries: Vec<Range<usize>>,
}

/// Writes with shortest heads, and notes the maps that are still to be sorted.
// Recurses as deep as the value, and the reader refuses more than NESTING_MAX.
fn copy(
    reader: &mut Reader<'_>,
    writer: &mut Writer<'_>,
    unsorted: &mut Vec<Unsorted>,
) -> Result<(), CborError> {
    match reader.value()? {
        Value::Unsigned(number) => writer.unsigned(number),
        Value::Negative(number) => writer.negative(number),
        Value::Bytes(bytes) => writer.bytes(bytes),
        Value::Text(text) => writer.text(text),
        Value::Array(array) => return copy_array(array, reader, writer, unsorted),
        Value::Map(map) => return copy_map(map, reader, writer, unsorted),
        Value::Link(link) => writer.link(&link),
        Value::Bool(boolean) => writer.boolean(boolean),
        Value::Null => writer.null(),
        Value::Float(float) => writer.float(float),
    }
    Ok(())
}

fn copy_array(
    mut array: Array,
    reader: &mut Reader<'_>,
    writer: &mut Writer<'_>,
    unsorted: &mut Vec<Unsorted>,
) -> Result<(), CborError> {
    writer.array(usize::try_from(array.left()).map_err(|_| CborError)?);
    while array.next(reader)? {
        copy(reader, writer, unsorted)?;
    }
    Ok(())
}

fn copy_map<'a>(
    mut map: Map<'a>,
    reader: &mut Reader<'a>,
    writer: &mut Writer<'_>,
    unsorted: &mut Vec<Unsorted>,
) -> Result<(), CborError> {
    writer.map(usize::try_from(map.left()).map_err(|_| CborError)?);
    let from = writer.position();
    let mut entries: Vec<(&str, Range<usize>)> = Vec::new();
    while let Some(key) = map.next_key(reader)? {
        let start = writer.position();
        writer.text(key);
        copy(reader, writer, unsorted)?;
        entries.push((key, start..writer.position()));
    }
    if !map.is_sorted() {
        entries.sort_unstable_by(|a, b| key_order(a.0, b.0));
        let entries = entries.into_iter().map(|(_, range)| range).collect();
        unsorted.push(Unsorted { whole: from..writer.position(), entries });
    }
    Ok(())
}

/// Puts in order what was written, moving every byte once, however deep the maps lie in each other.
struct Sorter<'w> {
    written: &'w [u8],
    /// Where that began in the buffer, by which places are counted.
    from: usize,
    /// By their beginnings, so that outer ones come before what is in them.
    unsorted: &'w [Unsorted],
}

impl Sorter<'_> {
    /// Appends what stands in a range.
    // Recurses as deep as the value.
    fn emit(&self, range: &Range<usize>, out: &mut Vec<u8>) {
        let mut at = range.start;
        while at < range.end {
            // What is in here begins after a key or a head: not where a map's own entries begin.
            let next = self.unsorted.partition_point(|map| map.whole.start <= at);
            let map = self.unsorted.get(next).filter(|map| map.whole.start < range.end);
            let Some(map) = map else { break };
            self.plain(at..map.whole.start, out);
            map.entries.iter().for_each(|entry| self.emit(entry, out));
            at = map.whole.end;
        }
        self.plain(at..range.end, out);
    }

    fn plain(&self, range: Range<usize>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.written[range.start - self.from..range.end - self.from]);
    }
}
