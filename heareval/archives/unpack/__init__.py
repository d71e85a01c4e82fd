"""Archives of every kind unpacked into a folder, never outside of it."""
