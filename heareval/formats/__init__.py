"""What the rooms exchange on disk: every key, file name and shape is read, checked and written here only."""
