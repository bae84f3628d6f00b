//! Figures of a run, as a table for people and as JSON for machines.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    title: String,
    figures: Vec<Figure>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
}

/// How a quantity is distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Number of samples.
    pub count: usize,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 99 in a hundred are not greater.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), figures: Vec::new() }
    }

    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), unit, value });
    }

    /// Adds a distribution: its median, its 99th percentile, its mean and its greatest.
    pub fn add_spread(&mut self, name: &str, spread: Spread, unit: &'static str) {
        self.add(format!("{name} p50"), spread.p50, unit);
        self.add(format!("{name} p99"), spread.p99, unit);
        self.add(format!("{name} mean"), spread.mean, unit);
        self.add(format!("{name} max"), spread.max, unit);
    }

    /// The figure with this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// For people: a title and aligned lines.
    pub fn table(&self) -> String {
        let width = self.figures.iter().map(|figure| figure.name.chars().count()).max();
        let width = width.unwrap_or(0);
        let mut out = format!("{}\n", self.title);
        for Figure { name, unit, value } in &self.figures {
            out.push_str(&format!("  {name:<width$}  {:>14}  {unit}\n", rounded(*value)));
        }
        out
    }

    /// For machines: an object of figures, each with its unit.
    pub fn json(&self) -> Value {
        let figure = |it: &Figure| (it.name.clone(), json!({"value": it.value, "unit": it.unit}));
        let figures: Map<String, Value> = self.figures.iter().map(figure).collect();
        json!({"title": self.title, "figures": figures})
    }
}

impl Spread {
    /// Of these samples, in any order.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        let Some(max) = samples.last().copied() else { return Self::default() };
        let rank = |percent: usize| samples[(samples.len() - 1) * percent / 100];
        let mean = samples.iter().sum::<f64>() / count_f64(samples.len());
        Self { count: samples.len(), mean, p50: rank(50), p99: rank(99), max }
    }

    /// Of durations, in milliseconds.
    pub fn of_millis(samples: impl IntoIterator<Item = Duration>) -> Self {
        Self::of(samples.into_iter().map(|sample| sample.as_secs_f64() * 1e3).collect())
    }
}

/// A count as a figure; counts beyond 2^32 are not made here.
pub fn count_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn rounded(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1000.0 => format!("{value:.0}"),
        small if small < 1.0 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_read_from_the_sorted_samples() {
        let spread = Spread::of((1..=101).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { count: 101, mean: 51.0, p50: 51.0, p99: 100.0, max: 101.0 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn a_report_has_the_same_figures_in_both_forms() {
        let mut report = Report::new("run");
        report.add("events", 12_345.6, "1/s");
        report.add_spread("latency", Spread::of(vec![0.25]), "ms");
        assert_eq!(report.json()["figures"]["events"], json!({"value": 12_345.6, "unit": "1/s"}));
        assert_eq!(report.get("latency p99"), Some(0.25));
        let table = report.table();
        assert!(table.contains("12346  1/s") && table.contains("0.2500  ms"), "{table}");
    }
}
