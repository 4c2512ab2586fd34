"""Sets the Rust bench beside the other libraries, and says which targets are met: Markdown.

    cargo bench --bench kernels -- --json > kernels.jsonl
    env/bin/python benches/peers/kernels.py --json > peers.jsonl
    cargo bench --bench lazy_vs_eager
    python3 benches/peers/compare.py kernels.jsonl peers.jsonl [--mkl kernels_mkl.jsonl]
        [--criterion target/criterion]

Without files it reads standard input. Lines that are no JSON are skipped, and of what is there more
than once the median counts, so that runs can be appended. `--mkl` is the output of the Rust bench
built with `--features mkl`, whose eager rows are a peer more. Needs nothing but Python.
"""

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

OURS = {"eager", "candlewick", "limit"}
PYTORCH = ("pytorch", "pytorch_compiled")
MKL = ("mkl", "mkl_packed", "candle_mkl")


@dataclass(frozen=True)
class Peers:
    """How many times as fast as the best of some contenders; of none named, of all."""

    least: float
    label: str = "best"
    names: tuple = ()


@dataclass(frozen=True)
class Target:
    """`eager`: times as fast at least; `limit`: times the limit at most."""

    rows: tuple
    eager: float
    peers: tuple
    limit: float | None = None


TARGETS = [
    Target(("chain10_mix_large",), 20,
           (Peers(8, "PyTorch", ("pytorch",)), Peers(1, "compiled", ("pytorch_compiled",))), 2),
    Target(("add_large", "mul_large", "broadcast_add_large"), 2, (Peers(1),), 1.3),
    Target(("softmax_large", "layer_norm_large", "rms_norm_large"), 4, (Peers(2),), 1.5),
    Target(("softmax_medium", "layer_norm_medium", "rms_norm_medium"), 7, (Peers(1),)),
    Target(("gelu_medium", "gelu_erf_medium", "silu_medium", "tanh_medium", "exp_medium"), 8,
           (Peers(1),)),
    Target(("mlp_b1",), 2.5, (Peers(1, "PyTorch", PYTORCH),)),
    Target(("minilm_layer",), 3, (Peers(1, "PyTorch", PYTORCH),)),
]
# of all products: geometric means, and the worst of them
PRODUCTS_EAGER, PRODUCTS_MKL, PRODUCT_MKL = 2.5, 0.8, 0.5
# of eager's peak
PEAK = 0.4
# of eager's time, in the groups of `lazy_vs_eager`
GROUPS, GROUP = 0.6, 1.05


def read(files, rename=None):
    """Figures by row and contender, in the order of the rows."""
    rows = defaultdict(lambda: defaultdict(list))
    for file in files:
        for line in file:
            if not line.startswith("{"):
                continue
            record = json.loads(line)
            if "what" not in record:
                continue
            contender = record["contender"]
            if rename:
                contender = rename.get(contender)
            if contender:
                figure = record.get("us", record.get("bytes"))
                rows[record["what"]][contender].append(figure)
    return rows


def medians(*all_rows):
    merged = {}
    for rows in all_rows:
        for what, contenders in rows.items():
            for contender, figures in contenders.items():
                merged.setdefault(what, {})[contender] = statistics.median(figures)
    return merged


def criterion(folder):
    """Medians of `lazy_vs_eager`, by group: microseconds of eager and lazy."""
    groups = {}
    median = lambda path: json.loads(path.read_text())["median"]["point_estimate"] / 1000
    for lazy in Path(folder).glob("*/lazy_wait/new/estimates.json"):
        group = lazy.parents[2]
        eager = group / "eager/new/estimates.json"
        if eager.exists():
            groups[group.name] = (median(eager), median(lazy))
    return dict(sorted(groups.items(), key=lambda group: group[1]))


def geomean(figures):
    return math.exp(statistics.fmean(map(math.log, figures)))


def best(row, names=()):
    """The fastest of the peers, or of those named: figure and name."""
    there = [(us, name) for name, us in row.items()
             if name not in OURS and (not names or name in names)]
    return min(there, default=None)


def times(row, figure):
    """How many times as fast as that."""
    ours = row.get("candlewick")
    return figure / ours if ours and figure else None


def number(figure):
    if figure is None:
        return "–"
    return f"{figure:.{0 if figure >= 50 else 1 if figure >= 10 else 2}f}"


def ratio(figure):
    return "–" if figure is None else f"{figure:.2f}"


def line(*cells):
    print("| " + " | ".join(cells) + " |")


def header(*cells):
    line(*cells)
    print("|" + "---|" * len(cells))


