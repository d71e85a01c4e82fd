"""THE BOARD: cards of submissions and rows that were published -> standings, tables, a static site."""
