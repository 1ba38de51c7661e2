//! Tables with typed row ids, so that an id of one table can't be used with another.

use std::marker::PhantomData;

/// Id of a row, which is its index.
pub(crate) trait Id: Copy {
    fn from_index(index: usize) -> Self;
    fn index(self) -> usize;
}

/// Declares newtypes that implement [`Id`].
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(usize);

        impl Id for $name {
            fn from_index(index: usize) -> Self {
                Self(index)
            }

            fn index(self) -> usize {
                self.0
            }
        }
    )*};
}
pub(crate) use ids;

/// Rows of type `T`, indexed by ids of type `I`, in insertion order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arena<I, T> {
    rows: Vec<T>,
    id: PhantomData<I>,
}

impl<I, T> Default for Arena<I, T> {
    fn default() -> Self {
        Self { rows: Vec::new(), id: PhantomData }
    }
}

impl<I: Id, T> Arena<I, T> {
    /// Appends a row, and returns its id.
    pub(crate) fn push(&mut self, row: T) -> I {
        let id = self.next_id();
        self.rows.push(row);
        id
    }

    /// Id that the next row will get.
    pub(crate) fn next_id(&self) -> I {
        I::from_index(self.rows.len())
    }

    /// Returns a row, or `None` if the arena has no row with this id.
    pub(crate) fn get(&self, id: I) -> Option<&T> {
        self.rows.get(id.index())
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.rows.get_mut(id.index())
    }

    /// Ids of all rows.
    pub(crate) fn ids(&self) -> impl Iterator<Item = I> + use<I, T> {
        (0..self.rows.len()).map(I::from_index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.ids().zip(&self.rows)
    }

    /// Maps each row to a row of a new arena with the same ids.
    pub(crate) fn map<U>(&self, row: impl FnMut((I, &T)) -> U) -> Arena<I, U> {
        Arena { rows: self.iter().map(row).collect(), id: PhantomData }
    }
}
