//! What is printed: a table, JSON, a chart.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

/// One measured figure: outpost's, and those of the references where they have one.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub floor: Option<f64>,
    pub hop: Option<f64>,
    pub outpost: f64,
    /// Outpost's where `resume` is agreed on.
    pub resume: Option<f64>,
    /// Outpost's divided by the reference's. Of several rounds, the median of their ratios.
    pub to_floor: Option<f64>,
    pub to_hop: Option<f64>,
    /// That with `resume` divided by that without. Of several rounds, the median of their ratios.
    pub resume_to_outpost: Option<f64>,
}

impl Figure {
    pub fn new(name: &'static str, unit: &'static str, outpost: f64) -> Self {
        Self {
            name,
            unit,
            floor: None,
            hop: None,
            outpost,
            resume: None,
            to_floor: None,
            to_hop: None,
            resume_to_outpost: None,
        }
    }

    fn median(rounds: &[Self]) -> Self {
        // Nothing lost each way has no ratio.
        let finite = |value: &f64| value.is_finite();
        let of = |value: fn(&Self) -> Option<f64>| median(rounds.iter().filter_map(value).filter(finite).collect());
        Self {
            name: rounds[0].name,
            unit: rounds[0].unit,
            floor: of(|figure| figure.floor),
            hop: of(|figure| figure.hop),
            outpost: of(|figure| Some(figure.outpost)).unwrap_or(f64::NAN),
            resume: of(|figure| figure.resume),
            to_floor: of(|figure| figure.floor.map(|floor| figure.outpost / floor)),
            to_hop: of(|figure| figure.hop.map(|hop| figure.outpost / hop)),
            resume_to_outpost: of(|figure| figure.resume.map(|resume| resume / figure.outpost)),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The medians of a work.
#[derive(Debug, Serialize)]
pub struct Row {
    pub work: &'static str,
    pub figures: Vec<Figure>,
}

impl Row {
    pub fn median(work: &'static str, rounds: Vec<Vec<Figure>>) -> Self {
        let of_rounds = |index: usize| rounds.iter().map(|round| round[index].clone()).collect::<Vec<_>>();
        Self { work, figures: (0..rounds[0].len()).map(|index| Figure::median(&of_rounds(index))).collect() }
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
        let heads = ["floor", "hop", "outpost", "/floor", "/hop", "resume", "/outpost"];
        println!("{:<8} {:<28}{}", "work", "figure", heads.map(|head| format!("{head:>10}")).concat());
        for row in rows {
            for figure in &row.figures {
                let name = format!("{} {}", figure.name, figure.unit);
                let Figure { floor, hop, outpost, to_floor, to_hop, resume, resume_to_outpost, .. } = figure;
                let numbers =
                    [*floor, *hop, Some(*outpost), *to_floor, *to_hop, *resume, *resume_to_outpost].map(shown);
                println!("{:<8} {name:<28}{}", row.work, numbers.concat());
            }
        }
    }
    if let Some(path) = &style.svg {
        std::fs::write(path, chart(rows)).unwrap();
    }
}

fn shown(number: Option<f64>) -> String {
    match number {
        None => format!("{:>10}", "-"),
        Some(number) if number >= 1000.0 => format!("{number:>10.0}"),
        Some(number) => format!("{number:>10.2}"),
    }
}

/// Groups of bars: outpost, the hop and the floor, each group to its own scale.
fn chart(rows: &[Row]) -> String {
    let groups: Vec<_> = rows
        .iter()
        .flat_map(|row| row.figures.iter().map(move |figure| (row.work, figure)))
        .filter_map(|(work, figure)| Some((work, figure, figure.hop?, figure.floor?)))
        .collect();
    let height = 40 + groups.len() * 62;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"720\" height=\"{height}\" fill=\"white\"/>\n<text x=\"16\" y=\"22\">through outpost (blue), through a process that only copies (green), straight to the backend (grey)</text>\n"
    );
    for (index, (work, figure, hop, floor)) in groups.iter().enumerate() {
        let y = 40 + index * 62;
        let scale = 360.0 / figure.outpost.max(*hop).max(*floor);
        writeln!(svg, "<text x=\"16\" y=\"{}\">{work}: {}</text>", y + 18, figure.name).unwrap();
        for (offset, colour, value) in [(0, "#3465a4", figure.outpost), (18, "#73a946", *hop), (36, "#aaaaaa", *floor)]
        {
            let width = (value * scale).max(1.0);
            let label = format!("{value:.2} {}", figure.unit);
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
