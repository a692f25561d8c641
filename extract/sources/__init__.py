"""Where items come from: folders, tables, archives, arrays, sequences, URLs."""
