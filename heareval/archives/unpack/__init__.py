"""Unpack archives of every kind that corpora come in; nothing is ever written outside the target folder."""
