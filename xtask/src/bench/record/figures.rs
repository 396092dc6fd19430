//! Samples to figures, and the aims beside them. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::report::{align, figure};
use super::super::sample::median;
use super::scene::Way;

/// The share of the throughput without recording that recording must leave.
const LEFT: f64 = 0.85;

/// What is counted of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Speed,
    SessionsPerSecond,
    FilesPerSecond,
    CpuPerGigabyte,
    CpuPerSession,
    CpuPerFile,
    Slowest,
    Peak,
}

/// Everything that was measured, in the order in which it was first taken.
#[derive(Debug, Default)]
pub(super) struct Figures {
    rows: Vec<Row>,
    parts: Vec<(String, Vec<f64>)>,
    singles: Vec<Single>,
    compared: usize,
    lost: usize,
}

#[derive(Debug)]
struct Row {
    measure: &'static str,
    unit: Unit,
    samples: BTreeMap<Way, Vec<f64>>,
}

#[derive(Debug)]
struct Single {
    what: String,
    unit: &'static str,
    value: f64,
    /// The bound, and whether it is the least.
    aim: Option<(f64, bool)>,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Speed => "MB/s",
            Self::SessionsPerSecond => "sessions/s",
            Self::FilesPerSecond => "files/s",
            Self::CpuPerGigabyte => "gateway, CPU s/GB",
            Self::CpuPerSession => "gateway, CPU ms each",
            Self::CpuPerFile => "gateway, CPU us each",
            Self::Slowest => "the slowest, s",
            Self::Peak => "gateway, peak MB",
        }
    }

    /// Whether recording must not take much of it.
    const fn is_throughput(self) -> bool {
        match self {
            Self::Speed | Self::SessionsPerSecond | Self::FilesPerSecond => true,
            Self::CpuPerGigabyte | Self::CpuPerSession | Self::CpuPerFile | Self::Slowest | Self::Peak => {
                false
            }
        }
    }
}

impl Row {
    fn of(&self, way: Way) -> &[f64] {
        self.samples.get(&way).map_or(&[], Vec::as_slice)
    }

    /// What is recorded, of what is not, by rounds.
    fn ratio(&self) -> Option<f64> {
        let rounds = self.of(Way::Recorded).iter().zip(self.of(Way::Unrecorded));
        median(&rounds.map(|(recorded, unrecorded)| recorded / unrecorded).collect::<Vec<_>>())
    }

    fn verdict(&self) -> Option<&'static str> {
        let ratio = self.ratio().filter(|_| self.unit.is_throughput())?;
        Some(if ratio >= LEFT { ">= 0.85: ok" } else { ">= 0.85: MISS" })
    }
}

impl Single {
    fn verdict(&self) -> String {
        self.aim.map_or_else(String::new, |(bound, least)| {
            let (sign, met) = if least { (">=", self.value >= bound) } else { ("<=", self.value <= bound) };
            format!("{sign} {bound}: {}", if met { "ok" } else { "MISS" })
        })
    }
}

