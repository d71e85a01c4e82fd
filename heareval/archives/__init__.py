"""Archives fetched, checked and unpacked: below the rooms, which share it."""
