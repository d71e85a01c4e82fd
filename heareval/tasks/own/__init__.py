"""Tasks that users declare in a TOML file, without writing Python."""
