"""``python -m topwork``."""

from .pipelines.cli.main import main

main()
