//! Tables as every rendering takes them.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Words,
    Number,
    /// How the trials of the row ended: words that must not stand far from the row's name.
    Status,
}

/// A column; a title may hold one line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub title: String,
    pub kind: ColumnKind,
    /// One text per row; an interval stands after a line break.
    pub cells: Vec<String>,
}

impl Column {
    pub(super) fn is_number(&self) -> bool {
        self.kind == ColumnKind::Number
    }
}

/// A text, or what stands in the place of one that is not there.
pub(super) fn or_dash(text: impl Into<Option<String>>) -> String {
    text.into().unwrap_or_else(|| "-".into())
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

    /// A column of words; a cell may have none.
    pub(crate) fn text<T>(&mut self, title: impl Into<String>, of: impl Fn(&R) -> T)
    where
        T: Into<Option<String>>,
    {
        self.add(title, ColumnKind::Words, of);
    }

    pub(crate) fn number<T>(&mut self, title: impl Into<String>, of: impl Fn(&R) -> T)
    where
        T: Into<Option<String>>,
    {
        self.add(title, ColumnKind::Number, of);
    }

    pub(crate) fn add<T: Into<Option<String>>>(
        &mut self,
        title: impl Into<String>,
        kind: ColumnKind,
        of: impl Fn(&R) -> T,
    ) {
        let cells = self.rows.iter().map(|row| or_dash(of(row))).collect();
        self.columns.push(Column { title: title.into(), kind, cells });
    }

    /// A column of numbers that is left out where no row has one.
    pub(crate) fn number_if_known(
        &mut self,
        title: impl Into<String>,
        of: impl Fn(&R) -> Option<String>,
    ) {
        if self.rows.iter().any(|row| of(row).is_some()) {
            self.number(title, of);
        }
    }

    pub(crate) fn all(self) -> Vec<Column> {
        self.columns
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
