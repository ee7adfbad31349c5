"""Stages put in order: classifying, enrolling, reindexing, and what each gallery knows now."""
