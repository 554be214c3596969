"""Other systems that do the same, as their makers ship them, each in an environment of its own
under `.cache/bench`."""
