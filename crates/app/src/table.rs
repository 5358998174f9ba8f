//! Tables for people: columns side by side, numbers to the right.

/// Returns rows below their header, each column as wide as its widest cell.
pub fn render(header: &[String], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).chain(header.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let is_number = |cell: &String| cell.parse::<f64>().is_ok();
    let right: Vec<bool> = (0..header.len())
        .map(|at| !rows.is_empty() && rows.iter().all(|row| is_number(&row[at]) || row[at] == "-"))
        .collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).zip(&right).map(|((cell, width), right)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(header);
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_stand_to_the_right() {
        let own = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let rows = [own(&["a", "1"]), own(&["bcd", "10"])];
        let text = super::render(&own(&["key", "n"]), &rows);
        assert_eq!(text, "key   n\na     1\nbcd  10\n");
    }
}
