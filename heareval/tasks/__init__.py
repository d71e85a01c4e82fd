"""Room 1: corpora to task folders and tarballs."""
