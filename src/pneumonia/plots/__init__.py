"""Every plot, and every table that DVC draws.

From numbers to tables and PNGs, so that a change of style measures nothing again. It imports
`evaluation` and what lies below; the gate and the serving side do not import it.

Everywhere `predictions` is the predictions table, `evaluate` the content of metrics/evaluate.json,
`intervals` what `interval_table.measured` gives, and `point` the content of
models/operating_point.json. A function named _png gives PNG bytes.
"""
