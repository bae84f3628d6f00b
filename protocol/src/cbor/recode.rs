//! Repair: a value that was read leniently, written canonically.

use super::{Array, CborError, Map, Reader, Value, Writer, key_order};

/// Reads the reader's next value and writes it canonically: keys sorted, heads the shortest.
pub fn recode(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CborError> {
    // Recurses as deep as the value, and the reader refuses more than NESTING_MAX.
    match reader.value()? {
        Value::Unsigned(number) => writer.unsigned(number),
        Value::Negative(number) => writer.negative(number),
        Value::Bytes(bytes) => writer.bytes(bytes),
        Value::Text(text) => writer.text(text),
        Value::Array(array) => return recode_array(array, reader, writer),
        Value::Map(map) => return recode_map(map, reader, writer),
        Value::Link(link) => writer.link(&link),
        Value::Bool(boolean) => writer.boolean(boolean),
        Value::Null => writer.null(),
        Value::Float(float) => writer.float(float),
    }
    Ok(())
}

fn recode_array(
    mut array: Array,
    reader: &mut Reader<'_>,
    writer: &mut Writer<'_>,
) -> Result<(), CborError> {
    writer.array(usize::try_from(array.left()).map_err(|_| CborError)?);
    while array.next(reader)? {
        recode(reader, writer)?;
    }
    Ok(())
}

// The entries are written in the order in which they come, and put in order after that: each level
// moves its bytes once, so the work is the value's size times its depth at most.
fn recode_map<'a>(
    mut map: Map<'a>,
    reader: &mut Reader<'a>,
    writer: &mut Writer<'_>,
) -> Result<(), CborError> {
    writer.map(usize::try_from(map.left()).map_err(|_| CborError)?);
    let from = writer.position();
    let mut entries: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
    while let Some(key) = map.next_key(reader)? {
        let start = writer.position();
        writer.text(key);
        recode(reader, writer)?;
        entries.push((key, start..writer.position()));
    }
    if !map.is_sorted() {
        entries.sort_unstable_by(|a, b| key_order(a.0, b.0));
        let out = writer.buffer();
        let unsorted = out.split_off(from);
        for (_, range) in entries {
            out.extend_from_slice(&unsorted[range.start - from..range.end - from]);
        }
    }
    Ok(())
}
