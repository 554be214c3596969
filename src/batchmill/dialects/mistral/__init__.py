"""Mistral's Batch Jobs API."""
