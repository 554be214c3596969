"""The processes of one machine: what each is made of, and how they live and end together.

`serve.py` is the parent, `api.py` and `worker.py` are its children, `stores.py` and `orders.py`
what both are given.
"""
