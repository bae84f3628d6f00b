//! Rows of figures under columns, for people and for machines.

use serde_json::{Map, Value, json};

/// A table.
pub(crate) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<f64>)>,
}

impl Table {
    pub(crate) fn new(title: &str, columns: &[String]) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one figure for each column.
    pub(crate) fn add(&mut self, name: &str, figures: Vec<f64>) {
        assert_eq!(figures.len(), self.columns.len(), "{name}");
        self.rows.push((name.into(), figures));
    }

    /// The figures of a row.
    pub(crate) fn row(&self, name: &str) -> &[f64] {
        &self.rows.iter().find(|(other, _)| other == name).unwrap().1
    }

    pub(crate) fn text(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut out = format!("{:<width$}", self.title, width = width + 2);
        self.columns.iter().for_each(|column| out.push_str(&format!(" {column:>12}")));
        for (name, figures) in &self.rows {
            out.push_str(&format!("\n  {name:<width$}"));
            figures.iter().for_each(|figure| out.push_str(&format!(" {:>12}", rounded(*figure))));
        }
        out.push('\n');
        out
    }

    pub(crate) fn json(&self) -> Value {
        let row = |(name, figures): &(String, Vec<f64>)| {
            let cells = self.columns.iter().cloned().zip(figures.iter().map(|it| json!(it)));
            (name.clone(), Value::from(cells.collect::<Map<_, _>>()))
        };
        json!({"title": self.title, "rows": self.rows.iter().map(row).collect::<Map<_, _>>()})
    }
}

/// A count as a figure.
pub(crate) fn count_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

fn rounded(figure: f64) -> String {
    if figure >= 1000.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
