"""Stage `plot`: intervals, tables and PNGs, from predictions alone: no model and no pixel.

Reads   metrics/predictions.csv, metrics/evaluate.json
        metrics/{train_frozen,finetune}/plots/metrics  DVCLive's curves of the two phases
Writes  metrics/intervals.csv  every metric that has an interval, a row each
        plots/                 tables that DVC draws, and PNGs
Params  seed, evaluate.n_bootstrap
"""

import logging
from pathlib import Path

import pandas as pd

from pneumonia.errors import run_stage
from pneumonia.evaluation.calibration import reliability_table
from pneumonia.evaluation.decision import decision_table
from pneumonia.evaluation.interval_table import interval_table, measured
from pneumonia.evaluation.intervals import resampling_seed
from pneumonia.evaluation.metrics import EvaluateParams
from pneumonia.evaluation.predictions import TEXT_COLUMNS, as_printed, one_split
from pneumonia.plots import curves, probabilities, training_curves, verdicts
from pneumonia.store.files import read_json, read_table, write_bytes, write_table
from pneumonia.store.params import Seed, load_section

PREDICTIONS = Path("metrics/predictions.csv")
METRICS = Path("metrics/evaluate.json")
CURVES = (Path("metrics/train_frozen/plots/metrics"), Path("metrics/finetune/plots/metrics"))
INTERVALS = Path("metrics/intervals.csv")
PLOTS = Path("plots")

log = logging.getLogger("plot")


def main(root: Path = Path()) -> None:
    """Run the stage on the repository at `root`."""
    seed = load_section(root / "params.yaml", "seed", Seed)
    n_bootstrap = load_section(root / "params.yaml", "evaluate", EvaluateParams).n_bootstrap
    predictions = read_table(root / PREDICTIONS, TEXT_COLUMNS)
    evaluate = read_json(root / METRICS)
    threshold = evaluate["operating_threshold"]
    histories = {folder.parts[1]: _history(root / folder) for folder in CURVES}

    rows = interval_table(predictions, threshold, n_bootstrap, seed)
    intervals = measured(rows)
    resampling = one_split(predictions, "test"), n_bootstrap, resampling_seed(seed, "test")
    reliability, decision = reliability_table(*resampling), decision_table(*resampling)
    roc = curves.roc_table(predictions)
    precision_recall = curves.precision_recall_table(predictions)

    tables = {f"history_{phase}.csv": history for phase, history in histories.items()} | {
        "roc.csv": roc,
        "precision_recall.csv": precision_recall,
        "confusion.csv": verdicts.confusion_table(predictions, threshold),
        "reliability.csv": reliability,
        "decision.csv": probabilities.strategies_table(decision),
    }
    drawn = {
        "accuracy_loss.png": training_curves.accuracy_loss_png(histories, evaluate),
        "roc.png": curves.roc_png(roc, evaluate, intervals),
        "precision_recall.png": curves.precision_recall_png(precision_recall, evaluate, intervals),
        "confusion.png": verdicts.confusion_png(evaluate, intervals),
        "kinds.png": verdicts.kinds_png(predictions, evaluate, intervals),
        "reliability.png": probabilities.reliability_png(reliability, evaluate, intervals),
        "decision.png": probabilities.decision_png(decision, evaluate, intervals),
    }
    write_table(root / INTERVALS, as_printed(rows))
    for name, table in tables.items():
        write_table(root / PLOTS / name, table)
    for name, data in drawn.items():
        write_bytes(root / PLOTS / name, data)
    log.info("%d rows in %s, %d plots in %s", len(rows), INTERVALS, len(drawn), PLOTS)


def _history(folder: Path) -> pd.DataFrame:
    """The curves of one phase, a row an epoch."""
    files = sorted(folder.rglob("*.tsv"))
    tables = {file.relative_to(folder).as_posix(): read_table(file) for file in files}
    return training_curves.history_table(tables, str(folder))


if __name__ == "__main__":
    run_stage(main)
