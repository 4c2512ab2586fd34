//! What the passes make of small graphs.
