"""The trained model in use: answers on radiographs (predict), files for other runtimes (export).

It imports `evaluation` and the packages below it; it imports neither `plots`, `gate` nor
`documents`.
"""
