"""Small sources in common layouts, each with the expected outcome of its import."""