def table(rows):
    header("what", "eager", "candlewick", "times eager", "best peer", "times best peer",
           "limit", "times limit")
    for what, row in rows.items():
        peer, limit = best(row), row.get("limit")
        ours = row.get("candlewick")
        line(
            f"`{what}`", number(row.get("eager")), number(ours),
            ratio(times(row, row.get("eager"))),
            f"{number(peer[0])} ({peer[1]})" if peer else "–",
            ratio(times(row, peer and peer[0])),
            number(limit), ratio(ours / limit if ours and limit else None),
        )


def groups_table(groups):
    header("group", "eager", "`lazy_wait`", "of eager's time")
    for name, (eager, lazy) in groups.items():
        line(f"`{name}`", number(eager), number(lazy), ratio(lazy / eager))


class Verdicts:
    """Lines of what is wanted and what was measured."""

    def __init__(self):
        header("what", "against", "wanted", "measured", "verdict")

    def least(self, what, against, wanted, measured, note=""):
        self.add(what, against, f"≥ {wanted}", measured, lambda: measured >= wanted, note)

    def most(self, what, against, wanted, measured, note=""):
        self.add(what, against, f"≤ {wanted}", measured, lambda: measured <= wanted, note)

    def add(self, what, against, wanted, measured, met, note):
        verdict = "no figure" if measured is None else "met" if met() else "missed"
        line(what, against, wanted, ratio(measured) + note, verdict)


def rows_verdict(verdicts, rows):
    for target in TARGETS:
        for what in target.rows:
            row = rows.get(what, {})
            verdicts.least(f"`{what}`", "eager", target.eager, times(row, row.get("eager")))
            for peers in target.peers:
                peer = best(row, peers.names)
                note = f" ({peer[1]})" if peer else ""
                measured = times(row, peer and peer[0])
                verdicts.least(f"`{what}`", peers.label, peers.least, measured, note)
            if target.limit:
                ours, limit = row.get("candlewick"), row.get("limit")
                measured = ours / limit if ours and limit else None
                verdicts.most(f"`{what}`", "limit", target.limit, measured)


def products_verdict(verdicts, rows):
    products = {what: row for what, row in rows.items()
                if what.startswith("matmul_") and "candlewick" in row}
    eager = [times(row, row["eager"]) for row in products.values() if "eager" in row]
    mkl = {what: times(row, best(row, MKL)[0]) for what, row in products.items() if best(row, MKL)}
    count = lambda figures: f" (of {len(figures)} rows)" if figures else ""
    mean = lambda figures: geomean(figures) if figures else None
    verdicts.least("`matmul_*`, mean", "eager", PRODUCTS_EAGER, mean(eager), count(eager))
    verdicts.least("`matmul_*`, mean", "MKL", PRODUCTS_MKL, mean(mkl.values()), count(mkl))
    worst = min(mkl, key=mkl.get, default=None)
    note = f" (`{worst}`)" if worst else ""
    verdicts.least("`matmul_*`, worst", "MKL", PRODUCT_MKL, mkl.get(worst), note)


def peak_verdict(verdicts, rows):
    row = rows.get("minilm_layer_peak", {})
    eager, ours = row.get("eager"), row.get("candlewick")
    measured = ours / eager if ours and eager else None
    verdicts.most("`minilm_layer_peak`", "eager", PEAK, measured)


def groups_verdict(verdicts, groups):
    ratios = {name: lazy / eager for name, (eager, lazy) in groups.items()}
    mean = geomean(ratios.values()) if ratios else None
    verdicts.most("`lazy_vs_eager`, mean", "eager", GROUPS, mean)
    worst = max(ratios, key=ratios.get, default=None)
    note = f" (`{worst}`)" if worst else ""
    verdicts.most("`lazy_vs_eager`, worst", "eager", GROUP, ratios.get(worst), note)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=argparse.FileType(), default=[sys.stdin])
    parser.add_argument("--mkl", type=argparse.FileType(), help="of the bench with that feature")
    parser.add_argument("--criterion", help="the folder of its output")
    options = parser.parse_args()

    with_mkl = read([options.mkl], {"eager": "candle_mkl"}) if options.mkl else {}
    rows = medians(read(options.files), with_mkl)
    # bytes are no times
    table({what: row for what, row in rows.items() if not what.endswith("_peak")})
    print()
    groups = criterion(options.criterion) if options.criterion else {}
    if groups:
        groups_table(groups)
        print()
    verdicts = Verdicts()
    rows_verdict(verdicts, rows)
    products_verdict(verdicts, rows)
    peak_verdict(verdicts, rows)
    groups_verdict(verdicts, groups)


if __name__ == "__main__":
    main()
