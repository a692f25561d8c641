"""``topwork:tiny``, the backbone that travels with the package."""
