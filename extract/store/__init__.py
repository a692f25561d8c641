"""The feature store: a directory of immutable parts and a log that makes them true."""
