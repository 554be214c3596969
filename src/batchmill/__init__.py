"""Batchmill: Mistral's and OpenAI's batch APIs on your own machine, in front of any engine."""

__version__ = "0.1.0"
