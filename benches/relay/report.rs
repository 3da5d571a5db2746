//! What is printed: a table, JSON, a chart.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub value: f64,
}

impl Figure {
    pub fn new(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self { name, unit, value }
    }
}

/// The medians of a work.
#[derive(Debug, Serialize)]
pub struct Row {
    pub work: &'static str,
    pub figures: Vec<Figure>,
}

impl Row {
    pub fn median(work: &'static str, rounds: Vec<Vec<Figure>>) -> Self {
        let figures = (0..rounds[0].len()).map(|index| {
            let mut values: Vec<f64> = rounds.iter().map(|round| round[index].value).collect();
            values.sort_by(f64::total_cmp);
            Figure { value: values[values.len() / 2], ..rounds[0][index].clone() }
        });
        Self { work, figures: figures.collect() }
    }
}

#[derive(Default)]
pub struct Style {
    pub json: bool,
    pub svg: Option<PathBuf>,
}

pub fn print(rows: &[Row], style: &Style) {
    if style.json {
        println!("{}", serde_json::to_string_pretty(rows).unwrap());
    } else {
        for row in rows {
            let figures: Vec<String> = row.figures.iter().map(shown).collect();
            println!("{:<8} {}", row.work, figures.join("  ·  "));
        }
    }
    if let Some(path) = &style.svg {
        std::fs::write(path, chart(rows)).unwrap();
    }
}

fn shown(figure: &Figure) -> String {
    let Figure { name, unit, value } = figure;
    let number = if *value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    format!("{name} {number} {unit}").trim_end().to_owned()
}

/// Pairs of bars: the agent and the floor, each pair to its own scale.
fn chart(rows: &[Row]) -> String {
    let mut pairs = Vec::new();
    for row in rows {
        for figure in &row.figures {
            let floor = row.figures.iter().find(|other| other.name.strip_prefix("floor ") == Some(figure.name));
            if let Some(floor) = floor {
                pairs.push((row.work, figure, floor));
            }
        }
    }
    let height = 40 + pairs.len() * 44;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"720\" height=\"{height}\" fill=\"white\"/>\n<text x=\"16\" y=\"22\">through outpost (blue) and straight to the backend (grey)</text>\n"
    );
    for (index, (work, figure, floor)) in pairs.iter().enumerate() {
        let y = 40 + index * 44;
        let scale = 360.0 / figure.value.max(floor.value);
        writeln!(svg, "<text x=\"16\" y=\"{}\">{work}: {}</text>", y + 18, figure.name).unwrap();
        for (offset, colour, bar) in [(0, "#3465a4", figure), (18, "#aaaaaa", floor)] {
            let width = (bar.value * scale).max(1.0);
            let label = format!("{:.2} {}", bar.value, bar.unit);
            writeln!(
                svg,
                "<rect x=\"200\" y=\"{}\" width=\"{width:.1}\" height=\"15\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\">{label}</text>",
                y + offset,
                206.0 + width,
                y + offset + 12
            )
            .unwrap();
        }
    }
    svg.push_str("</svg>\n");
    svg
}
