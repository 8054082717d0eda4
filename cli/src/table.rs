//! Tables on standard output: left-aligned columns, two blanks between.

use std::io::Write;

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings. One that begins with `>` names a column of numbers, which is
    /// aligned to the right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            right: headings
                .iter()
                .map(|heading| heading.starts_with('>'))
                .collect(),
            rows: vec![
                headings
                    .iter()
                    .map(|heading| heading.trim_start_matches('>').to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row with as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // Names and commands come from images and Dockerfiles: none of them may steer a terminal
        // or break a row in two.
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| crate::progress::text::printable(&cell).into_owned())
                .collect(),
        );
    }

    /// Writes the table.
    pub(crate) fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| console::measure_text_width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                let padding = " ".repeat(widths[column] - console::measure_text_width(cell));
                if self.right[column] {
                    line.push_str(&padding);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&padding);
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let mut table = Table::new(&["NAME", ">SIZE", "TEXT"]);
        table.row(["a".into(), "1 B".into(), String::new()]);
        table.row(["long-name".into(), "12.0 kB".into(), "x\ny\u{1b}[2J".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "NAME          SIZE  TEXT\n\
             a              1 B\n\
             long-name  12.0 kB  x y\n"
        );
    }
}
