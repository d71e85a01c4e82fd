"""Pure functions from targets and predictions to numbers, and METRICS, their table."""
