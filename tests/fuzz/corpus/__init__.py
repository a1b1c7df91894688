"""Modules that once were compiled wrongly: `INPUT` and `Model`; test_corpus.py tries each again."""
