"""How well each method recovers a dictionary that is known: `jaxsae benchmark --what=known_dictionary`.

`features.py` makes the true features and their rows, `rows.py` the store that `jaxsae.train` reads; `ours.py`, `peers.py` and
`baselines.py` give dictionaries, `judge.py` compares each with the truth, `run.py` goes over methods and seeds.
"""
