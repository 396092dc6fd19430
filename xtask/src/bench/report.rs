//! Samples to figures, figures to a table and JSON, and the aims beside them. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bulk::{CIPHERS, Way, cost, throughput};
use super::latency::{KEYSTROKE, SET_UP, SET_UP_CPU};
use super::memory;
use super::routes::Route;
use super::sample::{median, percentile};

/// Measures in the order they were first taken, each with its samples by route.
#[derive(Debug, Default)]
pub(super) struct Report {
    measures: Vec<(String, BTreeMap<Route, Samples>)>,
    /// Of the synthetic relay: MB/s and CPU s/GB.
    floor: Option<(f64, f64)>,
}

#[derive(Debug, Default)]
struct Samples {
    values: Vec<f64>,
    stalled: bool,
}

/// A bound on a figure.
struct Aim {
    measure: String,
    route: Route,
    text: &'static str,
    met: Option<bool>,
}

impl Report {
    /// Adds a sample.
    pub(super) fn sample(&mut self, measure: &str, route: Route, value: f64) {
        self.samples(measure, route).values.push(value);
    }

    /// Notes that a route did not get through.
    pub(super) fn stalled(&mut self, measure: &str, route: Route) {
        self.samples(measure, route).stalled = true;
    }

    /// Sets the floor.
    pub(super) fn floor(&mut self, mb_per_s: f64, cpu_s_per_gb: f64) {
        self.floor = Some((mb_per_s, cpu_s_per_gb));
    }

    fn samples(&mut self, measure: &str, route: Route) -> &mut Samples {
        let index = self.measures.iter().position(|(name, _)| name == measure).unwrap_or_else(|| {
            self.measures.push((measure.to_owned(), BTreeMap::new()));
            self.measures.len() - 1
        });
        self.measures[index].1.entry(route).or_default()
    }

    fn values(&self, measure: &str, route: Route) -> &[f64] {
        let found = self.measures.iter().find(|(name, _)| name == measure);
        found.and_then(|(_, routes)| routes.get(&route)).map_or(&[], |samples| &samples.values)
    }

    fn median(&self, measure: &str, route: Route) -> Option<f64> {
        median(self.values(measure, route))
    }

    fn p99(&self, measure: &str, route: Route) -> Option<f64> {
        percentile(self.values(measure, route), 99)
    }

    /// The aims of the relay, judged on what was measured.
    fn aims(&self) -> Vec<Aim> {
        let gcm = CIPHERS[0];
        let mut aims = Vec::new();
        let mut add = |measure: &str, route, text, met| {
            aims.push(Aim { measure: measure.to_owned(), route, text, met });
        };
        let both = |a: Option<f64>, b: Option<f64>, holds: fn(f64, f64) -> bool| Some(holds(a?, b?));
        for way in [Way::Up, Way::Down] {
            let (speed, price) = (throughput(gcm, way), cost(gcm, way));
            let own = self.median(&speed, Route::Gateway);
            let spent = self.median(&price, Route::Gateway);
            let recorded = self.median(&price, Route::GatewayRecording);
            let direct = self.median(&speed, Route::Direct);
            let jump = self.median(&speed, Route::Jump);
            let russh = self.median(&price, Route::RusshProxy);
            let floor = self.floor.map(|(_, cpu)| cpu);
            add(&speed, Route::Gateway, ">= 0.85 of direct", both(own, direct, |a, b| a >= 0.85 * b));
            add(&speed, Route::Gateway, ">= 1.8 x ssh -J", both(own, jump, |a, b| a >= 1.8 * b));
            add(&price, Route::Gateway, "<= 0.70 of russh", both(spent, russh, |a, b| a <= 0.70 * b));
            add(&price, Route::Gateway, "<= 1.25 of the floor", both(spent, floor, |a, b| a <= 1.25 * b));
            let recording = both(recorded, spent, |a, b| a <= 1.15 * b);
            add(&price, Route::GatewayRecording, "<= 1.15 of not recording", recording);
        }
        for route in [Route::Gateway, Route::GatewayRecording] {
            let slower =
                both(self.median(SET_UP, route), self.median(SET_UP, Route::Direct), |a, b| a <= b + 10.0);
            add(SET_UP, route, "<= direct + 10 ms", slower);
            add(SET_UP_CPU, route, "<= 2.0 ms", self.median(SET_UP_CPU, route).map(|cpu| cpu <= 2.0));
            let keys =
                both(self.p99(KEYSTROKE, route), self.p99(KEYSTROKE, Route::Direct), |a, b| a <= b + 0.3);
            add(KEYSTROKE, route, "p99 <= direct + 0.3 ms", keys);
            for sessions in [200, 2000] {
                let measure = memory::name(sessions);
                add(&measure, route, "<= 64 kB", self.median(&measure, route).map(|kb| kb <= 64.0));
            }
        }
        aims
    }

