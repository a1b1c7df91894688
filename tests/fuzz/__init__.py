"""Random modules through the compiler: a generator, what each is compared with, and how a find becomes a test.

`make fuzz SECONDS=1200` runs it, `python -m tests.fuzz --graph SEED` tries one graph again; docs/fuzzing.md says how it works.
"""
