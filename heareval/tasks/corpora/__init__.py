"""One module per corpus; `registry.all_tasks` finds every TASK and TASKS in this package."""
