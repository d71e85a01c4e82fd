"""A task of one's own, declared by a TOML file in place of a module."""
