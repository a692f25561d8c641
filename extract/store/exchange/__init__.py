"""Features from other tools into a store, and from a store to other tools."""
