"""Small sources in the layouts that people use, each with the outcome that its owner would expect."""
