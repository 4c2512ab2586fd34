//! Finds the mutants in the syntax tree, and keeps them as ranges of bytes of the source.

use proc_macro2::{LineColumn, Span};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::{fmt, fs};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, Block, Expr, ExprPath, ImplItemFn, ItemFn, ItemMod, Local, Pat, Signature, Stmt,
};

/// The files of the core, below `src/core`: all but the primitives and their stand-ins.
pub const FILES: &[&str] = &[
    "store/slot.rs",
    "store/begun.rs",
    "store/task.rs",
    "store/node_store.rs",
    "store/waiters.rs",
    "store/tag.rs",
    "store/word.rs",
    "actor/turn.rs",
    "actor/admission.rs",
    "actor/admit.rs",
    "actor/gate.rs",
    "actor/launch.rs",
    "actor/line.rs",
    "actor/engine.rs",
    "actor/owner.rs",
    "actor/gather.rs",
    "actor/lender.rs",
    "actor/flight.rs",
    "actor/shared.rs",
    "actor/submission.rs",
    "actor/event.rs",
    "actor/park.rs",
    "actor/driving.rs",
    "actor/crew.rs",
    "origin.rs",
    "cut.rs",
    "panics.rs",
    "versions.rs",
];

/// The change that a mutant makes to the source.
#[derive(Clone, Debug)]
pub enum Edit {
    /// It leaves a statement out.
    Drop(Range<usize>),
    /// It puts two statements in the other order. The third range is that of the row of such statements
    /// in which they are.
    Swap(Range<usize>, Range<usize>, Range<usize>),
    /// It makes a memory ordering this one, which is weaker.
    Weaken(Range<usize>, &'static str),
}

/// A mutant: one change to one file.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The file that is changed, below `src/core`.
    pub file: &'static str,
    pub line: usize,
    pub edit: Edit,
    pub kind: String,
    /// The first line of the statement, with a number from the second one on that reads the same.
    pub text: String,
    /// Whether the control flow or what a variable holds is changed: the compiler then complains
    /// elsewhere, if it does.
    pub is_felt: bool,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            kind,
            text,
            ..
        } = self;
        write!(f, "{file}:{line}: {kind}: {text}")
    }
}

impl Mutant {
    /// The range of the source that is written anew. The ranges of two mutants enclose one another or do
    /// not touch.
    pub fn range(&self) -> Range<usize> {
        match &self.edit {
            Edit::Drop(range) | Edit::Weaken(range, _) | Edit::Swap(_, _, range) => range.clone(),
        }
    }

    /// The text that stands there instead.
    pub fn instead(&self, source: &str) -> String {
        match &self.edit {
            Edit::Drop(_) => String::new(),
            Edit::Weaken(_, to) => format!("crate::core::sync::Ordering::{to}"),
            Edit::Swap(a, b, row) => [
                row.start..a.start,
                b.clone(),
                a.end..b.start,
                a.clone(),
                b.end..row.end,
            ]
            .map(|part| &source[part])
            .concat(),
        }
    }
}

/// The mutants of all files, in the order of the source.
pub fn all(core: &Path) -> Vec<Mutant> {
    let of = |&file| of_file(file, &fs::read_to_string(core.join(file)).unwrap());
    FILES.iter().flat_map(of).collect()
}

fn of_file(file: &'static str, source: &str) -> Vec<Mutant> {
    let syntax = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut finder = Finder {
        file,
        source,
        found: Vec::new(),
        must_leave: None,
    };
    finder.visit_file(&syntax);
    let mut found = finder.found;
    found.sort_by_key(|m| (m.line, m.range().start)); // stable: what is equal stays in order
    let mut times = BTreeMap::new();
    for mutant in &mut found {
        let key = (mutant.kind.clone(), mutant.text.clone());
        let time: &mut usize = times.entry(key).or_default();
        *time += 1;
        if *time > 1 {
            mutant.text += &format!(" #{time}");
        }
    }
    found
}

struct Finder<'a> {
    file: &'static str,
    source: &'a str,
    found: Vec<Mutant>,
    /// The range of the last block of a `let`-`else`, which has to leave.
    must_leave: Option<Range<usize>>,
}

impl Finder<'_> {
    fn add(&mut self, at: LineColumn, kind: &str, edit: Edit) {
        let lines = self.source.lines();
        let line = lines.into_iter().nth(at.line - 1).unwrap_or_default();
        let text = match edit {
            Edit::Weaken(..) => line,
            _ => &line[line.char_indices().nth(at.column).map_or(0, |(i, _)| i)..],
        };
        self.found.push(Mutant {
            is_felt: false,
            file: self.file,
            line: at.line,
            edit,
            kind: kind.into(),
            text: text.trim().into(),
        });
    }
}

/// Whether other code runs where this is built.
fn is_elsewhere(attrs: &[Attribute]) -> bool {
    let conditional = attrs.iter().filter(|a| a.path().is_ident("cfg"));
    conditional.into_iter().any(|a| {
        let list = a.meta.require_list().map(|list| list.tokens.to_string());
        list.is_ok_and(|tokens| !tokens.starts_with("not"))
    })
}

