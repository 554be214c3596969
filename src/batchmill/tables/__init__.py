"""Tables as input and output: rows become requests, and answers come back beside their rows.

rows.py        which formats there are, and reading any of them row by row
delimited.py jsonrows.py parquet.py    one family of formats each: how it is read and written
requests.py    the request that is made of a row, for each endpoint
answers.py     the answer in a result line, and what is wrong with it
result.py      the columns that an answer adds to its row
"""
