"""One module per corpus; a task is found by being here."""
