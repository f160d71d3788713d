"""May a change be merged? Policy, evidence, rules, verdict, simulation, confirmation, ledger.

Reads Git, and judges. It imports `evaluation` and what lies below, and to confirm a model
`training`; it imports neither `plots` nor `serving`.
"""
