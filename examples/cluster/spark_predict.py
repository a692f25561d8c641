"""Predictions for a Spark data frame of paths; run as ``python spark_predict.py BUNDLE FOLDER OUT``.

Every row of the result is a row of the frame: an image that cannot be read has the status "failed", and the reason.
"""

from __future__ import annotations

import sys
from pathlib import Path

import topwork
from pyspark.sql import SparkSession


def main(bundle: str, folder: str, out: str) -> None:
    """Predict the images in a folder that all executors see, and write a folder of Parquet files."""
    spark = SparkSession.builder.appName("topwork").getOrCreate()
    paths = sorted(str(path.resolve()) for path in Path(folder).rglob("*") if path.suffix in (".jpg", ".png"))
    photos = spark.createDataFrame([(path,) for path in paths], "path string").repartition(8)
    predict = topwork.FrameFunction(bundle, cores=1)  # Spark runs a process on each core
    photos.mapInPandas(predict, predict.spark_schema(photos.schema)).write.mode("overwrite").parquet(out)
    spark.read.parquet(out).groupBy("label", "status").count().orderBy("label", "status").show()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
