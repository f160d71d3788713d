"""Datasets, from an address to arrays: download, archive, names, splits, images, phantoms.

It imports `store`, and neither Keras nor any package that knows of models.
"""
