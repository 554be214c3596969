"""Webhooks on the wire: which addresses may be called, signatures, and one POST.

When a delivery is tried and what follows is decided in `core/deliver.py`.
"""
