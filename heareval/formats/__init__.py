"""What the rooms exchange on disk: every JSON key, file name and shape is read, checked and written here."""
