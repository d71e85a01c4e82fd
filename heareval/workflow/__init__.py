"""The corridor: what depends on what. Thin Luigi steps that call the rooms' plain functions.

A step's output is a folder whose name carries its fingerprint, or a published folder or file beside a
manifest that tells the fingerprint; `complete()` looks at nothing else.
"""
