"""Datasets and what becomes of them: download, archive, names, splits, pixels, phantoms.

From an address to arrays. It imports `store`, and neither Keras nor anything that knows of
models.
"""
