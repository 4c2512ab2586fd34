//! Tiles: pieces of what a program works on, short enough for the nearest cache.

use super::kernel::Target;
use super::number::Element;
use super::place::places_of;
use std::ops::Range;

/// Bytes of registers that fit into the nearest cache, with what is read beside them.
const TILES: usize = 1 << 14;
/// Elements of a tile, a multiple of a cache line's. A longer one gains nothing more.
const TILE: usize = 2048;
const SHORTEST: usize = 512;

/// The most elements of a tile of a program that uses `registers` registers.
pub(super) fn longest<T: Element>(registers: usize) -> usize {
    let room = TILES / size_of::<T>() / registers.max(1);
    room.clamp(SHORTEST, TILE) / Register::<T>::LINE * Register::<T>::LINE
}

/// Memory for one tile, beginning with a cache line: a vector that crosses lines costs twice.
#[derive(Default)]
pub(super) struct Register<T> {
    memory: Vec<T>,
    start: usize,
}

impl<T: Element> Register<T> {
    /// Elements of a cache line.
    pub(super) const LINE: usize = 64 / size_of::<T>();

    /// Makes room for a tile. Registers begin in different lines of their pages: a load waits
    /// for an earlier store to the same place of another page.
    pub(super) fn reserve(&mut self, number: usize, len: usize) {
        let stagger = number % 8 * Self::LINE;
        if self.memory.len() < len + 9 * Self::LINE {
            self.memory.resize(len + 9 * Self::LINE, T::default());
            let align = self.memory.as_ptr().align_offset(64);
            self.start = align.min(Self::LINE) + stagger;
        }
    }

    #[inline(always)]
    pub(super) fn tile(&self, part: Range<usize>) -> &[T] {
        &self.memory[self.start + part.start..self.start + part.end]
    }

    /// The same as something to write to.
    #[inline(always)]
    pub(super) fn target(&mut self, len: usize) -> Target<'_, T> {
        let tile = &mut self.memory[self.start..self.start + len];
        // SAFETY: instructions only ever write to a target.
        unsafe { places_of(tile) }
    }
}

/// One tile of a part.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// In elements of the whole.
    pub(super) start: usize,
    pub(super) len: usize,
    /// The rows that it has, where instructions look at rows.
    pub(super) first_row: usize,
    pub(super) rows: usize,
    /// How many elements of the registers come before it.
    pub(super) skip: usize,
}

impl Tile {
    /// The elements before that place, if there are any, and those from there on.
    pub(super) fn cut(self, at: usize) -> [Tile; 2] {
        let rest = Tile {
            start: self.start + at,
            len: self.len - at,
            skip: at,
            ..self
        };
        [Tile { len: at, ..self }, rest]
    }
}
