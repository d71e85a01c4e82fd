"""Adapters to published audio encoders: the HEAR API around models of other libraries.

They run in the submission's environment: Python 3.8 or later, numpy, torch, and the library of the model.
"""
