//! Tables for a terminal, from texts that hosts may have written.

use serde_json::Value;

/// Rows of cells under a heading.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(heading: &[&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned)] }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Columns as wide as their widest cell, the last one as it is.
    pub(super) fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..N).map(width).collect();
        let line = |row: &[String; N]| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A value as text that cannot steer a terminal.
pub(super) fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["HOST", "N", "WHY"]);
        table.row(["pds.example.com", "5", ""].map(str::to_owned));
        table.row(["b\u{fc}.com", "12345", "no answer"].map(str::to_owned));
        let expected = "HOST             N      WHY\npds.example.com  5\n\
            b\u{fc}.com           12345  no answer";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(
            plain(&json!("\u{1b}[31mred\r\n\u{9b}1m")),
            "\u{fffd}[31mred\u{fffd}\u{fffd}\u{fffd}1m"
        );
        assert_eq!(
            [json!(null), json!(5), json!(true)].map(|value| plain(&value)),
            ["-", "5", "true"]
        );
    }
}
