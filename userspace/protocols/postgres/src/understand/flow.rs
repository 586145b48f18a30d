//! Which base columns flow into a value, and whether unchanged.

use std::sync::Arc;

/// A column of a relation of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ColumnId {
    pub(crate) relation: u32,
    pub(crate) attnum: i16,
}

/// Sorted set of columns; the flag says that the column arrives only unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow(Vec<(ColumnId, bool)>);

impl Flow {
    pub(crate) fn one(id: ColumnId) -> Self {
        Self(vec![(id, true)])
    }

    /// Adds `other`; a column that is derived in either stays derived.
    pub(crate) fn join(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (id, exact) in &other.0 {
            match self.0.binary_search_by_key(id, |entry| entry.0) {
                Ok(at) => {
                    if let Some(entry) = self.0.get_mut(at) {
                        entry.1 &= exact;
                    }
                }
                Err(at) => self.0.insert(at, (*id, *exact)),
            }
        }
    }

    /// The same columns, none of them unchanged.
    pub(crate) fn derived(mut self) -> Self {
        for entry in &mut self.0 {
            entry.1 = false;
        }
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ColumnId, bool)> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What is known of one column of a result or of something in FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) name: Arc<str>,
    pub(crate) flow: Flow,
    /// The base column it is equal to.
    pub(crate) plain: Option<ColumnId>,
    /// What `RowDescription` will say; `None` when not predicted.
    pub(crate) described: Option<ColumnId>,
}

/// `described` of an expression.
pub(crate) const NO_COLUMN: ColumnId = ColumnId {
    relation: 0,
    attnum: 0,
};

impl Output {
    /// An expression over `flow`.
    pub(crate) fn expression(name: Arc<str>, flow: Flow) -> Self {
        Self {
            name,
            flow: flow.derived(),
            plain: None,
            described: Some(NO_COLUMN),
        }
    }

    /// A whole row, a system column, or one of what is not known: what the server says of it is not
    /// predicted.
    pub(crate) fn row(name: Arc<str>, flow: Flow) -> Self {
        Self {
            described: None,
            ..Self::expression(name, flow)
        }
    }

    pub(crate) fn renamed(&self, name: Arc<str>) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }
}

/// Columns of a query; `open` when there may be more that are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<Arc<Output>>,
    pub(crate) open: bool,
    /// Flow of the columns that are not known.
    pub(crate) rest: Flow,
}

impl Rows {
    /// Everything in them.
    pub(crate) fn whole(&self) -> Flow {
        let mut all = self.rest.clone();
        for column in &self.columns {
            all.join(&column.flow);
        }
        all.derived()
    }

    /// For use by position: where columns are not known, those behind them stand elsewhere, so that each
    /// may be any.
    pub(crate) fn by_position(mut self) -> Self {
        if self.open {
            let all = self.whole();
            let any =
                |column: &Arc<Output>| Arc::new(Output::row(Arc::clone(&column.name), all.clone()));
            self.columns = self.columns.iter().map(any).collect();
            self.rest = all;
        }
        self
    }
}
