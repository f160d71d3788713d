"""The model at work: radiographs to answers (predict), and the model for other runtimes (export).

It imports `evaluation` and what lies below; it imports neither `plots` nor `gate`.
"""
