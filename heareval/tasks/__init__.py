"""Room 1: corpora become task folders and tarballs."""
