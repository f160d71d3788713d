"""Files, hashes, tables, arrays, parameters: how anything is read or written.

Owns no rule about radiographs or models. It imports nothing of the project but
`pneumonia.errors`; every other package may import it. Git is not read here.
"""
