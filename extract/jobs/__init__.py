"""Jobs: the items of a source into a store, and the forecast of such a job."""
