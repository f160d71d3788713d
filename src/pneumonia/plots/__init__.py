"""Every plot, and every table that DVC draws.

From numbers to tables and PNGs, so that a change of style measures nothing again. It imports
`evaluation` and what lies below; the gate and the serving side do not import it.
"""
