"""What a run left on disk, as numbers, tables and one HTML page. Nothing here trains or uses JAX."""
