"""The processes of one machine: what each is made of, and how they live and end together.

`serve.py` and `work.py` are the parents, `api.py`, `worker.py` and `housekeeper.py` their children,
`stores.py` and `orders.py` what all are given.
"""