/// Whether a function is of the protocol: not a constant, and not for debugging output.
fn runs(sig: &Signature) -> bool {
    sig.constness.is_none() && sig.ident != "fmt"
}

/// Whether a statement leaves the block, so that what is behind it does not run.
fn leaves(expr: &Expr) -> bool {
    matches!(expr, Expr::Return(_) | Expr::Break(_) | Expr::Continue(_))
}

/// Looks for calls, and for what leaves the block, below an expression or a statement.
#[derive(Default)]
struct Below {
    calls: bool,
    leaves: bool,
}

impl<'ast> Visit<'ast> for Below {
    fn visit_expr(&mut self, expr: &'ast Expr) {
        self.calls |= matches!(expr, Expr::Call(_) | Expr::MethodCall(_));
        self.leaves |= leaves(expr);
        visit::visit_expr(self, expr);
    }
}

fn calls(expr: &Expr) -> bool {
    let mut below = Below::default();
    below.visit_expr(expr);
    below.calls
}

fn is_felt(stmt: &Stmt) -> bool {
    let mut below = Below::default();
    below.visit_stmt(stmt);
    below.leaves || matches!(stmt, Stmt::Expr(Expr::Assign(_), _))
}

/// Whether a statement has an effect and binds nothing, and whether it may change its place.
fn effect(stmt: &Stmt) -> Option<bool> {
    match stmt {
        Stmt::Local(local) => matches!(local.pat, Pat::Wild(_)).then_some(true),
        Stmt::Expr(Expr::If(branch), _) => {
            // dropping the one statement inside is the same, if the condition does nothing
            let same = branch.then_branch.stmts.len() < 2 && !calls(&branch.cond);
            (branch.else_branch.is_none() && !same).then_some(true)
        }
        Stmt::Expr(Expr::ForLoop(_) | Expr::While(_), _) => Some(true),
        Stmt::Expr(Expr::Macro(_) | Expr::Match(_) | Expr::Loop(_), _) => None,
        Stmt::Expr(expr, Some(_)) => Some(!leaves(expr)),
        _ => None,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_elsewhere(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if runs(&item.sig) && !is_elsewhere(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }
    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if runs(&item.sig) && !is_elsewhere(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let mut row: Vec<Span> = Vec::new();
        for stmt in &block.stmts {
            let effect = effect(stmt);
            let at = stmt.span();
            let last = std::ptr::eq(stmt, &block.stmts[block.stmts.len() - 1]);
            let has_to_leave = last && self.must_leave == Some(block.span().byte_range());
            if effect.is_some() && !has_to_leave {
                self.add(at.start(), "drop", Edit::Drop(at.byte_range()));
                self.found.last_mut().expect("added").is_felt = is_felt(stmt);
            }
            if effect == Some(true) {
                row.push(at);
            } else {
                self.swaps(&std::mem::take(&mut row));
            }
            if let Stmt::Expr(Expr::Match(choice), _) = stmt {
                choice.arms.iter().for_each(|arm| self.effect_of(arm));
            }
        }
        self.swaps(&row);
        visit::visit_block(self, block);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if let Some((_, otherwise)) = local.init.as_ref().and_then(|i| i.diverge.as_ref()) {
            self.must_leave = Some(otherwise.span().byte_range());
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_path(&mut self, path: &'ast ExprPath) {
        let Some(last) = path.path.segments.last() else {
            return;
        };
        let weaker: &[&str] = match last.ident.to_string().as_str() {
            "SeqCst" => &["AcqRel"],
            "AcqRel" => &["Acquire", "Release"],
            "Acquire" | "Release" => &["Relaxed"],
            _ => &[],
        };
        for &to in weaker {
            let kind = format!("{} -> {to}", last.ident);
            let span = path.span();
            self.add(span.start(), &kind, Edit::Weaken(span.byte_range(), to));
        }
    }
}

impl Finder<'_> {
    /// Adds the swaps of a row of statements.
    fn swaps(&mut self, row: &[Span]) {
        let (Some(first), Some(last)) = (row.first(), row.last()) else {
            return;
        };
        let whole = first.byte_range().start..last.byte_range().end;
        for pair in row.windows(2) {
            let (a, b) = (pair[0].byte_range(), pair[1].byte_range());
            if self.source[a.clone()] != self.source[b.clone()] {
                let edit = Edit::Swap(a, b, whole.clone());
                self.add(pair[0].start(), "swap", edit);
            }
        }
    }

    /// Adds the effect of a match arm that is not a block, to be left out.
    fn effect_of(&mut self, arm: &Arm) {
        if matches!(
            &*arm.body,
            Expr::Call(_) | Expr::MethodCall(_) | Expr::Assign(_)
        ) {
            let span = arm.body.span();
            self.add(span.start(), "drop", Edit::Drop(span.byte_range()));
        }
    }
}
