//! The figures that have a target, each beside what cannot be avoided.

use serde_json::{Value, json};

/// One figure.
pub(crate) struct Row {
    /// What is measured.
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    /// What the same would cost without us, and what that is.
    pub(crate) raw: Option<(f64, &'static str)>,
}

/// What it should be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// It is shown for comparison.
    None,
}

impl Row {
    fn is_met(&self) -> Option<bool> {
        match self.target {
            Target::AtMost(most) => Some(self.value <= most),
            Target::AtLeast(least) => Some(self.value >= least),
            Target::None => None,
        }
    }

    fn target(&self) -> String {
        match self.target {
            Target::AtMost(most) => format!("<= {}", number(most)),
            Target::AtLeast(least) => format!(">= {}", number(least)),
            Target::None => String::new(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "target": self.target(),
            "met": self.is_met(),
            "raw": self.raw.map(|(value, what)| json!({ "value": value, "what": what })),
        })
    }
}

/// For people.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    let mut out = format!(
        "\n{:<width$}  {:>10} {:<5} {:>12}  {:<4} raw limit in the same run\n",
        "with targets", "", "", "target", ""
    );
    for row in rows {
        let met = row.is_met().map_or("", |met| if met { "ok" } else { "NO" });
        let raw = row.raw.map_or(String::new(), |(raw, what)| format!("{} {what}", number(raw)));
        out.push_str(&format!(
            "{:<width$}  {:>10} {:<5} {:>12}  {met:<4} {raw}\n",
            row.what,
            number(row.value),
            row.unit,
            row.target(),
        ));
    }
    out
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        small if small < 10.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}
