//! Samples to figures, by measure and way. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::report::{align, figure};
use super::super::sample::median;
use super::machine::Way;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    RawSize,
    Qcow2Size,
    Boot,
    Memory,
    GatewayMemory,
    Forwarded,
    ForwardedBusy,
    Packets,
    PacketsBusy,
    PacketsInterrupts,
    SetUp,
    SetUpBusy,
    Bulk,
    BulkBusy,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Figures {
    samples: BTreeMap<Measure, BTreeMap<Way, Vec<f64>>>,
    notes: Vec<String>,
}

impl Measure {
    const fn name(self) -> &'static str {
        match self {
            Self::RawSize => "raw disk, MB on disk",
            Self::Qcow2Size => "qcow2, MB",
            Self::Boot => "power-on until it serves, s",
            Self::Memory => "memory in use, idle, MB",
            Self::GatewayMemory => "of that the gateway, MB",
            Self::Forwarded => "TCP forwarded, Mbit/s",
            Self::ForwardedBusy => "  machine busy, %",
            Self::Packets => "UDP of 64 bytes forwarded, 1000/s",
            Self::PacketsBusy => "  machine busy, %",
            Self::PacketsInterrupts => "  of that in interrupts, %",
            Self::SetUp => "ssh set-up, ms",
            Self::SetUpBusy => "  machine busy, %",
            Self::Bulk => "ssh download, MB/s",
            Self::BulkBusy => "  machine busy, %",
        }
    }
}

impl Figures {
    /// Adds a sample.
    pub(super) fn sample(&mut self, measure: Measure, way: Way, value: f64) {
        self.samples.entry(measure).or_default().entry(way).or_default().push(value);
    }

    /// Adds what is no number.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// A line for each measure with its medians, a column for each way.
    pub(super) fn table(&self) -> String {
        let head =
            ["measure", Way::Plain.name(), Way::Gateway.name(), Way::FastPath.name()].map(str::to_owned);
        let mut rows = vec![head];
        for (measure, ways) in &self.samples {
            let cell =
                |way: Way| ways.get(&way).and_then(|values| median(values)).map(figure).unwrap_or_default();
            rows.push([measure.name().to_owned(), cell(Way::Plain), cell(Way::Gateway), cell(Way::FastPath)]);
        }
        [align(&rows), self.notes.join("\n")].join("\n\n")
    }

    /// The figures for programs.
    pub(super) fn json(&self, machine: &Value) -> Value {
        let of_measure = |(measure, ways): (&Measure, &BTreeMap<Way, Vec<f64>>)| {
            let figures = ways.iter().map(|(way, samples)| {
                json!({
                    "measure": format!("{measure:?}"),
                    "way": way.name(),
                    "median": median(samples),
                    "samples": samples,
                })
            });
            figures.collect::<Vec<_>>()
        };
        let figures: Vec<_> = self.samples.iter().flat_map(of_measure).collect();
        json!({ "machine": machine, "figures": figures, "notes": self.notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians_by_way_and_what_was_not_measured_is_empty() {
        let mut figures = Figures::default();
        for value in [300.0, 100.0, 200.0] {
            figures.sample(Measure::Forwarded, Way::Gateway, value);
        }
        figures.sample(Measure::Boot, Way::FastPath, 20.5);
        figures.note("said".to_owned());
        let table = figures.table();
        let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines.first().unwrap().first(), Some(&"measure"));
        assert_eq!(lines.get(1).unwrap().last(), Some(&"20.5"));
        assert_eq!(lines.get(2).unwrap().as_slice(), ["TCP", "forwarded,", "Mbit/s", "200"]);
        assert!(table.ends_with("\n\nsaid"));
        assert_eq!(figures.json(&json!({}))["figures"][1]["samples"], json!([300.0, 100.0, 200.0]));
    }
}