    fn verdicts(&self, measure: &str, route: Route) -> Vec<String> {
        let of_figure = |aim: &Aim| aim.measure == measure && aim.route == route;
        let verdict =
            |aim: Aim| aim.met.map(|met| format!("{}: {}", aim.text, if met { "ok" } else { "MISS" }));
        self.aims().into_iter().filter(of_figure).filter_map(verdict).collect()
    }

    /// The figures for people.
    pub(super) fn table(&self) -> String {
        let header = ["measure", "route", "median", "p99", "n", "aims"].map(str::to_owned);
        let mut rows = vec![header];
        for (measure, routes) in &self.measures {
            for (route, samples) in routes {
                let shown = |value: Option<f64>| {
                    let absent = if samples.stalled { "stalled" } else { "-" };
                    value.map_or_else(|| absent.to_owned(), figure)
                };
                rows.push([
                    measure.clone(),
                    route.name().to_owned(),
                    shown(median(&samples.values)),
                    shown(percentile(&samples.values, 99).filter(|_| samples.values.len() >= 20)),
                    samples.values.len().to_string(),
                    self.verdicts(measure, *route).join("; "),
                ]);
            }
        }
        if let Some((speed, cpu)) = self.floor {
            for (measure, value) in [("aes128-gcm floor, MB/s", speed), ("aes128-gcm floor, CPU s/GB", cpu)] {
                let (dash, one) = ("-".to_owned(), "1".to_owned());
                rows.push([
                    measure.to_owned(),
                    "packet relay".into(),
                    figure(value),
                    dash,
                    one,
                    String::new(),
                ]);
            }
        }
        align(&rows)
    }

    /// The figures for programs.
    pub(super) fn json(&self, machine: &Value) -> Value {
        let mut figures = Vec::new();
        for (measure, routes) in &self.measures {
            for (route, samples) in routes {
                figures.push(json!({
                    "measure": measure,
                    "route": route.name(),
                    "median": median(&samples.values),
                    "p99": percentile(&samples.values, 99),
                    "samples": samples.values.len(),
                    "stalled": samples.stalled,
                    "aims": self.verdicts(measure, *route),
                }));
            }
        }
        let floor = self.floor.map(|(speed, cpu)| json!({ "mb_per_s": speed, "cpu_s_per_gb": cpu }));
        json!({ "machine": machine, "floor": floor, "figures": figures })
    }
}

/// Three digits that matter, none after the point from a hundred on.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Columns of a table under each other.
pub(super) fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        let (speed, price) = (throughput(CIPHERS[0], Way::Up), cost(CIPHERS[0], Way::Up));
        for (route, mb, cpu) in [
            (Route::Direct, 400.0, None),
            (Route::Gateway, 350.0, Some(0.7)),
            (Route::RusshProxy, 200.0, Some(1.2)),
            (Route::Jump, 200.0, None),
        ] {
            report.sample(&speed, route, mb);
            if let Some(cpu) = cpu {
                report.sample(&price, route, cpu);
            }
        }
        report.floor(900.0, 0.6);
        report
    }

    #[test]
    fn aims_are_judged_by_the_routes_of_the_same_run() {
        let report = report();
        let speed = report.verdicts(&throughput(CIPHERS[0], Way::Up), Route::Gateway);
        assert_eq!(speed, [">= 0.85 of direct: ok", ">= 1.8 x ssh -J: MISS"]);
        let price = report.verdicts(&cost(CIPHERS[0], Way::Up), Route::Gateway);
        assert_eq!(price, ["<= 0.70 of russh: ok", "<= 1.25 of the floor: ok"]);
        assert!(report.verdicts(SET_UP, Route::Gateway).is_empty(), "nothing was measured");
    }

    #[test]
    fn the_table_has_a_line_for_each_figure_and_says_what_stalled() {
        let mut report = report();
        report.stalled(&throughput(CIPHERS[0], Way::Both), Route::RusshProxy);
        let table = report.table();
        let line = |start: &str, route: &str| {
            table.lines().find(|line| line.starts_with(start) && line.contains(route)).unwrap().to_owned()
        };
        assert!(line("aes128-gcm up, MB/s", "gateway").contains("  350 "), "{table}");
        assert!(line("aes128-gcm both ways, MB/s", "russh proxy").contains("stalled"), "{table}");
        assert_eq!(table.lines().count(), 1 + 4 + 2 + 1 + 2);
    }

    #[test]
    fn json_holds_every_figure() {
        let json = report().json(&json!({ "cores": 2 }));
        assert_eq!(json["figures"].as_array().map(Vec::len), Some(6));
        assert_eq!(json["floor"]["cpu_s_per_gb"], json!(0.6));
    }

    #[test]
    fn figures_keep_the_digits_that_matter() {
        assert_eq!([figure(1234.5), figure(56.78), figure(0.666)], ["1234", "56.8", "0.67"]);
    }
}
