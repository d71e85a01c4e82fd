"""Benchmarks: times of several implementations, measured in one run. They are not part of the tests."""
