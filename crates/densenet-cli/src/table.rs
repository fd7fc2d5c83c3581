//! Tables that fit the terminal.

/// A table: a heading row and the rows below it. The first column is aligned left, the others right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

/// Blank columns between two columns.
const GAP: usize = 2;

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Table {
            rows: vec![headings.iter().map(|h| h.to_string()).collect()],
        }
    }

    /// Adds a row with one cell for each heading.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    /// Columns the table takes.
    pub fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    /// The table in at most `width` columns, as far as that goes: long names in the first column lose their middle.
    pub fn render(&self, width: usize) -> String {
        let mut widths = self.widths();
        let others = self.width() - widths.first().copied().unwrap_or(0);
        if let Some(first) = widths.first_mut() {
            *first = (*first).min(width.saturating_sub(others).max(SHORTEST_NAME));
        }
        let mut text = String::new();
        for (r, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (c, (cell, &wide)) in row.iter().zip(&widths).enumerate() {
                if c > 0 {
                    line.push_str(&" ".repeat(GAP));
                }
                let cell = shortened(cell, wide);
                let pad = " ".repeat(wide - cell.chars().count());
                line.push_str(&if c == 0 { cell + &pad } else { pad + &cell });
            }
            text.push_str(line.trim_end());
            text.push('\n');
            if r == 0 {
                let rule = widths.iter().sum::<usize>() + GAP * (widths.len() - 1);
                text.push_str(&"─".repeat(rule));
                text.push('\n');
            }
        }
        text
    }

    /// The same table with cells that fit `width` columns: those of the widest columns but the first lose their middle.
    pub fn fitted(mut self, width: usize) -> Self {
        let widths = self.widths();
        let first = widths.first().copied().unwrap_or(0);
        let mut room = width.saturating_sub(first);
        let mut order: Vec<usize> = (1..widths.len()).collect();
        order.sort_by_key(|&c| widths[c]);
        // Narrow columns keep what they need and leave the rest to the wide ones.
        for (done, &column) in order.iter().enumerate() {
            let share = room / (order.len() - done);
            let most = widths[column].min(share.saturating_sub(GAP).max(SHORTEST_NAME));
            room = room.saturating_sub(most + GAP);
            for row in &mut self.rows {
                row[column] = shortened(&row[column], most);
            }
        }
        self
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.rows[0].len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

/// The first column is never cut below this.
const SHORTEST_NAME: usize = 8;

/// `text` in at most `width` characters; what is cut out of the middle is marked by `…`.
fn shortened(text: &str, width: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width {
        return text.to_string();
    }
    let tail = width * 2 / 3;
    let head = width - tail - 1;
    letters[..head]
        .iter()
        .chain(&['…'])
        .chain(&letters[letters.len() - tail..])
        .collect()
}

/// Words in lines of at most `width` columns, the second and later ones indented by `indent`.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split(' ') {
        if line.trim().is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push_str(&line);
            lines.push('\n');
            line = " ".repeat(indent) + word;
        }
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_table_cuts_names_in_the_middle() {
        let mut table = Table::new(&["Layer", "MACs"]);
        table.row(vec!["denseblock1.denselayer1.conv1".into(), "1".into()]);
        assert!(
            table
                .render(80)
                .contains("denseblock1.denselayer1.conv1     1")
        );
        let narrow = table.render(24);
        assert!(narrow.lines().all(|l| l.chars().count() <= 24), "{narrow}");
        assert!(narrow.contains("…"), "{narrow}");
    }

    #[test]
    fn long_cells_leave_room_for_names() {
        let mut table = Table::new(&["Option", "a", "b"]);
        let long = "x".repeat(200);
        table.row(vec!["preprocessing".into(), long.clone(), "1".into()]);
        table.row(vec!["epochs".into(), "3".into(), long]);
        let text = table.fitted(80).render(80);
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert!(
            text.contains("preprocessing") && text.contains("x…x"),
            "{text}"
        );
        let mut table = Table::new(&["Option", "a", "b"]);
        table.row(vec!["seed".into(), "1".into(), "y".repeat(50)]);
        assert!(table.fitted(80).render(80).contains(&"y".repeat(50)));
    }

    #[test]
    fn words_wrap() {
        assert_eq!(wrap("a bb ccc", 4, 1), "a bb\n ccc\n");
        assert_eq!(wrap("", 4, 1), "\n");
    }
}
