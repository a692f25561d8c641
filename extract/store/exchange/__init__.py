"""Exchange with other tools: their features into a store, and the rows of a store into their files."""
