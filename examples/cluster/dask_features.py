"""Features for a Dask data frame of paths; run as ``python dask_features.py STORE TABLE.csv OUT``.

The graph of the store computes them; they are columns of lists in Parquet, beside the columns of the table.
"""

from __future__ import annotations

import sys

import dask.dataframe as dd
import topwork


def main(store: str, table: str, out: str) -> None:
    """Compute the features of the items in the column ``path`` of a table."""
    items = dd.read_csv(table).repartition(npartitions=4)
    compute = topwork.FrameFunction(store)
    features = items.map_partitions(compute, meta=compute(items._meta))
    features.to_parquet(out, schema=None)  # Dask would infer that of lists from an empty frame
    print(dd.read_parquet(out)["status"].value_counts().compute().to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
