"""A second witness: who passes, which login lives and what a sign-in ends in, written from the contract and the decisions alone.

For: tests that ask the program and this account the same questions. The account is `policy.py`, `session.py`, `signin.py` and `headers.py`, at most
600 lines in all, plain and slow; it imports nothing of the program (test_policy.py reads its imports). Everything else in this folder puts the
questions: `draws.py` makes them up, `triples.py` asks a million, `house.py` and `process.py` run the program for test_machine.py.
"""
