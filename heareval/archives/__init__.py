"""Fetch, check and unpack archives; shared by all rooms."""
