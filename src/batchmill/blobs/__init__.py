"""Stores of immutable objects: the `Blobs` port on a local directory."""
