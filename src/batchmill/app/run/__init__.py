"""`batchmill run`: a job without a server, in one process over a ledger beside the output.

wanted.py      what was asked, and what of it must not change between runs
statedir.py    the directory that holds the ledger and the blobs meanwhile
intake.py      from the input to a blob                     (`sources.py` reads it)
mill.py        the engines and the worker, for as long as the job takes
conduct.py     from the first step to the last
results.py     the result lines of the ended job            (`targets.py` writes them)
"""
