"""Predictions, threshold, metrics and their intervals; robustness, activation maps, shortcuts.

From probabilities to numbers. It imports `training`, `data` and `store`; it draws nothing and
knows of no gate.
"""