impl Figures {
    /// Adds a sample of a way.
    pub(super) fn sample(&mut self, measure: &'static str, unit: Unit, way: Way, value: f64) {
        let known = self.rows.iter().position(|row| row.measure == measure && row.unit == unit);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { measure, unit, samples: BTreeMap::new() });
            self.rows.len() - 1
        });
        self.rows[index].samples.entry(way).or_default().push(value);
    }

    /// Adds the samples of a part of recording, nanoseconds for a byte.
    pub(super) fn part(&mut self, what: &str, samples: Vec<f64>) {
        self.parts.push((what.to_owned(), samples));
    }

    /// Adds a figure of its own, with a bound and whether that is the least.
    pub(super) fn single(&mut self, what: &str, unit: &'static str, value: f64, aim: Option<(f64, bool)>) {
        self.singles.push(Single { what: what.to_owned(), unit, value, aim });
    }

    /// Of so many bytes or files that were sent, so many are not recorded.
    pub(super) fn compared(&mut self, sent: usize, lost: usize) {
        self.compared += sent;
        self.lost += lost;
    }

    /// Bytes and files that were not recorded.
    pub(super) const fn lost(&self) -> usize {
        self.lost
    }

    /// The figures for people.
    pub(super) fn tables(&self) -> String {
        let mut tables = Vec::new();
        if !self.rows.is_empty() {
            tables.push(self.ways());
            tables.push(format!("compared: {} bytes and files; lost: {}", self.compared, self.lost));
        }
        if !self.parts.is_empty() {
            tables.push(self.costs());
        }
        if !self.singles.is_empty() {
            let rows = self.singles.iter().map(|single| {
                [single.what.clone(), format!("{} {}", figure(single.value), single.unit), single.verdict()]
            });
            tables.push(align(&rows.collect::<Vec<_>>()));
        }
        tables.join("\n\n")
    }

    fn ways(&self) -> String {
        let mut rows = vec![["measure", "", "", "", "", "", "recorded / not", "aim"].map(str::to_owned)];
        for (cell, way) in rows[0].iter_mut().skip(1).zip(Way::ALL) {
            way.name().clone_into(cell);
        }
        for row in &self.rows {
            let mut cells = [const { String::new() }; 8];
            cells[0] = format!("{}, {}", row.measure, row.unit.name());
            for (cell, way) in cells.iter_mut().skip(1).zip(Way::ALL) {
                *cell = spread(row.of(way));
            }
            cells[6] = row.ratio().map_or_else(String::new, figure);
            row.verdict().unwrap_or_default().clone_into(&mut cells[7]);
            rows.push(cells);
        }
        align(&rows)
    }

    fn costs(&self) -> String {
        let mut rows = vec![["part", "ns/byte", "GB/s of a core"].map(str::to_owned)];
        for (what, samples) in &self.parts {
            let speed = median(samples).map_or_else(String::new, |nanoseconds| figure(1.0 / nanoseconds));
            rows.push([what.clone(), spread(samples), speed]);
        }
        align(&rows)
    }

    /// The figures for programs.
    pub(super) fn json(&self, machine: &Value) -> Value {
        let row = |row: &Row| {
            let samples: BTreeMap<_, _> =
                row.samples.iter().map(|(way, values)| (way.name(), values)).collect();
            json!({
                "measure": row.measure,
                "unit": row.unit.name(),
                "samples": samples,
                "recorded_of_not_recorded": row.ratio(),
                "aim": row.verdict(),
            })
        };
        let single = |single: &Single| json!({ "what": single.what, "value": single.value, "unit": single.unit, "aim": single.verdict() });
        json!({
            "machine": machine,
            "ways": self.rows.iter().map(row).collect::<Vec<_>>(),
            "parts_ns_per_byte": self.parts.iter().cloned().collect::<BTreeMap<_, _>>(),
            "figures": self.singles.iter().map(single).collect::<Vec<_>>(),
            "compared": self.compared,
            "lost": self.lost,
        })
    }
}

/// The median, with the least and the most where there are several.
fn spread(samples: &[f64]) -> String {
    let Some(middle) = median(samples) else { return "-".to_owned() };
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    match samples.len() {
        1 => figure(middle),
        _ => format!("{} ({}-{})", figure(middle), figure(least), figure(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_is_judged_by_the_rounds_that_were_taken_together() {
        let mut figures = Figures::default();
        for (unrecorded, recorded) in [(100.0, 90.0), (50.0, 40.0), (200.0, 180.0)] {
            figures.sample("download", Unit::Speed, Way::Unrecorded, unrecorded);
            figures.sample("download", Unit::Speed, Way::Recorded, recorded);
            figures.sample("download", Unit::CpuPerGigabyte, Way::Recorded, 2.0);
        }
        assert_eq!(figures.rows[0].ratio(), Some(0.9));
        assert_eq!(figures.rows[0].verdict(), Some(">= 0.85: ok"));
        assert_eq!(figures.rows[1].ratio(), None);
        figures.compared(1000, 3);
        let table = figures.tables();
        assert!(table.contains("100 (50.0-200)") && table.contains("90.0 (40.0-180)"), "{table}");
        assert!(table.contains("compared: 1000 bytes and files; lost: 3"), "{table}");
        assert_eq!(figures.json(&json!({}))["lost"], json!(3));
    }

    #[test]
    fn bounds_are_least_or_most() {
        let mut figures = Figures::default();
        figures.single("recall", "", 0.97, Some((0.98, true)));
        figures.single("opening", "s", 9.0, Some((10.0, false)));
        figures.part("sealing", vec![0.5]);
        let table = figures.tables();
        assert!(table.contains(">= 0.98: MISS") && table.contains("<= 10: ok"), "{table}");
        assert!(table.lines().any(|line| line.starts_with("sealing") && line.ends_with("2.00")), "{table}");
    }
}
