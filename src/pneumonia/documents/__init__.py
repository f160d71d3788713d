"""Report, model card, README block, pull-request comment: one reading of the run, Jinja2 templates.

It computes no metric. It may import every package below; only the command line imports it.
"""
