//! Tables as every rendering takes them.

/// A column; a title may hold one line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub title: String,
    pub number: bool,
    /// One text a row; an interval stands after a line break.
    pub cells: Vec<String>,
}

/// The columns of a table under way: a text of each row.
pub(crate) struct Columns<'r, R> {
    rows: &'r [R],
    columns: Vec<Column>,
}

impl<'r, R> Columns<'r, R> {
    pub(crate) fn of(rows: &'r [R]) -> Self {
        Columns { rows, columns: vec![] }
    }

    /// The same of rows of which there is one at least.
    pub(crate) fn some(rows: &'r [R]) -> Option<Self> {
        (!rows.is_empty()).then(|| Columns::of(rows))
    }

    pub(crate) fn text(&mut self, title: impl Into<String>, of: impl Fn(&R) -> String) {
        let cells = self.rows.iter().map(of).collect();
        self.columns.push(Column { title: title.into(), number: false, cells });
    }

    pub(crate) fn number(&mut self, title: impl Into<String>, of: impl Fn(&R) -> String) {
        self.text(title, of);
        self.columns.last_mut().expect("the one above").number = true;
    }

    /// A column of numbers with a dash where a row has none; left out where no row has one.
    pub(crate) fn number_if_known(
        &mut self,
        title: impl Into<String>,
        of: impl Fn(&R) -> Option<String>,
    ) {
        if self.rows.iter().any(|row| of(row).is_some()) {
            self.number(title, |row| of(row).unwrap_or("-".into()));
        }
    }

    pub(crate) fn section(self, heading: impl Into<String>, notes: Vec<String>) -> Section {
        Section { heading: heading.into(), columns: self.columns, notes }
    }
}

#[derive(Debug, Clone)]
pub struct Section {
    pub heading: String,
    /// One of names, then one for each cell or ladder.
    pub columns: Vec<Column>,
    pub notes: Vec<String>,
}
