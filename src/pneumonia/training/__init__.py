"""The network, its weights, augmentation, batches, one phase and its resumable state.

From arrays to a `.keras` file. It imports `data` and `store`, never what measures a model.
"""
