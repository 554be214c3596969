"""`python -m batchmill` is the command line."""

from batchmill.cli import main

main()
